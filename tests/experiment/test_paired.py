import os
import signal
from pathlib import Path

import pytest
import torch

from concord.errors import ConcordError
from concord.experiment.config import Variant, make_config
from concord.experiment.paired import Job, default_jobs, run_all

CONFIG = make_config("digits")


def jobs(count):
    return [Job(CONFIG, Variant("none", False), seed, Path(), None) for seed in range(count)]


def report(job):
    if job.seed == 1:
        raise ConcordError("no luck")
    return {"seed": job.seed, "threads": torch.get_num_threads()}


def die(job):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failed_job_leaves_the_others_alone(processes):
    threads = torch.get_num_threads()
    done = {}
    failures = run_all(jobs(3), report, processes=processes, done=lambda job, entry: done.update({job.seed: entry}))
    assert failures == ["none, seed 1: no luck"]
    assert done == {0: {"seed": 0, "threads": 1}, 2: {"seed": 2, "threads": 1}}
    assert torch.get_num_threads() == threads


def test_a_dead_worker_is_said():
    with pytest.raises(ConcordError, match=r"a worker process died .* give the same command again"):
        run_all(jobs(2), die, processes=2, done=lambda job, entry: None)


def test_nothing_to_do_is_done():
    assert run_all([], report, processes=2, done=lambda job, entry: pytest.fail("called")) == []


def test_as_many_jobs_as_cores():
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)
