"""The most memory that a piece of work holds at once, counted at PyTorch's allocator.

The resident memory of a process is noisy and never shrinks; what the allocator hands out and takes back is exact, the
same at every repetition, and needs no process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from concordant.speed.overhead import Setting, counted_for_each

_MARK = "concordant: warm"


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that `work` held at once beyond what was held before; it is called twice.

    The first call warms up: what stays (the state of an optimiser, say) is then there already.

    Args:
        work: allocates tensors on the CPU, and on CUDA where it is there; both are counted together.

    >>> import torch
    >>> x = torch.ones(1024, 1024)  # 4 MiB
    >>> round(peak_bytes(lambda: x + 1) / 2**20, 3), round(peak_bytes(lambda: (x + 1) * (x + 2) * 3) / 2**20, 3)
    (4.0, 12.0)
    """
    # The profiler's engine would announce itself on standard error.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import profile, record_function

    with profile(profile_memory=True) as recorded:  # the warm-up too, so that what it left is known when it is freed
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


def measure(
    setting: Setting, fusion: str, *, preset: str = "small", calibrators: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return the peaks of a training step and of a call in inference, and their ratio to those of "none".

    Args:
        setting: the inputs.
        fusion: what joins the features.
        preset: sizes of the fusion.
        calibrators: which; None = all that fit. "none" is always among them.
    """
    peaks = counted_for_each(setting, fusion, preset, calibrators, peak_bytes)
    return [{**record, "peak_mebibytes": round(peak / 2**20, 3), "ratio": ratio} for record, peak, ratio in peaks]
