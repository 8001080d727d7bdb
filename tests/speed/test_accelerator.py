import re

import pytest
import torch

from concordant.calibration import fused
from concordant.errors import UsageError
from concordant.fusion import FUSIONS
from concordant.speed import accelerator, bandwidth, measuring, overhead


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.mark.usefixtures("without")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match=re.escape("--device cuda: PyTorch sees no accelerator here; use cpu")):
        accelerator.check("cuda")
    with pytest.raises(UsageError, match="--device cuda"):
        measuring.measure_all(device="cuda")


def test_another_device_than_is_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    with pytest.raises(UsageError, match=re.escape("--device cuda: PyTorch sees mps here; use cpu")):
        accelerator.check("cuda")
    accelerator.check("mps")


def test_all_fusions_are_timed_in_both_phases_and_each_shape_with_kernels_and_as_a_graph(monkeypatch):
    monkeypatch.setattr(fused, "HAVE_TRITON", True)
    found = accelerator.sections("cuda", quick=False)
    assert len(found["overhead"]) == 2 * len(FUSIONS)
    assert [name for name in found["bandwidth_bound"] if name.startswith("(64, 50, 512)")] == [
        "(64, 50, 512)",
        "(64, 50, 512), compiled, reduce-overhead",
        "(64, 50, 512), kernels",
    ]
    assert list(found["kernels"]) == ["whole", "masked"]
    assert list(found["tiles"]) == ["pool"]
    assert next(iter(found["vectorised_seeds"])) == "cmu-mosi-utterance, lf-dnn"
    quick = accelerator.sections("cuda", quick=True)
    assert sum(map(len, quick.values())) < 10


def test_kernels_are_timed_only_where_there_are_any(monkeypatch):
    monkeypatch.setattr(fused, "HAVE_TRITON", True)
    assert accelerator.sections("mps", quick=False)["kernels"] == {}
    assert accelerator.sections("mps", quick=False)["tiles"] == {}
    monkeypatch.setattr(fused, "HAVE_TRITON", False)
    assert accelerator.sections("cuda", quick=False)["kernels"] == {}


def test_pieces_are_measured_on_the_device_by_a_clock_that_waits(monkeypatch):
    asked = []
    monkeypatch.setattr(overhead, "measure", lambda *_, **named: asked.append(named) or [])
    monkeypatch.setattr(bandwidth, "measure", lambda **named: asked.append(named) or _Record())
    for section in ("overhead", "bandwidth_bound"):
        for measure in accelerator.sections("cuda", quick=True)[section].values():
            measure()
    assert {one["device"] for one in asked} == {"cuda"}
    assert {one["clock"] for one in asked} == {accelerator.device_clock}


class _Record:
    def record(self):
        return {}


def test_the_whole_command_runs_where_the_device_is_the_cpu_by_another_name(monkeypatch):
    """The same calls as on a GPU, timed on the CPU: what they return is a document of the same schema."""
    monkeypatch.setattr(accelerator, "check", lambda _: None)
    monkeypatch.setattr(accelerator, "device_clock", __import__("time").perf_counter)
    monkeypatch.setattr(accelerator, "SHAPES", ((3, 5, 4),))
    found = measuring.measure_all(device="cpu:0", quick=True, only=["bandwidth_bound", "overhead"])
    assert found["device"] == "cpu:0"
    assert found["command"] == "concordant speed --device cpu:0 --quick --only bandwidth_bound,overhead"
    assert {r["device"] for r in found["bandwidth_bound"]} == {"cpu:0"}
    assert {r["calibrator"] for r in found["overhead"]} == {"none", "joint", "context", "none, clean"}
