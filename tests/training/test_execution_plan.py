"""The execution plan of an experiment, its printed lines, and the results of runs that share a pass."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from concordant.errors import ConcordantError, DataError, UsageError
from concordant.study import work as module
from concordant.study.experiment import study
from concordant.training import checkpoint, execution_plan
from concordant.training.checkpoint import Checkpoint
from concordant.training.config import make_config
from concordant.training.devices import Devices
from concordant.training.execution_plan import Pass, check_vectorise, plan
from concordant.training.processes import Job
from concordant.training.runs import prepare_of

RECIPE = {"steps": 8, "width": 4, "evaluations": 2, "batch": 16}


def config_of(fusion="lf-dnn", seeds=3, calibrators=("none", "context")):
    return make_config("digits", fusion=fusion, seeds=seeds, calibrators=calibrators, recipe=RECIPE)


def jobs_of(config, tmp_path):
    return [
        Job(config, variant, seed, tmp_path / variant.label / str(seed), None)
        for seed in range(config.seeds)
        for variant in config.variants
    ]


def prepared(job):
    return prepare_of(job.config, job.data, seed=job.seed)


def test_passes_come_first_and_are_as_many_as_processes(tmp_path):
    config = config_of(seeds=4, calibrators=("context",))
    jobs = jobs_of(config, tmp_path)
    units, lines = plan(jobs, prepared, vectorise="on", processes=1)
    assert [unit.name for unit in units] == ["context, seeds 0, 1, 2, 3"]
    assert lines == ["context: 4 seeds in one vectorised pass"]
    units, _ = plan(jobs, prepared, vectorise="on", processes=2)
    assert [unit.name for unit in units] == ["context, seeds 0, 1", "context, seeds 2, 3"]


def test_what_cannot_share_a_pass_is_planned_run_by_run(tmp_path):
    jobs = jobs_of(config_of("ef-lstm"), tmp_path)
    units, lines = plan(jobs, prepared, vectorise="auto", processes=1, prefix="row: ")
    assert units == jobs
    assert lines == ["row: none, none+perturbed, context: 3 seeds one after another: ef-lstm has recurrent layers"]
    with pytest.raises(
        UsageError, match=r"--vectorise on is impossible here \(none: ef-lstm has recurrent layers; none\+"
    ):
        plan(jobs, prepared, vectorise="on", processes=1)


def test_one_seed_needs_no_line(tmp_path):
    jobs = jobs_of(config_of(seeds=1), tmp_path)
    assert plan(jobs, prepared, vectorise="auto", processes=1) == (jobs, [])


def test_the_option_is_checked():
    check_vectorise("auto")
    with pytest.raises(UsageError, match="vectorise must be one of auto, on, off; found 'maybe'"):
        check_vectorise("maybe")


def test_a_vectorised_experiment_gives_the_results_of_single_runs(tmp_path):
    lines = []
    config = config_of(seeds=2, calibrators=("context",))
    found = study(config, tmp_path / "on", jobs=1, vectorise="on", say=lines.append, baselines=False)
    alone = study(config, tmp_path / "off", jobs=1, vectorise="off", baselines=False)
    assert lines == ["context: 2 seeds in one vectorised pass"]
    assert lines[0] in (tmp_path / "on" / "log.txt").read_text()
    for one, other in zip(found["runs"], alone["runs"], strict=True):
        assert one["vectorised"] == 2
        assert "vectorised" not in other
        assert one["best_step"] == other["best_step"]
        assert one["clean"] == pytest.approx(other["clean"], abs=0.02)
    folders = [tmp_path / "on" / "runs" / "context" / f"seed-{seed}" for seed in range(2)]
    names = {"weights.safetensors", "predictions.parquet", "history.json", "run.json"}
    assert all({path.name for path in folder.iterdir()} == names for folder in folders)
    times = {json.loads((folder / "run.json").read_text())["train_seconds"] for folder in folders}
    assert len(times) == 1  # each has its share of the pass


def test_few_seeds_are_trained_one_after_another(tmp_path):
    jobs = [replace(job, devices=Devices(accelerator="cpu")) for job in jobs_of(config_of(seeds=2), tmp_path)]
    units, lines = plan(jobs, prepared, vectorise="auto", processes=1)
    assert units == jobs
    assert lines == ["none, none+perturbed, context: 2 seeds one after another: on cpu a pass pays from 3 seeds on"]
    assert len(plan(jobs, prepared, vectorise="on", processes=1)[0]) == 3


def test_what_is_finished_changes_no_pass(tmp_path, monkeypatch):
    jobs = jobs_of(config_of(seeds=6), tmp_path)
    left = [job for job in jobs if job.variant.label == "context" and job.seed in (1, 5)]
    units, _ = plan(left, prepared, vectorise="auto", processes=6)
    assert [(unit.seeds, [job.seed for job in unit.jobs]) for unit in units] == [((0, 1, 2), [1]), ((3, 4, 5), [5])]
    units, _ = plan(jobs, prepared, vectorise="auto", processes=6)
    assert [unit.seeds for unit in units] == [(0, 1, 2), (3, 4, 5)] * 3
    monkeypatch.setitem(execution_plan.FEWEST, "cpu", 4)
    units, _ = plan(jobs, prepared, vectorise="auto", processes=6)
    assert [unit.seeds for unit in units] == [(0, 1, 2, 3, 4, 5)] * 3


def test_a_pass_with_a_checkpoint_is_resumed_with_the_seeds_it_had(tmp_path):
    jobs = jobs_of(config_of(seeds=4, calibrators=("context",)), tmp_path)
    Checkpoint(tmp_path / "context" / "pass-0.pt", {"seeds": "0,2"}).write({})
    units, lines = plan(jobs[1:], prepared, vectorise="on", processes=1)
    assert [(unit.seeds, [job.seed for job in unit.jobs]) for unit in units] == [((0, 2), [2]), ((0, 1, 2, 3), [1, 3])]
    assert lines == ["context: 4 seeds in one vectorised pass"]
    units, lines = plan(jobs[2:3], prepared, vectorise="auto", processes=1)
    assert [unit.seeds for unit in units] == [(0, 2)]
    assert lines == ["context: 4 seeds in one vectorised pass, resumed"]
    units, _ = plan(jobs, prepared, vectorise="off", processes=1)
    assert units == jobs
    Checkpoint(tmp_path / "context" / "pass-1.pt", {"seeds": "9" * 5000}).write({})
    with pytest.raises(DataError, match=r"pass-1\.pt must name the seeds of a pass"):
        plan(jobs, prepared, vectorise="on", processes=1)


@pytest.mark.process
@pytest.mark.parametrize("moment", [pytest.param("pass-0.pt", marks=pytest.mark.slow), "seed-0/run.json"])
def test_a_killed_pass_goes_on_to_the_same_numbers(tmp_path, whole_pass, moment):
    out = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(out), "5"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        until = time.monotonic() + 120
        while not (out / "runs/context" / moment).exists() and started.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        started.send_signal(signal.SIGKILL)
    folder = out / "runs" / "context"
    assert not (folder / "seed-2" / "run.json").exists()
    assert (folder / "pass-0.pt").exists()
    found = study(PASS, out, jobs=2, baselines=False)["runs"]  # with --jobs 2 a new command would make two passes
    for mine, theirs in zip(found, whole_pass[0], strict=True):
        assert {key: mine[key] for key in mine if "seconds" not in key} == {
            key: theirs[key] for key in theirs if "seconds" not in key
        }
    for seed in range(PASS.seeds):
        mine, theirs = (
            load_file(one / f"runs/context/seed-{seed}/weights.safetensors") for one in (out, whole_pass[1])
        )
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert not list(folder.glob("*.pt"))


SOURCE = Path(__file__).parents[2] / "src"
PASS = make_config("digits", seeds=6, calibrators=("context",), recipe={"steps": 40, "width": 8, "patience": 2})
SCRIPT = f"""
import sys
from pathlib import Path
from concordant.study.experiment import study
from concordant.training.config import Config
config = Config.model_validate_json({PASS.model_dump_json()!r})
study(config, Path(sys.argv[1]), jobs=1, checkpoint_every=int(sys.argv[2]), baselines=False)
"""


@pytest.fixture(scope="module")
def whole_pass(tmp_path_factory):
    """Return the runs of an uninterrupted pass, and their folder."""
    out = tmp_path_factory.mktemp("whole")
    return study(PASS, out, jobs=1, baselines=False)["runs"], out


def test_a_pass_is_checkpointed_by_the_clock_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    config = config_of(seeds=2, calibrators=("context",))
    written = []
    write = Checkpoint.write
    monkeypatch.setattr(Checkpoint, "write", lambda self, state: (written.append(self.path.name), write(self, state)))
    study(config, tmp_path / "x", jobs=1, vectorise="on", baselines=False)
    assert set(written) == {"pass-0.pt"}
    study(config, tmp_path / "y", jobs=1, vectorise="off", baselines=False)
    assert set(written) == {"pass-0.pt", "checkpoint.pt"}
    assert not list(tmp_path.rglob("*.pt"))


def test_a_seed_that_fails_leaves_the_others(tmp_path, monkeypatch):
    config = config_of(seeds=2, calibrators=("context",))
    jobs = jobs_of(config, tmp_path)

    def refuses(*args, **named):
        raise ConcordantError("no rule")

    monkeypatch.setattr("concordant.training.many_seeds.train_together", refuses)
    one = module.run_one
    monkeypatch.setattr(module, "run_one", lambda job: refuses() if job.seed == 1 else one(job))
    found = module.run_pass(Pass(tuple(jobs), (0, 1)))
    assert list(found["entries"]) == [0]
    assert found["failures"] == {1: "no rule"}
    assert found["notes"] == ["one after another, since no rule"]


def test_every_way_of_training_is_named_with_its_reason(tmp_path, monkeypatch):
    def line(config=None, task=None, vectorise="auto", **options):
        jobs = [replace(job, **options) for job in jobs_of(config or config_of(calibrators=("context",)), tmp_path)]
        units, (found,) = plan(jobs, prepared if task is None else lambda _: task, vectorise=vectorise, processes=1)
        assert (units == jobs) == ("one after another" in found)
        return found.removeprefix("context: 3 seeds ")

    assert line() == "in one vectorised pass"
    assert line(vectorise="off") == "one after another: --vectorise off"
    assert line(dynamics=2) == "one after another: training is observed (--dynamics)"
    own = "one after another: several devices, --precision or --accumulate are for single runs"
    assert line(checkpoint_every=2) == "in one vectorised pass"
    assert line(devices=Devices(precision="bf16-mixed")) == own
    elsewhere = "training is on mps, and random numbers are drawn seed by seed on cpu and cuda alone"
    monkeypatch.setattr(Devices, "kind", "mps")
    assert line() == f"one after another: {elsewhere}"
    monkeypatch.setattr(Devices, "kind", "cpu")
    task = prepared(jobs_of(config_of(), tmp_path)[0])
    on_disk = replace(task, train=object())
    assert line(task=on_disk) == "one after another: the data are not in memory"
    method = config_of(calibrators=("context",)).model_copy(update={"method": "ogm-ge"})
    assert line(method) == "one after another: the training method ogm-ge needs a loop of its own"
    monkeypatch.setitem(execution_plan.LARGEST, "cpu", 10)
    large = "batches are large enough by themselves (0.0 million multiplications in the largest encoder's first layer"
    assert line().startswith(f"one after another: {large}")
    assert line(vectorise="on") == "in one vectorised pass"
