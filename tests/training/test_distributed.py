"""Runs that several processes train together, against runs of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from concordant.errors import ConcordantError, UsageError
from concordant.study.experiment import study
from concordant.training.checkpoint import Checkpoint
from concordant.training.config import Variant, make_config
from concordant.training.devices import Devices
from concordant.training.distributed import check_distributed, run_distributed
from concordant.training.processes import Job

pytestmark = pytest.mark.process

HERE = Path(__file__).parent
CONFIG = make_config("digits", calibrators=("context",), seeds=1, recipe={"steps": 8, "width": 8, "dropout": 0.0})


@pytest.fixture(scope="module")
def shared():
    """The module of cases, importable by processes that are started from here."""
    sys.path.insert(0, str(HERE))
    try:
        import shared_training

        yield shared_training
    finally:
        sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def together(shared, tmp_path_factory):
    """The folder of what two processes of torchrun made of the cases, started once for all tests."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.raises(shared.StoppedError):
        shared.run_case(
            "context", checkpoint=Checkpoint(folder / "one", shared.ABOUT, 3), progress=shared.stop_after(4)
        )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(HERE / "shared_training.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def alone(shared):
    """The cases trained in this process, each when it is first asked for."""
    known = {}

    def run(name):
        if name not in known:
            known[name] = shared.result_of(shared.run_case(name))
        return known[name]

    return run


def read(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True)


def assert_same(found, expected):
    """Compare weights and losses; the biases of attention's keys change nothing, so only rounding moves them."""
    for name, value in expected["state"].items():
        other = found["state"][name]
        if name.endswith("in_proj_bias"):
            third = len(value) // 3
            value, other = (torch.cat([x[:third], x[2 * third :]]) for x in (value, other))
        torch.testing.assert_close(other, value, rtol=1e-5, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")
    assert found["best_step"] == expected["best_step"]
    for mine, theirs in zip(found["history"], expected["history"], strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert mine["validation"] == pytest.approx(theirs["validation"], abs=1e-6)  # counts, joined exactly


CASES = (
    "context",
    "uncertainty",
    "evidential",
    "clean",
    "real",
    "ogm-ge",
    "gradient-blending",
    "clean in parts",
    "context in parts",
)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_does(together, alone, name):
    assert_same(read(together, name), alone(name))


@pytest.mark.parametrize("name", ["context", "evidential", "context in parts"])
def test_so_they_do_with_the_model_in_pieces(together, alone, name):
    assert_same(read(together, f"sharded {name}"), alone(name))


def test_parts_of_a_batch_give_its_gradients_where_nothing_looks_at_the_whole(alone):
    assert_same(alone("clean in parts"), alone("clean"))
    gap = alone("context in parts")["history"][-1]["loss"] - alone("context")["history"][-1]["loss"]
    assert abs(gap) > 1e-4


@pytest.mark.parametrize("name", ["resumed", "sharded resumed"])
def test_two_processes_go_on_where_one_was_stopped(together, alone, name):
    assert_same(read(together, name), alone("context"))


@pytest.mark.parametrize("name", ["two", "pieces"])
def test_one_process_goes_on_where_two_were_stopped(shared, together, alone, name):
    found = shared.run_case("context", checkpoint=Checkpoint(together / name, shared.ABOUT))
    assert_same(shared.result_of(found), alone("context"))


def test_processes_that_look_at_their_own_rows_alone_keep_one_model(together, alone):
    local = read(together, "local")
    assert local["apart"] == 0
    weight = "calibrator.heads.audio.reliability.weight"
    assert not torch.allclose(local["state"][weight], alone("context")["state"][weight], atol=1e-4)


def test_mixed_precision_is_near(together, alone):
    found, expected = read(together, "mixed")["history"][-1], alone("clean")["history"][-1]
    assert 1e-7 < abs(found["loss"] - expected["loss"]) < 0.05


def test_what_processes_tell_each_other(together):
    told = read(together, "told")
    rows = torch.tensor([[0.0, 1], [2, 3], [4, 5], [10, 11], [12, 13]])
    assert torch.equal(told["asked"][0], rows)
    assert told["asked"][1].tolist() == [False, True, True, True, True]
    assert torch.equal(told["copies"], torch.cat([rows, -rows]))
    assert torch.equal(told["own"], rows[:3])
    assert told["own gradient"][:, 0].tolist() == [0, 1, 2]
    assert told["summed gradient"][:, 0].tolist() == [0, 2, 4]
    assert told["total"] == pytest.approx([1.2, 2])
    assert told["first"].tolist() == [4, 4]
    assert told["copied"] is None


def test_all_processes_raise_the_same_errors(together):
    told = read(together, "told")
    assert "features hold NaN or infinity in modality (instances): 'pose' (1 of 13)" in told["broken"]
    assert told["small"] == "a batch of 1 instances cannot be split over 2 processes and 1 parts; use fewer"
    assert told["elsewhere"].startswith("not every process sees the same checkpoint; put --out on storage")
    assert told["every error"][0] == told["every error"][1]


def test_under_torchrun_the_first_process_does_all_the_writing(together):
    first, second = (json.loads((together / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first[0].endswith("is not empty and holds no experiment; name another folder with --out")
    assert "runs" in first[1]
    assert second == [{}, []]
    assert len(json.loads((together / "study" / "results.json").read_text())["runs"]) == 1


def job(name, seed=0):
    return Job(CONFIG, Variant(name, True), seed, Path(f"{name}-{seed}"), None)


def test_started_processes_do_all_jobs_and_say_which_failed(shared):
    done = []
    jobs = [job("works"), job("fails"), job("works", 1)]
    failures = run_distributed(
        jobs, shared.work_of, Devices(devices=2, accelerator="cpu"), done=lambda *one: done.append(one)
    )
    assert [(one.seed, entry) for one, entry in done] == [(s, {"processes": 2.0, "threads": 1}) for s in (0, 1)]
    assert [(one.variant.calibrator, why) for one, why in failures] == [("fails", "fails, seed 0: it did")]
    assert run_distributed([], shared.work_of, Devices(devices=2, accelerator="cpu"), done=print) == []


def test_a_process_that_dies_ends_them_all(shared):
    with pytest.raises(
        ConcordantError, match=r"a process that trained died \(out of memory\?\); give the same command"
    ):
        run_distributed([job("dies")], shared.work_of, Devices(devices=2, accelerator="cpu"), done=print)


def test_a_study_on_two_devices_is_the_study_on_one(tmp_path):
    config = make_config(
        "digits", calibrators=("context",), seeds=1, recipe={"steps": 8, "width": 8, "dropout": 0.0, "batch": 33}
    )
    one = study(config, tmp_path / "one", jobs=1, baselines=False)["runs"][0]
    lines, steps = [], []
    devices = Devices(devices=2, accelerator="cpu")
    where = {"devices": devices, "checkpoint_every": 3, "baselines": False}
    where |= {"progress": lambda *line: lines.append(line), "within": lambda *line: steps.append(line)}
    two = study(config, tmp_path / "two", **where)["runs"][0]
    assert two["clean"]["accuracy"] == pytest.approx(one["clean"]["accuracy"], abs=0.01)
    assert two["devices"] == {
        "devices": 2,
        "strategy": "auto",
        "precision": "32-true",
        "accumulate": 1,
        "accelerator": "cpu",
        "across": "gather",
    }
    assert 0 <= two["loading_share"] < 1
    folder = tmp_path / "two" / "runs" / "context" / "seed-0"
    evaluations = [json.loads((tmp_path / w / "runs/context/seed-0/history.json").read_text()) for w in ("one", "two")]
    for mine, theirs in zip(*(e["evaluations"] for e in evaluations), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    assert not (folder / "checkpoint.pt").exists()
    assert lines == [(0, 1, ""), (1, 1, "context, seed 0")]
    assert steps[0] == (1 / 8, "context, seed 0: step 1 of 8")
    assert "of it waiting for data" in (tmp_path / "two" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("devices", "options", "message"),
    [
        (Devices(devices=2), {"jobs": 3}, "several devices take one run after another; leave --jobs out"),
        (Devices(accumulate=2), {"dynamics": 5}, "--dynamics observes one process that takes each batch whole"),
        (Devices(), {"dynamics": 5, "checkpoint_every": 2}, "what --dynamics observes is in no checkpoint"),
        (Devices(), {"checkpoint_every": 0}, "checkpoint_every must be 1 or more, the steps between checkpoints"),
        (Devices(devices=40, accumulate=2, accelerator="cpu"), {}, "a batch of 64 instances cannot be split over 40"),
    ],
)
def test_what_does_not_go_together_is_refused(devices, options, message):
    options = {"jobs": None, "dynamics": None, "checkpoint_every": None, **options}
    with pytest.raises(UsageError, match=message):
        check_distributed(devices, [CONFIG], **options)


def test_methods_that_look_at_gradients_are_refused_in_pieces():
    config = make_config("digits", method="ogm-ge")
    with pytest.raises(UsageError, match="--method ogm-ge looks at what fsdp keeps in pieces; use --strategy ddp"):
        check_distributed(Devices(devices=2, strategy="fsdp", accelerator="cpu"), [config], None, None, None)
