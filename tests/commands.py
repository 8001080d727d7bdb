"""Commands and scripts in forks of one process that has imported what they need: a start is paid once per session.

They run as in a shell: a folder, an environment, standard output and error, an exit status. They use one process where
the command line does not say otherwise, since the tests themselves run side by side.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("concordant.cli.main", "concordant.cli.run", "concordant.study.grid", "concordant.report.page"),
        *(
            "lightning_fabric",
            "torch._dynamo",
            "sklearn.datasets",
            "sklearn.linear_model",
            "scipy.stats",
            "pyarrow.parquet",
        ),
    ]
)


def concordant(*words, cwd, env=None, timeout=240):
    """Run `concordant` with arguments in a folder; return what subprocess.run would.

    A `run` of one fusion goes without its baselines, which take time, unless the words have --alone.
    """
    words = tuple(map(str, words))
    grid = any(one == "--fusion" and "," in two for one, two in pairwise(words))
    if words[:1] == ("run",) and len(words) > 1 and not grid and not {"--alone", "--no-alone", "--help"} & {*words}:
        words += ("--no-alone",)
    return _finished(("concordant", *map(str, words)), cwd, env or {}, timeout)


def example(name, *words, check=True):
    """Run a script of examples/ with arguments; return what subprocess.run would."""
    done = _finished(
        (str(SOURCE.parent / "examples" / f"{name}.py"), *words), os.getcwd(), {"HF_HUB_OFFLINE": "1"}, 240
    )
    if check:
        done.check_returncode()
    return done


def _finished(argv, cwd, env, timeout):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CONCORDANT_", "RAY_"))}
    env = {**inherited, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **env}
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = _CONTEXT.Process(target=_begin, args=(argv, str(cwd), env, str(out), str(err)))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(argv, timeout, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(argv, process.exitcode, out.read_text(), err.read_text())


def _begin(argv, cwd, env, out, err):
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv, sys.path[0:0] = list(argv), [str(SOURCE)]
    for descriptor, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    import torch

    import concordant.training.processes as processes

    torch.set_num_threads(1)
    processes.cores = lambda: 1
    if argv[0] != "concordant":
        runpy.run_path(argv[0], run_name="__main__")
        return
    from concordant.cli.main import main

    main()
