"""Results of a sweep of 24 trials that loses workers and is interrupted: which exist in the end, and how often.

`python -m benchmarks.sweep_survival [--steps N] [--cpus N]` starts `concordant sweep` on the embedded digits (two
fusions, four variants, three seeds), kills a worker process at its work with SIGKILL, interrupts the command with
SIGINT half-way, gives it again, kills another worker, and counts. The same grid is then run without any of that, and
the predictions of both are compared. Printed as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks import put, run
from concordant.files import read_json

GRID = """
benchmarks: [digits]
fusions: [concat, sum]
calibrators: [none, self, context]
seeds: 3
recipe: {{steps: {steps}}}
"""
TRIALS = 24


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Return run -> modification time and inode of its file, which change when the file is replaced."""
    return {
        str(path.parent.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("run.json")
        if not path.parent.name.startswith(".")
    }


def wait(command: subprocess.Popen[str], seconds: float) -> None:
    """Wait for a moment; exit where the command has ended."""
    if command.poll() is not None:
        sys.exit(f"the sweep ended too early: {command.communicate()}")
    time.sleep(seconds)


def kill_worker(command: subprocess.Popen[str]) -> str:
    """Kill a worker of a command that is at a trial; return which trial. Ray gives a process the name of its task."""
    while True:
        wait(command, 0.01)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                name = path.read_bytes().replace(b"\0", b" ").decode().strip()
                if name.startswith("ray::digits/") and belongs(int(path.parent.name), command.pid):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return name.removeprefix("ray::")
            except OSError:
                continue


def belongs(process: int, command: int) -> bool:
    """Return whether one process is a descendant of another."""
    while process not in (0, 1, command):
        process = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return process == command


def predictions(folder: Path) -> list[Any]:
    """Return all predictions of a sweep."""
    paths = sorted(folder.glob("*/*/predictions.parquet"))
    return [pq.read_table(path, columns=["id", "prediction"]).to_pydict() for path in paths]


def counted(folder: Path) -> dict[str, Any]:
    """Return the number of results and of duplicates."""
    rows = []
    for results in map(read_json, folder.glob("*/*/results.json")):
        rows += [(results["fusion"], r["calibrator"], r["perturbed_training"], r["seed"]) for r in results["runs"]]
    folders = [path for path in folder.glob("*/*/runs/*/*") if path.is_dir()]
    return {
        "results": len(rows),
        "different": len(set(rows)),
        "twice": len(rows) - len(set(rows)),
        "folders_of_runs": len(folders),
        "half_made": sum(path.name.startswith(".") for path in folders),
    }


def main(steps: int = 60, cpus: int = 2) -> None:
    """Run, disturb, count and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disturbed, plain = folder / "disturbed", folder / "plain"
        (folder / "grid.yaml").write_text(GRID.format(steps=steps), encoding="utf-8")

        def start(out: Path) -> subprocess.Popen[str]:
            words = ["sweep", "grid.yaml", "--out", out.name, "--cpus", str(cpus), "--json", "-"]
            how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            # Scripts that a shell runs in the background inherit that Ctrl-C is ignored.
            how["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
            return subprocess.Popen([sys.executable, "-m", "concordant", *words], cwd=folder, **how)

        begun = time.perf_counter()
        first = start(disturbed)
        killed = [kill_worker(first)]
        while len(finished(disturbed)) < TRIALS // 2:
            wait(first, 0.05)
        first.send_signal(signal.SIGINT)
        first.communicate()
        before, stopped = finished(disturbed), read_json(disturbed / "sweep.json")
        second = start(disturbed)
        killed.append(kill_worker(second))
        printed, errors = second.communicate()
        if second.returncode:
            sys.exit(errors)
        ended, after = json.loads(printed), finished(disturbed)
        middle = time.perf_counter()
        undisturbed = start(plain)
        if undisturbed.communicate() and undisturbed.returncode:
            sys.exit("the undisturbed sweep failed")
        seconds = {"disturbed": round(middle - begun), "undisturbed": round(time.perf_counter() - middle)}
        words = [sys.executable, "-m", "concordant", "report", "disturbed", "--out", "page.html"]
        report = subprocess.run(words, cwd=folder, stdout=subprocess.DEVNULL, check=False)
        found = {
            "schema": "concordant.sweep-survival/1",
            "command": f"python -m benchmarks.sweep_survival --steps {steps} --cpus {cpus}",
            "grid": "digits, fusions concat and sum, calibrators none, self, context, seeds 0 to 2",
            "trials": TRIALS,
            "killed_workers": killed,
            "tried_again": stopped["retried"] + ended["retried"],
            "interrupted": {
                "exit_status": first.returncode,
                "state": stopped["state"],
                "finished": len(before),
                "kept_untouched": sum(after.get(run) == mark for run, mark in before.items()),
            },
            "end": {"state": ended["state"], "finished": ended["finished"], "failed": len(ended["failed"])},
            **counted(disturbed),
            "predictions_equal_to_undisturbed": predictions(disturbed) == predictions(plain),
            "report_exit_status": report.returncode,
            "seconds": seconds,
            "versions": {"ray": metadata.version("ray")},
        }
    put(found)


if __name__ == "__main__":
    run(main, __doc__)
