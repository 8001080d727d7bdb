"""Ray: a killed worker costs a retry and no result; faults of a cluster are errors in one sentence.

One cluster of this machine serves all tests here; it is started as `concordant sweep` starts its own.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import concordant
from concordant.errors import ConcordantError, UsageError
from concordant.sweep import ray_engine
from concordant.sweep.grid_file import Grid, Resources, make_plan, read_grid
from concordant.sweep.ray_engine import RayEngine, code_of, signature
from concordant.sweep.sweeping import Sweep
from concordant.training.provenance import versions

pytestmark = pytest.mark.process

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)
SOURCE = Path(__file__).parents[2] / "src"
GRID = """
benchmarks: [digits]
calibrators: [none, context]
seeds: 2
recipe: {steps: 10, width: 8}
"""
START = """
import sys
from concordant.sweep.ray_engine import RayEngine
with RayEngine(cpus=2):
    import ray
    sys.stderr.write(ray.get_runtime_context().gcs_address + "\\n")
    sys.stderr.flush()
    sys.stdin.read()
"""


def environment():
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def address():
    """The address of a cluster of two cores, which admits drivers with the token of tests/conftest.py alone."""
    started = subprocess.Popen(
        [sys.executable, "-c", START], env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in started.stderr:
        lines.append(line)
        if re.fullmatch(r"[\d.]+:\d+\n", line):
            break
    else:
        pytest.fail("".join(lines))
    threading.Thread(target=started.stderr.read, daemon=True).start()
    yield lines[-1].strip()
    started.stdin.close()
    assert started.wait(60) == 0


def sweep(grid, out, address, **options):
    return Sweep(grid, make_plan(grid), out, command="concordant sweep", **options).run(
        lambda: RayEngine(address=address)
    )


def marks(folder):
    """Return run -> what tells its file from another that took its place."""
    found = [path for path in folder.rglob("run.json") if not path.parent.name.startswith(".")]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def ancestors(process):
    """Return the environments of a process and of those that started it; its own is lost where Ray names it."""
    found = b""
    while process > 1:
        found += Path(f"/proc/{process}/environ").read_bytes()
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def workers(doing):
    """Return the processes of this cluster that do a trial; Ray gives a process the name of its task."""
    found = []
    token = os.environ["RAY_AUTH_TOKEN"].encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::" + doing.encode()) and token in ancestors(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def kill_one(doing, killed, stop):
    """Kill a worker at the work that is named, the hard way."""
    while not stop.is_set():
        for process in workers(doing):
            os.kill(process, signal.SIGKILL)
            killed.append(process)
            return
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="workers are found in /proc")
def test_a_sweep_survives_ctrl_c_and_the_killing_of_a_worker(tmp_path, address):
    """The command is interrupted; going on, a worker is killed: all results are there, none twice, none anew."""
    (tmp_path / "grid.yaml").write_text(GRID)
    words = [
        sys.executable,
        "-m",
        "concordant",
        "sweep",
        "grid.yaml",
        "--out",
        "s",
        "--address",
        address,
        "--json",
        "-",
    ]
    first = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(marks(tmp_path)) < 2:
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    out, error = first.communicate(timeout=120)
    assert first.returncode == 130
    assert out == ""
    assert "concordant: stopped; s/log.txt shows how far it got; give the same command again to go on" in error
    before = marks(tmp_path)
    assert 2 <= len(before) < 6

    grid = read_grid(tmp_path / "grid.yaml")
    killed, stop, lines = [], threading.Event(), []
    killer = threading.Thread(target=kill_one, args=("digits/concat: ", killed, stop))
    killer.start()
    try:
        found = sweep(grid, tmp_path / "s", address, progress=lambda done, total, line: lines.append(line))
    finally:
        stop.set()
        killer.join()
    assert len(killed) == 1
    assert found["retried"] >= 1
    assert (found["state"], found["finished"], found["runs"], found["failed"]) == ("finished", 6, 6, [])
    assert before.items() <= marks(tmp_path).items()  # the same files, neither written nor moved again
    runs = tmp_path / "s" / "digits" / "concat" / "runs"
    assert sorted(str(path.relative_to(runs)) for label in runs.iterdir() for path in label.iterdir()) == [
        f"{label}/seed-{seed}" for label in ("context", "none+perturbed", "none") for seed in (0, 1)
    ]  # no leftover, no second copy
    results = json.loads((runs.parent / "results.json").read_text())
    names = [(run["calibrator"], run["perturbed_training"], run["seed"]) for run in results["runs"]]
    assert len(names) == len(set(names)) == 6
    assert "its worker process died; tried again (1 of 3)" in (tmp_path / "s" / "log.txt").read_text()
    done = [line for line in lines if line.startswith("digits") and "tried again" not in line]
    assert len(done) == len(set(done)) == 6 - len(before)


def test_a_trial_that_kills_every_worker_fails_after_its_retries(tmp_path, address, monkeypatch):
    def deadly():
        def body(text, expected):
            import os

            os.kill(os.getpid(), 9)

        return body

    monkeypatch.setattr(ray_engine, "_body", deadly)
    grid = Grid(benchmarks=("digits",), calibrators=("none",), modalities=("left",), seeds=1, retries=1)
    found = sweep(grid, tmp_path / "s", address)
    assert (found["state"], found["retried"]) == ("failed", 1)
    assert found["failed"] == [{"trial": "digits/concat: none, seed 0", "error": "its worker process died, 2 times"}]


def test_what_was_not_foreseen_is_a_failed_trial_with_its_trace(tmp_path, address, monkeypatch):
    def broken():
        def body(text, expected):
            raise TypeError("a bug")

        return body

    monkeypatch.setattr(ray_engine, "_body", broken)
    grid = Grid(benchmarks=("digits",), calibrators=("none",), modalities=("left",), seeds=2)
    found = sweep(grid, tmp_path / "s", address)
    assert sorted((one["trial"], one["error"]) for one in found["failed"]) == [
        (f"digits/concat: none, seed {seed}", "unexpected: TypeError: a bug") for seed in (0, 1)
    ]
    assert (found["state"], found["retried"]) == ("failed", 0)
    assert ", in body" in (tmp_path / "s" / "log.txt").read_text()  # with its trace


def test_a_worker_that_refuses_ends_the_sweep(tmp_path, address, monkeypatch):
    def other():
        def body(text, expected):
            return {"state": "refused", "error": "a worker has another installation"}

        return body

    monkeypatch.setattr(ray_engine, "_body", other)
    grid = Grid(benchmarks=("digits",), calibrators=("none",), modalities=("left",), seeds=2)
    with pytest.raises(ConcordantError, match="a worker has another installation"):
        sweep(grid, tmp_path / "s", address)
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["state"] == "stopped"


def test_resources_that_no_machine_has_are_reported(address):
    with RayEngine(address=address) as engine:
        assert engine.shortage(Resources(cpus=2)) is None
        assert engine.shortage(Resources(cpus=3)) == (
            "a trial asks for 3 CPUs, and the largest machine of the cluster has 2"
        )
        assert not engine.local


def test_a_worker_with_another_concordant_refuses():
    body = ray_engine._body()
    other = {**signature(), "concordant": "0.0.1", "code": "beef"}
    outcome = body("{}", other)
    assert outcome["state"] == "refused"
    here = signature()
    assert outcome["error"] == (
        f"a worker has another installation (code: there {here['code']}, here beef; concordant: there "
        f"{here['concordant']}, here 0.0.1); install the same on every machine"
    )


def test_a_worker_without_concordant_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "concordant.sweep.ray_engine", None)
    assert ray_engine._body()("{}", {}) == {
        "state": "refused",
        "error": "a worker has no Concordant that can sweep; install this version on every machine",
    }


def test_a_signature_is_versions_and_the_code():
    found = signature()
    assert found["concordant"] == concordant.__version__
    assert found["torch"] == versions()["torch"].split("+")[0]
    assert found["python"].count(".") == 1
    assert found["code"] == code_of(SOURCE / "concordant")


def test_other_code_of_the_same_version_has_another_digest(tmp_path):
    source, copy = SOURCE / "concordant" / "sweep", tmp_path / "copy"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert code_of(copy) == code_of(source)
    file = copy / "search.py"
    text = file.read_text()
    file.write_text(text + "# changed\n")
    assert code_of(copy) != code_of(source)
    file.write_text(text)
    file.rename(copy / "other.py")
    assert code_of(copy) != code_of(source)


def test_wrong_use_and_absence_are_sentences(monkeypatch):
    with pytest.raises(UsageError, match="--cpus is about this machine, and --address names a cluster; leave one"):
        RayEngine(address="auto", cpus=2)
    with pytest.raises(UsageError, match="--cpus must be 1 or more, the cores that are used; found 0"):
        RayEngine(cpus=0)
    assert RayEngine(cpus=2).local
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConcordantError, match=r"needs ray, which is not installed: pip install 'concordant\[scale\]'"):
        RayEngine()


def test_an_address_without_a_cluster_is_an_error():
    with (
        pytest.raises(
            ConcordantError,
            match=r"no Ray cluster answers at 127\.0\.0\.1:1 \(.+\); docs/scale.md shows how to start one",
        ),
        RayEngine(address="127.0.0.1:1"),
    ):
        pass
