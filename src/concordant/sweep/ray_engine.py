"""Trials on Ray: in processes of this machine or of a cluster.

Ray's own retries are off. A trial whose worker died is submitted again here, a limited number of times, each with a
line in the log. Ray's usage statistics and dashboard are off.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import concordant
from concordant.errors import ConcordantError, UsageError, needs_extra
from concordant.sweep.grid_file import Resources
from concordant.sweep.trial import Trial
from concordant.training.provenance import cores, versions

CONNECT = 10.0  # seconds that a cluster may take to answer
WAIT = 0.5  # seconds of each wait for results; between two waits Ctrl-C is handled
Outcome = dict[str, Any]


class RayEngine:
    """Worker processes for trials; a context manager.

    Args:
        address: of a Ray cluster, "auto" for this machine's; None = processes of this machine.
        cpus: number of this machine's cores; None = all that this process may use.

    Raises:
        ConcordantError: Ray is not installed, or no cluster answers.
        UsageError: `cpus` is combined with an address, or is below 1.
    """

    def __init__(self, *, address: str | None = None, cpus: int | None = None) -> None:
        if cpus is not None and address is not None:
            raise UsageError("--cpus is about this machine, and --address names a cluster; leave one of them out")
        if cpus is not None and cpus < 1:
            raise UsageError(f"--cpus must be 1 or more, the cores that are used; found {cpus}")
        # Ray reads this when it is imported; a running cluster has its own settings.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        with needs_extra("scale", "concordant sweep needs"):
            import ray
        self._ray = ray
        self.address, self.cpus = address, cpus
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> RayEngine:
        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            options = {"address": "local", "num_cpus": self.cpus or cores(), "include_dashboard": False}
        with contextlib.ExitStack() as opened:
            # Ray prints the output of its processes to standard output, which may be JSON.
            opened.enter_context(contextlib.redirect_stdout(io.StringIO()))
            try:
                if self.address is not None:
                    _check_address(self.address)
                self._ray.init(**options, log_to_driver=False, logging_level=logging.CRITICAL)
            except (OSError, OverflowError, ValueError, RuntimeError) as error:  # a port of any size
                what = "Ray did not start" if self.address is None else f"no Ray cluster answers at {self.address}"
                why = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise ConcordantError(
                    f"{what} ({why}); docs/scale.md shows how to start one; without --address this machine is used"
                ) from None
            opened.callback(self._ray.shutdown)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *about: object) -> None:
        self._opened.close()

    @property
    def local(self) -> bool:
        """Whether all processes are on this machine."""
        return self.address is None

    def shortage(self, resources: Resources) -> str | None:
        """Return a sentence if no machine has the resources of a trial, else None."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for what, wanted in (("CPU", resources.cpus), ("GPU", resources.gpus)):
            most = max((node.get(what, 0) for node in nodes), default=0)
            if wanted > most:
                return f"a trial asks for {wanted:g} {what}s, and the largest machine of the cluster has {most:g}"
        return None

    def run(
        self,
        trials: Sequence[Trial],
        *,
        resources: Resources,
        retries: int,
        done: Callable[[Trial, Outcome], Iterable[Trial]],
        lost: Callable[[Trial, str, int], None],
    ) -> None:
        """Run trials, and those that `done` returns.

        Args:
            trials: the first ones.
            resources: of each trial.
            retries: how often a trial is submitted again after its worker died or ran out of memory.
            done: called here with each trial and its outcome ("state", "attempts", and "error" of a failed one);
                returns the trials that can start now.
            lost: called with a trial that is submitted again, the reason, and the number of its attempts.

        Raises:
            ConcordantError: a worker has another installation of Concordant.
        """
        work = self._ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(_body())
        waiting, attempts, running = deque(trials), Counter[Path](), dict[Any, Trial]()
        while waiting or running:
            while waiting:
                trial = waiting.popleft()
                attempts[trial.target] += 1
                running[work.options(name=trial.name).remote(trial.model_dump_json(), signature())] = trial
            ready, _ = self._ray.wait(list(running), num_returns=1, timeout=WAIT)
            for reference in ready:
                trial = running.pop(reference)
                count = attempts[trial.target]
                outcome = {**self._outcome(reference), "attempts": count}
                if outcome["state"] == "refused":
                    raise ConcordantError(outcome["error"])
                if outcome["state"] in ("lost", "memory"):
                    if trial.finished:  # the worker died after the last step
                        outcome["state"] = "done"
                    elif count <= retries:
                        lost(trial, outcome["error"], count)
                        waiting.append(trial)
                        continue
                    else:
                        again = f"{count} times" if retries else "once"
                        outcome |= {"state": "failed", "error": f"{outcome['error']}, {again}"}
                waiting.extend(done(trial, outcome))

    def _outcome(self, reference: Any) -> Outcome:  # noqa: ANN401 - a Ray reference
        """Return the outcome of a trial."""
        found = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(reference)
        except found.OutOfMemoryError:
            return {"state": "memory", "error": "its machine ran out of memory"}
        except (found.WorkerCrashedError, found.NodeDiedError, found.LocalRayletDiedError, found.ObjectLostError):
            return {"state": "lost", "error": "its worker process died"}
        except found.RayTaskError as error:  # unexpected; its last line is the exception
            trace = str(error)
            return {"state": "failed", "error": f"unexpected: {trace.strip().splitlines()[-1]}", "trace": trace}
        return outcome


def _body() -> Callable[[str, dict[str, str]], Outcome]:
    """Return the function of a worker, which Ray sends by value: it runs even where Concordant is absent or older."""

    def body(text: str, expected: dict[str, str]) -> Outcome:
        import os

        try:
            from concordant.sweep.ray_engine import signature
        except ImportError:
            error = "a worker has no Concordant that can sweep; install this version on every machine"
            return {"state": "refused", "error": error}
        here = signature()
        other = "; ".join(
            f"{name}: there {here.get(name)}, here {expected.get(name)}"
            for name in sorted({**here, **expected})
            if here.get(name) != expected.get(name)
        )
        if other:
            error = f"a worker has another installation ({other}); install the same on every machine"
            return {"state": "refused", "error": error}
        import ray

        if not ray.get_runtime_context().get_assigned_resources().get("GPU"):
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from concordant.sweep.trial import Trial, perform

        return perform(Trial.model_validate_json(text))

    return body


def _check_address(address: str) -> None:
    """Raise OSError if no process listens at "host:port"; Ray itself would try for minutes and end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT).close()


@lru_cache(maxsize=1)
def signature() -> dict[str, str]:
    """Return what must be equal on all machines of a sweep: versions, and a digest of the code.

    Builds ("+cpu") and Python's patch level do not count.
    """
    found = {name: version.partition("+")[0] for name, version in versions().items()}
    found["python"] = ".".join(found["python"].split(".")[:2])
    return {**found, "code": code_of(Path(concordant.__file__).parent)}


def code_of(root: Path) -> str:
    """Return a digest of a package's source files; a version number does not distinguish two checkouts."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
