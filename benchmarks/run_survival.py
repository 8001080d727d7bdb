"""Runs that are killed, interrupted, out of room or started twice: do they end with the numbers of an undisturbed run?

`python -m benchmarks.run_survival [--kills N] [--signals N] [--every N]` gives `concordant run` on the embedded digits
(two calibrators and their twins, three seeds, in one pass per method), once undisturbed, and then, each in a folder of
its own: killed with SIGKILL at its file operations and at moments between them; stopped by SIGINT and by SIGTERM while
two worker processes train; on a small tmpfs that is full at several stages (as root); twice at once in one folder.
After each the same command is given again, and its results are compared to the last digit. Printed as JSON; some 15
seconds per disturbed run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import put, run
from concordant.files import read_json

COMMAND = "run digits --fusion sum --calibrators none,context --seeds 3"
WRITES = os.O_WRONLY | os.O_RDWR
TIMED = ("train_seconds", "loading_share", "devices", "vectorised")
STOPPING = 5.0  # seconds that a command and its workers have to end after a signal
FULL_AT = (0, 60, 200, 400, 1000, 2200)  # KiB that the disk has: from the first file to the report


def child(out: Path, *options: str, before: Callable[[], object] | None = None) -> int:
    """Start the command in a fork of this process, whose imports it shares; return the number of the process."""
    process = os.fork()
    if process:
        return process
    sys.argv = ["concordant", *COMMAND.split(), "--out", str(out), *options]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    errors = os.open(out.with_suffix(".errors"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(nowhere, 1)
    os.dup2(errors, 2)
    os.setsid()
    status = 0
    try:
        if before is not None:
            before()
        from concordant.cli.main import main

        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # must not reach the blocks of the parent, which clean up
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def ended(process: int) -> int:
    """Wait for a process; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killing(when: int) -> Callable[[], None]:
    """Return what makes a process kill itself at its file operation number `when`, counted from 1."""

    def begin() -> None:
        done = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal done
            writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
            if writing or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
                done += 1
                if done == when:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return begin


def numbers(out: Path) -> Any:  # noqa: ANN401
    """Return the results without what a clock measured."""
    found = read_json(out / "results.json")
    runs = [{key: value for key, value in one.items() if key not in TIMED} for one in found["runs"]]
    return runs, found["comparisons"]


def leftovers(out: Path) -> int:
    """Return the number of temporary files."""
    return sum(1 for _ in out.rglob(".concordant-*"))


def members(session: int) -> int:
    """Return the number of running processes of a session."""
    listed = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True, check=False)
    return sum(not line.startswith("Z") for line in listed.stdout.split())


