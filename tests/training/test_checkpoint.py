"""An interrupted run is resumed bit for bit; files of other runs and broken ones are refused."""

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from concordant.benchmarks.catalogue import prepare
from concordant.errors import DataError, UsageError
from concordant.study.experiment import study
from concordant.training.checkpoint import Checkpoint
from concordant.training.config import Variant, make_config
from concordant.training.train import train

ABOUT = {"label": "x", "seed": "0"}
SOURCE = Path(__file__).parents[2] / "src"


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def stop_after(step):
    def progress(now, total):
        if now >= step:
            raise StoppedError

    return progress


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


@pytest.mark.parametrize(
    ("calibrator", "method"),
    [("context", "none"), ("modality-dropout", "none"), ("none", "ogm-ge"), ("none", "gradient-blending")],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(task, tmp_path, calibrator, method):
    recipe = {"steps": 24, "width": 8, "evaluations": 4, "batch": 60}
    config = make_config("digits", calibrators=(calibrator,), method=method, recipe=recipe)
    run = (task, config, Variant(calibrator, calibrator != "none"), 0)
    whole = train(*run)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(StoppedError):
        train(*run, checkpoint=Checkpoint(path, ABOUT, 7), progress=stop_after(18))
    assert torch.load(path, weights_only=True)["step"] == 14
    steps = []
    again = train(*run, checkpoint=Checkpoint(path, ABOUT), progress=lambda step, total: steps.append(step))
    assert steps == list(range(15, 25))
    assert again.history == whole.history
    assert again.best_step == whole.best_step
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in again.model.state_dict().items())
    assert again.seconds > torch.load(path, weights_only=True)["seconds"] > 0


def test_a_run_that_had_stopped_early_trains_no_further(task, tmp_path, monkeypatch):
    scores = iter([0.9, 0.1, 0.1])
    monkeypatch.setattr("concordant.training.train.validation_score", lambda *given, **named: (next(scores), 0.0))
    config = make_config("digits", recipe={"steps": 20, "width": 4, "evaluations": 4, "patience": 2})
    path = tmp_path / "checkpoint.pt"
    whole = train(task, config, Variant("none", False), 0, checkpoint=Checkpoint(path, ABOUT, 5))
    again = train(task, config, Variant("none", False), 0, checkpoint=Checkpoint(path, ABOUT))
    assert [entry["step"] for entry in again.history] == [5, 10, 15]
    assert whole.history == again.history


