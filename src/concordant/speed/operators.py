"""How many operators a training step or a call in inference takes: the profile of models too small to be bound by work.

PyTorch needs some microseconds to find and start each operator, whatever its size. Where tensors are small, the number
of operators is the time, and it is the same on every machine and at every repetition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from concordant.speed.overhead import Setting, counted_for_each


class Counted(TorchDispatchMode):
    """Counts the operators that run while it is on, backward passes included.

    Attributes:
        counts: name -> how often.
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
    """Return the operators that `work` runs, by name; it is called twice, the first time to warm up.

    >>> import torch
    >>> x = torch.ones(2)
    >>> operators_of(lambda: (x + 1) * (x + 2)) == {"add": 2, "mul": 1}
    True
    """
    work()
    counted = Counted()
    with counted:
        work()
    return counted.counts


def measure(
    setting: Setting, fusion: str, *, preset: str = "small", calibrators: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return the operators of a training step and of a call in inference, by calibrator, and their ratio to "none".

    Args:
        setting: the inputs.
        fusion: what joins the features.
        preset: sizes of the fusion.
        calibrators: which; None = all that fit. "none" is always among them.
    """
    counts = counted_for_each(setting, fusion, preset, calibrators, lambda work: operators_of(work).total())
    return [{**record, "operators": count, "ratio": ratio} for record, count, ratio in counts]