class Survey:
    """Counts what came of disturbed runs."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        self.options: tuple[str, ...] = ("--steps", str(steps), "--jobs", "1")
        self.parallel = (*self.options[:2], "--jobs", "2", "--vectorise", "off")
        self.found: dict[str, Counter[str]] = {}
        self.wanted: dict[tuple[str, ...], Any] = {}
        self.seconds: dict[tuple[str, ...], float] = {}
        for options in (self.options, self.parallel):
            out, started = folder / f"plain-{len(self.wanted)}", time.perf_counter()
            if ended(child(out, *options)):
                sys.exit(out.with_suffix(".errors").read_text())
            self.wanted[options], self.seconds[options] = numbers(out), time.perf_counter() - started

    def again(self, kind: str, out: Path, options: tuple[str, ...]) -> None:
        """Give the command again, and note whether it ends as the undisturbed one did."""
        tally = self.found.setdefault(kind, Counter())
        tally["disturbed"] += 1
        status = ended(child(out, *options))
        text = out.with_suffix(".errors").read_text()
        tally["went on"] += status == 0
        tally["same numbers"] += status == 0 and numbers(out) == self.wanted[options]
        tally["leftover files"] += leftovers(out)
        tally["tracebacks"] += "Traceback" in text
        print(f"{out.name}: {dict(tally)} {text if status else ''}", file=sys.stderr, flush=True)
        shutil.rmtree(out, ignore_errors=True)

    def kills(self, most: int, every: int) -> None:
        """Kill at file operations 1, 1 + `every`, ... until a run has no more; then at moments between them."""
        count, when, finished = 0, 1, False
        while not finished and count < most:
            out = self.folder / f"operation-{when}"
            finished = ended(child(out, *self.options, before=killing(when))) == 0
            if not finished:
                self.again("SIGKILL at a file operation", out, self.options)
                count += 1
            when += every
        for moment in range(most - count):
            out = self.folder / f"moment-{moment}"
            process = child(out, *self.options)
            time.sleep(self.seconds[self.options] * (moment + 1) / (most - count + 1))
            os.kill(process, signal.SIGKILL)
            ended(process)
            self.again("SIGKILL at a moment", out, self.options)

    def signals(self, count: int) -> None:
        """Stop a command whose two worker processes train."""
        for number in (signal.SIGINT, signal.SIGTERM):
            for index in range(count):
                out = self.folder / f"{number.name}-{index}"
                process = child(out, *self.parallel)
                time.sleep(self.seconds[self.parallel] * (index + 1) / (count + 1))
                started = time.perf_counter()
                if number == signal.SIGINT:  # a terminal sends it to all processes
                    os.killpg(process, number)
                else:
                    os.kill(process, number)
                status = ended(process)
                tally = self.found.setdefault(number.name, Counter())
                tally["stopped"] += status == 128 + number
                tally["over before the signal"] += status == 0
                tally["slower than 5 s"] += time.perf_counter() - started > STOPPING
                wait = time.perf_counter() + STOPPING
                while members(process) and time.perf_counter() < wait:
                    time.sleep(0.1)
                tally["processes left"] += members(process)
                tally["tracebacks"] += "Traceback" in out.with_suffix(".errors").read_text()
                self.again(number.name, out, self.parallel)

    def full_disks(self) -> None:
        """Run on disks that are full at several stages, then give the command again with room."""
        for room in FULL_AT:
            place = self.folder / f"disk-{room}"
            place.mkdir()
            words = ["mount", "-t", "tmpfs", "-o", f"size={max(room, 4)}k", "tmpfs", str(place)]
            if subprocess.run(words, check=False, capture_output=True).returncode:
                return  # not root
            try:
                status = ended(child(place / "run", *self.options))
                tally = self.found.setdefault("full disk", Counter())
                tally["refused with a sentence"] += status in (1, 2)
                subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True)
                self.again("full disk", place / "run", self.options)
            finally:
                subprocess.run(["umount", str(place)], check=False)

    def twice(self) -> None:
        """Give the command twice at once in one folder: one is refused, or both end well one after the other."""
        out = self.folder / "twice"
        processes = [child(out, *self.options) for _ in range(2)]
        statuses = sorted(ended(process) for process in processes)
        self.found["two at once"] = Counter(
            {"one refused": statuses == [0, 2], "same numbers": numbers(out) == self.wanted[self.options]}
        )


def main(kills: int = 100, signals: int = 20, every: int = 2, steps: int = 30) -> None:
    """Disturb, count and print."""
    import concordant.cli.run
    import concordant.report.page
    import concordant.study.grid  # noqa: F401 - the forks share them

    with tempfile.TemporaryDirectory() as name:
        survey = Survey(Path(name), steps)
        survey.kills(kills, every)
        survey.signals(signals)
        survey.full_disks()
        survey.twice()
        put(
            {
                "schema": "concordant.run-survival/1",
                "command": f"python -m benchmarks.run_survival --kills {kills} --signals {signals} --every {every}",
                "run": f"concordant {COMMAND} --steps {steps}",
                "found": {kind: dict(tally) for kind, tally in survey.found.items()},
            }
        )


if __name__ == "__main__":
    run(main, __doc__)