def test_a_killed_command_goes_on_in_the_middle_of_a_run(tmp_path):
    words = "run digits --calibrators none --seeds 1 --steps 400 --modalities left --no-alone --checkpoint-every 40"
    command = [sys.executable, "-m", "concordant", *words.split(), "--out", str(tmp_path / "killed")]
    folder = tmp_path / "killed" / "runs" / "none" / "seed-0"
    environment = {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as started:
        until = time.monotonic() + 120
        while not (folder / "checkpoint.pt").exists() and started.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        started.send_signal(signal.SIGKILL)
    known = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert 0 < known["step"] < 400
    config = make_config("digits", calibrators=("none",), seeds=1, modalities=("left",), recipe={"steps": 400})
    found = study(config, tmp_path / "killed", jobs=1, baselines=False)["runs"]
    whole = study(config, tmp_path / "whole", jobs=1, baselines=False)["runs"]
    for mine, theirs in zip(found, whole, strict=True):
        assert mine["clean"] == theirs["clean"]
    assert not (folder / "checkpoint.pt").exists()
    mine, theirs = (load_file(tmp_path / w / "runs/none/seed-0/weights.safetensors") for w in ("killed", "whole"))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_distance_must_be_positive(tmp_path):
    with pytest.raises(UsageError, match="checkpoint_every must be 1 or more, the steps from one checkpoint"):
        Checkpoint(tmp_path / "c.pt", ABOUT, 0)


def test_files_that_are_not_the_run_s_are_refused(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint = Checkpoint(path, ABOUT, 5)
    assert checkpoint.read() is None
    assert [step for step in range(12) if checkpoint.due(step)] == [0, 5, 10]
    checkpoint.write({"step": 5})
    assert checkpoint.read() == {"schema": "concordant.checkpoint/1", "about": ABOUT, "step": 5}
    with pytest.raises(DataError, match=r"is the checkpoint of another run \(other: seed\); move it away to train"):
        Checkpoint(path, {**ABOUT, "seed": "1"}).read()
    with pytest.raises(DataError, match=r"is the checkpoint of another run \(other: label\); move it away to train"):
        Checkpoint(path, {"seed": "0"}).read()
    for other in (
        {"schema": "other"},
        {"schema": "concordant.checkpoint/1"},
        {"schema": "concordant.checkpoint/1", "about": ""},
    ):
        torch.save(other, path)
        with pytest.raises(DataError, match=r"must be a checkpoint of schema concordant.checkpoint/1; move it away"):
            checkpoint.read()
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"plain text"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"c.pt cannot be read as a checkpoint \(.*\); move it away"):
            checkpoint.read()
    checkpoint.write({"step": 5, "x": torch.full((64,), 1.5)})
    content = path.read_bytes()
    path.write_bytes(
        content.replace(torch.full((64,), 1.5).numpy().tobytes(), torch.full((64,), 1.25).numpy().tobytes())
    )
    with pytest.raises(DataError, match=r"c.pt is damaged, by the checksum of .*data/0; move it away"):
        checkpoint.read()
    checkpoint.remove()
    checkpoint.remove()
    assert not path.exists()


class _Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.pt"
    torch.save({"schema": _Evil()}, path)
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        Checkpoint(path, ABOUT).read()
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        Checkpoint(path, ABOUT).read()
    assert not (tmp_path / "touched").exists()


CONFIG = make_config("digits", recipe={"steps": 3, "width": 4, "evaluations": 2})


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """Return a checkpoint of the second of three steps, as it was read."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.pt"
    train(task, CONFIG, Variant("none", False), 0, checkpoint=Checkpoint(path, ABOUT, 2))
    return path


def resumed(task, whole, path, change):
    state = torch.load(whole, weights_only=True)
    change(state)
    torch.save(state, path)
    return train(task, CONFIG, Variant("none", False), 0, checkpoint=Checkpoint(path, ABOUT))


def without(key):
    return lambda state: state.pop(key)


def weights(**more):
    return lambda state: state["model"].update(more)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without("step"), "its step is None, not 1 or more"),
        (lambda state: state.update(step="two"), "its step is 'two', not 1 or more"),
        (lambda state: state.update(step=-5), "its step is -5, not 1 or more"),
        (without("model"), "KeyError: 'model'"),
        (lambda state: state.update(model=[]), "AttributeError: 'list' object has no attribute 'items'"),
        (without("chance"), "KeyError: 'chance'"),
        (weights(stray=torch.zeros(1)), "KeyError: 'stray'"),
        (weights(**{"fusion.head.weight": torch.zeros(1)}), "RuntimeError: .*size mismatch for fusion.head.weight: "),
        (
            lambda state: state["optimizer"].update(param_groups=[]),
            "TypeError: optimizer.param_groups has 0 entries",
        ),
        (lambda state: state.update(total="x"), "TypeError: total is str, not float"),
        (lambda state: state.update(history=torch.zeros(1)), "TypeError: history is Tensor, not list"),
        (lambda state: state.update(history=[1]), r"TypeError: history\[0\] is int, not dict"),
        (lambda state: state["history"][0].update(validation="x"), r"TypeError: history\[0\].validation is str, not f"),
        (lambda state: state["schedule"].update(last_epoch={}), "TypeError: schedule.last_epoch is dict, not int"),
        (
            lambda state: state["optimizer"]["param_groups"][0].update(lr="x"),
            r"TypeError: optimizer.param_groups\[0\].lr is str, not float",
        ),
        (lambda state: state["best"].update(best="x"), "TypeError: selector.best is str, not float"),
        (lambda state: state["best"].update(offer=1), "KeyError: .selector has .*'offer'"),
        (lambda state: state["best"]["state"].popitem(), "KeyError: .selector.state has "),
        (lambda state: state.update(draws=torch.zeros(3, dtype=torch.uint8)), "RuntimeError: Expected a CPUGenerator"),
    ],
)
def test_a_checkpoint_that_does_not_fit_the_run_is_refused(task, whole, tmp_path, change, why):
    path = tmp_path / "c.pt"
    with pytest.raises(DataError, match=rf"^{path} does not fit this run \({why}.*\); move it away to train the run"):
        resumed(task, whole, path, change)


def test_one_that_fits_goes_on(task, whole, tmp_path):
    found = resumed(task, whole, tmp_path / "c.pt", lambda state: state)
    assert [entry["step"] for entry in found.history] == [2, 3]
