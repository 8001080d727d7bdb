"""Trials on Ray: in processes of this machine or of a cluster.

Ray's own retries are off. A trial whose worker died is submitted again here, a limited number of times, each with a
line in the log. Ray's usage statistics and dashboard are off.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from concordant.errors import ConcordantError, UsageError
from concordant.sweep.grid_file import INSTALL, Resources
from concordant.sweep.signature import signature
from concordant.sweep.trial import Trial

KNOCK = 10.0  # seconds that a cluster may take to answer
LISTEN = 0.5  # seconds of each wait; between two waits Ctrl-C is handled
Outcome = dict[str, Any]
Done = Callable[[Trial, Outcome], Iterable[Trial]]
Lost = Callable[[Trial, str, int], None]


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
        try:
            import ray
        except ModuleNotFoundError:
            raise ConcordantError(f"concordant sweep needs Ray, which is not installed: {INSTALL}") from None
        self._ray = ray
        self.address = address
        self.cpus = cpus
        self._quiet = contextlib.ExitStack()

    def __enter__(self) -> RayEngine:
        # Ray prints the output of its processes to standard output, which may be JSON.
        self._quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        try:
            if self.address is not None:
                _knock(self.address)
                self._ray.init(address=self.address, **common)
            else:
                count = self.cpus if self.cpus is not None else _cores()
                self._ray.init(address="local", num_cpus=count, include_dashboard=False, **common)
        except (OSError, ValueError, RuntimeError) as error:
            self._quiet.close()
            what = f"no Ray cluster answers at {self.address}" if self.address is not None else "Ray did not start"
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConcordantError(
                f"{what} ({first}); docs/scale.md says how one is started, without --address this machine is used"
            ) from None
        except BaseException:
            self._quiet.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ray.shutdown()
        finally:
            self._quiet.close()

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

    def run(self, trials: Sequence[Trial], *, resources: Resources, retries: int, done: Done, lost: Lost) -> None:
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
        ray = self._ray
        work = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(_body())
        expected = signature()
        waiting, attempts = deque(trials), Counter[Path]()
        running: dict[Any, Trial] = {}
        while waiting or running:
            while waiting:
                trial = waiting.popleft()
                attempts[trial.target] += 1
                running[work.options(name=trial.name).remote(trial.model_dump_json(), expected)] = trial
            ready, _ = ray.wait(list(running), num_returns=1, timeout=LISTEN)
            for reference in ready:
                trial = running.pop(reference)
                outcome = {**self._outcome(reference), "attempts": attempts[trial.target]}
                if outcome["state"] == "refused":
                    raise ConcordantError(outcome["error"])
                if outcome["state"] in ("lost", "memory"):
                    if trial.finished:  # the worker died after the last step
                        outcome["state"] = "done"
                    elif attempts[trial.target] <= retries:
                        lost(trial, outcome["error"], attempts[trial.target])
                        waiting.append(trial)
                        continue
                    else:
                        again = f"{attempts[trial.target]} times" if retries else "once"
                        outcome |= {"state": "failed", "error": f"{outcome['error']}, {again}"}
                waiting.extend(done(trial, outcome))

    def _outcome(self, reference: Any) -> Outcome:  # noqa: ANN401 - a Ray reference
        """Return the outcome of a trial."""
        failures = self._ray.exceptions
        try:
            found: Outcome = self._ray.get(reference)
        except failures.OutOfMemoryError:
            return {"state": "memory", "error": "its machine ran out of memory"}
        except (
            failures.WorkerCrashedError,
            failures.NodeDiedError,
            failures.LocalRayletDiedError,
            failures.ObjectLostError,
        ):
            return {"state": "lost", "error": "its worker process died"}
        except failures.RayTaskError as error:  # unexpected; its last line is the exception
            lines = str(error).strip().splitlines()
            return {"state": "failed", "error": f"unexpected: {lines[-1]}", "trace": str(error)}
        return found


def _body() -> Callable[[str, dict[str, str]], Outcome]:
    """Return the function of a worker, which Ray sends by value: it runs even where Concordant is absent or older."""

    def body(text: str, expected: dict[str, str]) -> Outcome:
        import os

        try:
            from concordant.sweep.signature import signature
        except ImportError:
            return {
                "state": "refused",
                "error": "a worker has no Concordant that can sweep; install this version on every machine",
            }
        here = signature()
        other = "; ".join(
            f"{name}: there {here.get(name)}, here {expected.get(name)}"
            for name in sorted({**here, **expected})
            if here.get(name) != expected.get(name)
        )
        if other:
            return {
                "state": "refused",
                "error": f"a worker has another installation ({other}); install the same on every machine",
            }
        import ray

        if not ray.get_runtime_context().get_assigned_resources().get("GPU"):
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from concordant.sweep.trial import Trial, perform

        return perform(Trial.model_validate_json(text))

    return body


def _knock(address: str) -> None:
    """Raise OSError if no process listens at "host:port"; Ray itself would try for minutes and end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK).close()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
