"""Signals, closed pipes, full disks and odd names end in one sentence and an exit status; the command can resume."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy
import pytest

from concordant.cli import edge
from concordant.errors import DataError, UsageError
from tests.commands import concordant

RUN = [sys.executable, "-m", "concordant", "run", "digits", "--calibrators", "none", "--fusion", "sum", "--no-alone"]
SHORT = [*RUN, "--seeds", "1", "--steps", "2", "--jobs", "1"]


def command(*arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False, **options)


def exit_of(action, monkeypatch, capsys, arguments=()):
    monkeypatch.setattr(sys, "argv", ["concordant", *arguments])
    with pytest.raises(SystemExit) as end:
        edge.run(action)
    return end.value.code, capsys.readouterr().err


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize("error", [MemoryError("1 TiB"), RuntimeError("[enforce fail]\ncan't allocate memory: 1 TiB")])
def test_a_lack_of_memory_is_one_sentence(monkeypatch, capsys, error):
    status, text = exit_of(raising(error), monkeypatch, capsys)
    assert status == 1
    assert text.startswith("concordant: the memory does not suffice (")
    assert text.count("\n") == 1


def test_an_absent_package_is_named_with_its_extra(monkeypatch, capsys, tmp_path):
    from concordant.cli.main import app

    numpy.savez(tmp_path / "x.npz", label=numpy.arange(40) % 2, a=numpy.ones((40, 3)))
    monkeypatch.setitem(sys.modules, "datasets", None)
    words = ("data", "from-numpy", str(tmp_path / "x.npz"), "--out", str(tmp_path / "store"))
    status, text = exit_of(app, monkeypatch, capsys, words)
    said = "concordant: this command needs datasets, which is not installed: pip install 'concordant[media]'\n"
    assert (status, text) == (1, said)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def forget_timers():
    """Stop what would end this process some seconds after a signal."""
    for timer in threading.enumerate():
        if isinstance(timer, threading.Timer):
            timer.cancel()


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UsageError("no"), 2, "concordant: no\n"),
        (DataError("no"), 1, "concordant: no\n"),
        (SystemExit(3), 3, ""),
        (SystemExit(), 0, ""),
        (
            OSError(28, "x", "a/b"),
            1,
            "concordant: a/b: No space left on device; finished work is kept: mend this, then give the same command "
            "again to go on\n",
        ),
        (OSError("odd\nfault"), 1, "concordant: odd fault; finished work is kept: mend this"),
    ],
)
def test_an_error_becomes_one_sentence_and_a_status(error, status, text, monkeypatch, capsys):
    found, written = exit_of(raising(error), monkeypatch, capsys)
    assert found == status
    assert written.startswith(text)
    assert written.count("\n") <= 1


def test_an_argument_that_is_not_text_is_refused(monkeypatch, capsys):
    found, written = exit_of(lambda: None, monkeypatch, capsys, ["run", "a\udcff"])
    assert found == 2
    assert "'a\\udcff' is not valid UTF-8; rename the file or folder" in written


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_command_and_the_handlers_are_put_back(number, monkeypatch, capsys):
    before = signal.getsignal(number)
    found, written = exit_of(lambda: (os.kill(os.getpid(), number), time.sleep(9)), monkeypatch, capsys)
    assert found == 128 + number
    assert written == "concordant: interrupted; finished work is kept; give the same command again to go on\n"
    assert signal.getsignal(number) == before
    forget_timers()


@pytest.mark.parametrize(
    "error", [RuntimeError("raised by a library"), KeyboardInterrupt(), DataError("no"), OSError(5)]
)
def test_a_signal_counts_whatever_a_library_makes_of_its_exception(error, monkeypatch, capsys):
    def action():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        except SystemExit:
            raise error from None

    found, written = exit_of(action, monkeypatch, capsys)
    assert found == 128 + signal.SIGTERM
    assert written == "concordant: interrupted; finished work is kept; give the same command again to go on\n"
    forget_timers()
    assert exit_of(raising(DataError("no")), monkeypatch, capsys) == (1, "concordant: no\n")  # in a next command


PRINTING = """
import sys
from pathlib import Path
from concordant.cli import edge

def action():
    for _ in range(3):
        print("digits \N{MIDDLE DOT} sum", flush=True)
    Path("written").touch()

edge.run(action)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("head", 1, ""),
        ("full", 1, "concordant: the output cannot be written (No space left on device); the files are complete\n"),
        ("encoding", 0, ""),
    ],
)
def test_output_that_cannot_be_written_stops_nothing(kind, status, text, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"} if kind == "encoding" else None
    reading, writing = os.pipe() if kind != "full" else (None, os.open("/dev/full", os.O_WRONLY))
    if kind == "head":
        os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", PRINTING],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=240,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (status, text)
    assert (tmp_path / "written").exists()
    if kind == "encoding":
        with os.fdopen(reading) as opened:
            assert opened.read() == "digits ? sum\n" * 3


@pytest.mark.process
def test_a_folder_that_looks_like_an_address_and_a_reader_that_leaves(tmp_path):
    asked = [*SHORT, "--out", "run:1"]
    with subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
    assert (tmp_path / "run:1" / "report.html").is_file()
    assert json.loads((tmp_path / "run:1" / "results.json").read_text())["runs"]


@pytest.mark.process
def test_json_that_could_not_be_written_is_refused_before_training(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for to, why in (
        (fifo, "it is a link, a device or a pipe"),
        (tmp_path, "Is a directory"),
        ("/proc/none/x", "No such file"),
    ):
        done = concordant(*SHORT[3:], "--out", tmp_path / "run", "--json", to, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"concordant: --json: cannot write to {to} ({why}")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


@pytest.mark.process
@pytest.mark.parametrize("sent", ["terminal", pytest.param("SIGKILL", marks=pytest.mark.slow)])
def test_a_stop_is_quick_leaves_no_process_and_the_command_goes_on(sent, tmp_path):
    """The terminal sends Ctrl-C to every process; a kill reaches the first one alone."""
    asked = [*RUN, "--seeds", "2", "--steps", "100", "--jobs", "2", "--vectorise", "off", "--out", tmp_path / "run"]
    process = subprocess.Popen(asked, start_new_session=True, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.txt"
    for _ in range(2400):
        if log.exists() and len(members(process.pid)) > 2:
            break
        time.sleep(0.05)
    time.sleep(1)  # somewhere in the start of the workers, or in training
    start = time.monotonic()
    if sent == "terminal":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(getattr(signal, sent))
    _, errors = process.communicate(timeout=60)
    took = time.monotonic() - start
    if sent == "terminal":
        assert process.returncode == 130
        assert errors == "concordant: interrupted; finished work is kept; give the same command again to go on\n"
        assert took < 30  # not a wall-clock bound: unbounded before, at most five seconds of its own
    for _ in range(200):
        if not members(process.pid):
            break
        time.sleep(0.05)
    assert not members(process.pid)
    if sent == "SIGKILL":
        done = command(*asked)
        assert done.returncode == 0, done.stderr
        assert not list((tmp_path / "run").rglob(".concordant-*"))


def members(session):
    """Return the running processes of a session."""
    listed = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True, check=False)
    return [line for line in listed.stdout.split() if not line.startswith("Z")]
