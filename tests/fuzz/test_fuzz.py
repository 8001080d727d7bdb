"""Files and documents with random changes are read, or refused with one sentence; nothing crashes, hangs or swells."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

for needed in ("datasets", "h5py", "yaml", "scipy", "av", "soundfile", "PIL"):
    pytest.importorskip(needed)


def run_cases(tmp_path, count, seed, *options):
    """Run cases in a process of their own, which a crash ends; return the summary."""
    here = Path(__file__).parent
    done = subprocess.run(
        [
            sys.executable,
            here / "cases.py",
            "--count",
            str(count),
            "--seed",
            str(seed),
            "--now",
            tmp_path / "now",
            *options,
        ],
        env={"PYTHONPATH": str(here.parents[1] / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), f"{(tmp_path / 'now').read_text()} killed the process: {done.stderr[-2000:]}"
    *wrong, summary = map(json.loads, done.stdout.splitlines())
    assert wrong == []
    assert summary["peak_bytes"] < 2 << 30
    return summary


def test_some_mutated_files_are_read_or_refused(tmp_path):
    targets = "pickle,npz,npy,csv,hdf5,mat,store,lists,parquet,media,weights,grid,documents"
    found = run_cases(tmp_path, 195, 20260101, "--targets", targets)
    assert found["refused"] > 40
    assert found["read"] > 40


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_mutated_files_are_read_or_refused(tmp_path, seed):
    run_cases(tmp_path, 3900, seed)
