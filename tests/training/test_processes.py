"""Pools of independent runs: failures, workers that die, and positions of trainings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from concordant.errors import ConcordantError
from concordant.training.config import Variant, make_config
from concordant.training.processes import Job, default_jobs, run_all
from concordant.training.progress import reporter

pytestmark = pytest.mark.process

CONFIG = make_config("digits")


def jobs(count):
    return [Job(CONFIG, Variant("none", False), seed, Path(), None) for seed in range(count)]


def report(job):
    reporter(job.folder, job.name)(3, 4000)
    if job.seed == 1:
        raise ConcordantError("no luck")
    return {"seed": job.seed, "threads": torch.get_num_threads()}


def die(job):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failed_job_leaves_the_others_alone(processes):
    threads = torch.get_num_threads()
    done, reached = {}, []

    def enter(job, entry):
        assert f"none, seed {job.seed}: step 3 of 4,000" in [one.line for one in reached]  # before its run is done
        done[job.seed] = entry

    failures = run_all(jobs(3), report, processes=processes, done=enter, reached=reached.append)
    assert sorted(one.name for one in reached) == ["none, seed 0", "none, seed 1", "none, seed 2"]
    assert [(job.seed, text) for job, text in failures] == [(1, "none, seed 1: no luck")]
    assert done == {0: {"seed": 0, "threads": 1}, 2: {"seed": 2, "threads": 1}}
    assert torch.get_num_threads() == threads


def test_a_dead_worker_is_said():
    with pytest.raises(ConcordantError, match=r"a worker process died .* give the same command again"):
        run_all(jobs(2), die, processes=2, done=lambda job, entry: None)


SLEEPER = """
import os, pathlib, sys, time
from concordant.training.config import Variant, make_config
from concordant.training.processes import Job, run_all

def sleep(job):
    pathlib.Path(f"worker-{job.seed}").write_text(str(os.getpid()))
    time.sleep(120)

if __name__ == "__main__":
    config = make_config("digits")
    jobs = [Job(config, Variant("none", False), seed, pathlib.Path(), None) for seed in range(2)]
    run_all(jobs, sleep, processes=2, done=lambda job, entry: None)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    parent = subprocess.Popen([sys.executable, "sleeper.py"], cwd=tmp_path, env=environment)
    try:
        assert eventually(lambda: len([path for path in tmp_path.glob("worker-*") if path.read_text()]) == 2)
    finally:
        parent.kill()
        parent.wait()
    workers = [int(path.read_text()) for path in tmp_path.glob("worker-*")]
    assert eventually(lambda: not any(alive(worker) for worker in workers))


def eventually(condition, seconds=100):
    for _ in range(seconds * 10):
        if condition():
            return True
        time.sleep(0.1)
    return False


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # a zombie that nobody has collected yet is not alive
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_nothing_to_do_is_done():
    assert run_all([], report, processes=2, done=lambda job, entry: pytest.fail("called")) == []


def test_as_many_jobs_as_cores():
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)
