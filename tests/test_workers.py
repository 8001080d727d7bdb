"""Worker processes: what is interrupted is not waited for, what is dropped does not run."""

import os
import subprocess
import sys
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


ABRUPT = """
import os
from concordant.workers import Workers

if __name__ == "__main__":
    with Workers(1) as pool:
        pool.submit(abs, -1).result()
        os._exit(3)
"""


@pytest.mark.process
def test_an_abrupt_end_prints_no_warning_of_what_is_cleaned_up(tmp_path):
    script = tmp_path / "abrupt.py"
    script.write_text(ABRUPT)
    # The end of standard error, which the process that cleans up shares, is waited for.
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.process
def test_work_comes_back_from_other_processes(tmp_path):
    with Workers(2) as pool:
        assert pool.submit(slow, tmp_path / "a", 0).result() != os.getpid()
