"""A sweep of 24 trials that loses workers and is interrupted: which results exist in the end, and how often.

`python -m benchmarks.sweep_survival [--steps N] [--cpus N]` starts `concordant sweep` on the embedded digits (two
fusions, four variants, three seeds), kills a worker process at its work with SIGKILL, interrupts the command with
SIGINT half-way, gives it again, kills another worker, and counts. The same grid is then run without any of that, and
the predictions of both are compared. Printed as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from concordant.training.provenance import hardware, versions

GRID = """
benchmarks: [digits]
fusions: [concat, sum]
calibrators: [none, self, context]
seeds: 3
recipe: {{steps: {steps}}}
"""
TRIALS = 24


def start(folder: Path, out: str, cpus: int) -> subprocess.Popen[str]:
    """Start the command."""
    words = [sys.executable, "-m", "concordant", "sweep", "grid.yaml", "--out", out, "--cpus", str(cpus), "--json", "-"]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(folder: Path) -> dict[str, list[int]]:
    """Return run -> modification time and inode of its file, which change when the file is replaced."""
    return {
        str(path.parent.relative_to(folder)): [path.stat().st_mtime_ns, path.stat().st_ino]
        for path in folder.rglob("run.json")
        if not path.parent.name.startswith(".")
    }


def belongs(process: int, command: int) -> bool:
    """Return whether one process is a descendant of another."""
    while process > 1:
        if process == command:
            return True
        process = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return False


def kill_worker(command: subprocess.Popen[str]) -> str:
    """Kill a worker of a command that is at a trial; return which trial. Ray gives a process the name of its task."""
    while True:
        if command.poll() is not None:
            sys.exit(f"the sweep ended too early: {command.communicate()}")
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                name = path.read_bytes().replace(b"\0", b" ").decode().strip()
                if name.startswith("ray::digits/") and belongs(int(path.parent.name), command.pid):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return name.removeprefix("ray::")
            except OSError:
                continue
        time.sleep(0.01)


def wait_for(folder: Path, count: int, command: subprocess.Popen[str]) -> None:
    """Wait until `count` trials are finished."""
    while len(finished(folder)) < count:
        if command.poll() is not None:
            sys.exit(f"the sweep ended too early: {command.communicate()}")
        time.sleep(0.05)


def predictions(folder: Path) -> str:
    """Return a digest of all predictions of a sweep."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*/predictions.parquet")):
        digest.update(json.dumps(pq.read_table(path, columns=["id", "prediction"]).to_pydict()).encode())
    return digest.hexdigest()


def counted(folder: Path) -> dict[str, Any]:
    """Return the number of results and of duplicates."""
    rows = []
    for path in folder.glob("*/*/results.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        rows += [(results["fusion"], r["calibrator"], r["perturbed_training"], r["seed"]) for r in results["runs"]]
    folders = [path for path in folder.glob("*/*/runs/*/*") if path.is_dir()]
    return {
        "results": len(rows),
        "different": len(set(rows)),
        "twice": len(rows) - len(set(rows)),
        "folders_of_runs": len(folders),
        "half_made": len([path for path in folders if path.name.startswith(".")]),
    }


def main() -> None:
    """Run, disturb, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--cpus", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "grid.yaml").write_text(GRID.format(steps=arguments.steps), encoding="utf-8")
        out = folder / "disturbed"
        begun = time.perf_counter()
        first = start(folder, "disturbed", arguments.cpus)
        killed = [kill_worker(first)]
        wait_for(out, TRIALS // 2, first)
        first.send_signal(signal.SIGINT)
        first.communicate()
        before = finished(out)
        stopped = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
        second = start(folder, "disturbed", arguments.cpus)
        killed.append(kill_worker(second))
        printed, errors = second.communicate()
        if second.returncode:
            sys.exit(errors)
        ended = json.loads(printed)
        after = finished(out)
        disturbed = time.perf_counter() - begun
        begun = time.perf_counter()
        plain = start(folder, "plain", arguments.cpus)
        if plain.communicate() and plain.returncode:
            sys.exit("the undisturbed sweep failed")
        undisturbed = time.perf_counter() - begun
        report = subprocess.run(
            [sys.executable, "-m", "concordant", "report", "disturbed", "--out", "page.html"],
            cwd=folder,
            stdout=subprocess.DEVNULL,  # standard output is for the numbers
            check=False,
        )
        print(
            json.dumps(
                {
                    "schema": "concordant.sweep-survival/1",
                    "command": f"python -m benchmarks.sweep_survival --steps {arguments.steps} --cpus {arguments.cpus}",
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
                    **counted(out),
                    "predictions_equal_to_undisturbed": predictions(out) == predictions(folder / "plain"),
                    "report_exit_status": report.returncode,
                    "seconds": {"disturbed": round(disturbed), "undisturbed": round(undisturbed)},
                    "versions": {**versions(), "ray": metadata.version("ray")},
                    "hardware": hardware(),
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
