import re

import pytest
import torch

from concordant import speed, timing
from concordant.errors import UsageError
from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS
from concordant.speed import (
    ALIGNED,
    BY_FUSION,
    CLEAN,
    NEAREST,
    SETTINGS,
    UNALIGNED,
    VECTORS,
    actions_of,
    batch_of,
    example_split,
    fitting,
    measure,
)
from concordant.training.config import Recipe


def test_every_fusion_has_inputs_of_its_kind():
    assert set(BY_FUSION) == {entry.setting for entry in (FUSIONS[name] for name in FUSIONS)}
    assert {setting.layout for setting in SETTINGS.values()} == {"bd", "btd", "bchw"}


def test_inputs_have_the_shapes_and_masks_of_their_setting():
    part = example_split(ALIGNED, instances=9)
    assert {name: x.shape for name, x in part.inputs.items()} == {
        "text": (9, 50, 300),
        "audio": (9, 50, 5),
        "vision": (9, 50, 20),
    }
    share = {name: mask.mean() for name, mask in part.masks.items()}
    assert all(0.6 < value < 0.9 for value in share.values())
    assert not example_split(VECTORS, instances=3).masks


def test_only_late_fusions_are_timed_with_calibrators_that_need_one():
    late = {name for name in CALIBRATORS if CALIBRATORS[name].late}
    assert late
    assert late <= set(fitting("lf-dnn"))
    assert not late & set(fitting("tfn"))
    assert fitting("tfn")[0] == "none"


@pytest.mark.parametrize("phase", ["train", "inference"])
def test_actions_run_the_named_models_in_the_named_mode(phase, monkeypatch):
    seen = []
    forward = speed.MultimodalModel.forward

    def watched(self, *given, **options):
        out = forward(self, *given, **options)
        seen.append((type(self.calibrator).__name__, self.training, len(out.logits), out.logits.requires_grad))
        return out

    monkeypatch.setattr(speed.MultimodalModel, "forward", watched)
    actions = actions_of(VECTORS, "lf-dnn", ["none", "context"], phase)
    for action in actions.values():
        action()
    if phase == "train":
        assert list(actions) == ["none", "context", CLEAN]
        rows = 2 * VECTORS.batch
        assert seen == [
            ("NoCalibrator", True, rows, True),
            ("ContextualCalibrator", True, rows, True),
            ("NoCalibrator", True, VECTORS.batch, True),
        ]
    else:
        assert seen == [
            ("NoCalibrator", False, VECTORS.batch, False),
            ("ContextualCalibrator", False, VECTORS.batch, False),
        ]


def test_training_steps_change_the_weights():
    model = speed.models_of(VECTORS, "lf-dnn", ["context"])["context"]
    before = [weight.clone() for weight in model.calibrator.parameters()]
    speed.training_step(model, Recipe(batch=64), perturbed=True)(batch_of(VECTORS))
    assert not any(torch.equal(one, two) for one, two in zip(before, model.calibrator.parameters(), strict=True))


@pytest.mark.parametrize("phase", ["train", "inference"])
def test_ratios_are_over_the_twin_without_a_calibrator(phase):
    state = torch.get_rng_state()
    found = measure(VECTORS, "lf-dnn", calibrators=["joint", "context"], phase=phase, repetitions=2, seconds=0.0)
    assert torch.equal(torch.get_rng_state(), state)
    by_name = {one["calibrator"]: one for one in found}
    assert list(by_name) == ["none", "joint", "context", *([CLEAN] if phase == "train" else [])]
    assert by_name["none"]["ratio"] == 1
    record = by_name["context"]
    assert {key: record[key] for key in ("setting", "fusion", "preset", "calibrator", "phase")} == {
        "setting": "vectors",
        "fusion": "lf-dnn",
        "preset": "small",
        "calibrator": "context",
        "phase": phase,
    }
    assert record["ratio_low"] <= record["ratio"] <= record["ratio_high"]
    assert record["milliseconds"] > 0


def test_every_fusion_is_measured_in_both_presets_but_the_largest():
    whole = speed._plan(False, "cpu")
    large = {(fusion, "medium") for fusion in ("mbt", "perceiver")}
    large |= {(name, "medium") for name in FUSIONS if FUSIONS[name].setting == "convolutional"}
    pairs = {(fusion, preset) for fusion, _, preset, _ in whole}
    assert pairs == {(fusion, preset) for fusion in FUSIONS for preset in ("small", "medium")} - large
    assert ("mult", UNALIGNED, "small", NEAREST) in whole
    everyone = next(names for fusion, _, preset, names in whole if (fusion, preset) == ("lf-dnn", "small"))
    assert {"none", "self", "joint", "gmu", "aecf", "evidential", "context"} <= set(everyone)
    (first, second) = speed.too_large()
    assert first == "overhead, mbt, medium (a model of 255 million parameters)"
    assert second.startswith("overhead, perceiver, medium")
    assert {fusion for fusion, *_ in speed._plan(True, "cpu")} == {"lf-dnn", "mult", "concat"}
    assert len(speed._plan(False, "cuda")) == len(FUSIONS)


def test_an_unavailable_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UsageError, match=re.escape("--device cuda: PyTorch sees no accelerator here; use cpu")):
        speed.measure_all(device="cuda")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    with pytest.raises(UsageError, match=re.escape("--device cuda: PyTorch sees mps here; use cpu")):
        speed.check_device("cuda")
    speed.check_device("mps")


def test_an_accelerator_is_timed_by_a_clock_that_waits(monkeypatch):
    clocks = []
    monkeypatch.setattr(speed, "actions_of", lambda *_, **how: {"none": lambda: None})
    monkeypatch.setattr(timing, "device_clock", lambda: clocks.append(1) or float(len(clocks)))
    measure(VECTORS, "lf-dnn", calibrators=[], device="cuda", seconds=1.0)
    assert clocks
