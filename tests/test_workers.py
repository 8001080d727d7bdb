"""Worker processes: what is interrupted is not waited for, what is dropped does not run."""

import os
import time

import pytest

from concordant.workers import Workers


def slow(path, seconds):
    path.touch()
    time.sleep(seconds)
    path.unlink()
    return os.getpid()


@pytest.mark.process
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interruption_ends_running_work_and_an_error_waits_for_it(error, tmp_path):
    began = tmp_path / "began"
    with pytest.raises(error), Workers(1) as pool:  # noqa: PT012
        pool.submit(slow, began, 600 if error is not ValueError else 1)
        while not began.exists():
            time.sleep(0.01)
        raise error
    assert began.exists() == (error is not ValueError)


@pytest.mark.process
def test_work_comes_back_from_other_processes(tmp_path):
    with Workers(2) as pool:
        assert pool.submit(slow, tmp_path / "a", 0).result() != os.getpid()
