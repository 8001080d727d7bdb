"""Operators and peak memory of a training step and of a call in inference, per calibrator.

Both are exact: equal at every repetition and on every machine. PyTorch needs some microseconds to start an operator,
whatever its size, and where tensors are small their number determines the time. Peak memory is counted at PyTorch's
allocator, since the resident memory of a process is noisy and never shrinks.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from concordant.speed import PHASES, Setting, actions_of, fitting

_MARK = "concordant: warm"


class Counted(TorchDispatchMode):
    """Count the operators that run while this mode is active, including backward passes.

    Attributes:
        counts: operator -> number of calls.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator, and below whatever it returns
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Count the operator and run it."""
        self.counts[str(func.overloadpacket.__name__)] += 1
        return func(*args, **(kwargs or {}))


def operators_of(work: Callable[[], object]) -> Counter[str]:
    """Return the operators that `work` runs, by name; it is called twice, first to warm up.

    >>> x = torch.ones(2)
    >>> operators_of(lambda: (x + 1) * (x + 2)) == {"add": 2, "mul": 1}
    True
    """
    work()
    counted = Counted()
    with counted:
        work()
    return counted.counts


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that `work` holds at once beyond those held before; it is called twice.

    The first call warms up: what stays, such as the state of an optimiser, is allocated by then.

    Args:
        work: allocates tensors on the CPU, and on CUDA where available; both are counted together.

    >>> x = torch.ones(1024, 1024)  # 4 MiB
    >>> round(peak_bytes(lambda: x + 1) / 2**20, 3), round(peak_bytes(lambda: (x + 1) * (x + 2) * 3) / 2**20, 3)
    (4.0, 12.0)
    """
    # The profiler's engine announces itself on standard error otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import profile, record_function

    with profile(profile_memory=True) as recorded:  # includes the warm-up: memory from there may be freed later
        work()
        with record_function(_MARK):
            pass
        work()
    events = sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    begin = next(number for number, event in enumerate(events) if event.name() == _MARK)
    held = most = 0
    for event in events[begin:]:
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def measure_operators(setting: Setting, fusion: str, calibrators: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return one record per phase and calibrator: number of operators, and their ratio to those of "none"."""
    return _count(setting, fusion, calibrators, "operators", lambda work: operators_of(work).total())


def measure_memory(setting: Setting, fusion: str, calibrators: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return one record per phase and calibrator: peak of memory in MiB, and its ratio to that of "none"."""
    return _count(setting, fusion, calibrators, "peak_mebibytes", lambda work: peak_bytes(work) / 2**20)


def _count(
    setting: Setting,
    fusion: str,
    calibrators: Sequence[str] | None,
    field: str,
    count: Callable[[Callable[[], object]], float],
) -> list[dict[str, Any]]:
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for phase in PHASES:
            actions = actions_of(setting, fusion, fitting(fusion, calibrators), phase)
            numbers = {name: count(work) for name, work in actions.items()}
            for name, number in numbers.items():
                place = {"setting": setting.name, "fusion": fusion, "preset": "small", "calibrator": name}
                ratio = round(number / numbers["none"], 3)
                found.append({**place, "phase": phase, field: round(number, 3), "ratio": ratio})
    return found
