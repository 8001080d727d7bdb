"""Random numbers per seed for a training step that runs for several seeds at once: those of each seed's single run.

A single run draws dropout masks from PyTorch's global stream and perturbations from a generator that is handed in.
Which of the two, in which order and in which shapes depends on no values. One step of one seed is therefore watched
(`plan_draws`); before every vmapped step the planned draws are made for each seed from its own streams, and `Draws`
hands them to the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from concordant import seeding

_DROPOUT = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d}
_REPLACED = {*_DROPOUT, torch.rand, torch.randn, torch.ops.concordant.require_finite.default}


@dataclass(frozen=True)
class Streams:
    """The generators of one seed, in the states in which its single run starts."""

    dropout: torch.Generator
    perturbation: torch.Generator

    @classmethod
    def of(cls, seed: int, device: torch.device) -> Streams:
        """Return the streams of a seed on a device."""
        return cls(*(seeding.generator(seed, name, device=device) for name in ("dropout", "perturbations")))


Draw = Callable[[Streams], Tensor]


class Draws(TorchFunctionMode):
    """Hand a vmapped step the numbers drawn for it, in order, or note what a step draws.

    `torch.rand`, `torch.randn` and dropout are replaced; vmap refuses all other random operators. The check for
    non-finite features is left out: its error would end all seeds, and the loss of the seed in question tells as much.

    Args:
        made: one tensor per draw; None = call everything as it is and note the draws in `plan`.

    Attributes:
        plan: the draws that were noted.
    """

    def __init__(self, made: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        self._made = None if made is None else iter(made)
        self.plan: list[Draw] = []

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - any function of PyTorch
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call a function, or replace it."""
        kwargs = kwargs or {}
        if func not in _REPLACED:
            return func(*args, **kwargs)
        if func is torch.ops.concordant.require_finite.default:
            return args[1]
        drops = func in _DROPOUT
        if drops and (not kwargs["training"] or kwargs["p"] == 0 or args[0].numel() == 0):
            return args[0]
        if self._made is not None:
            return args[0] * next(self._made) if drops else next(self._made)
        if drops:
            self.plan.append(partial(_mask, func, torch.empty_like(args[0], requires_grad=False), kwargs["p"]))
        else:
            self.plan.append(partial(_numbers, func, args, kwargs))
        return func(*args, **kwargs)


def plan_draws(step: Callable[[], object], device: torch.device) -> list[Draw]:
    """Return what a step of one seed draws; the global streams are put back."""
    draws = Draws()
    with seeding.Stream(0, "dropout", device=device), draws:
        step()
    return draws.plan


def _numbers(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], streams: Streams) -> Tensor:  # noqa: ANN401
    stream = streams.dropout if kwargs.get("generator") is None else streams.perturbation
    numbers: Tensor = func(*args, **{**kwargs, "generator": stream})
    return numbers


def _mask(func: Any, like: Tensor, p: float, streams: Streams) -> Tensor:  # noqa: ANN401
    """Return a dropout mask, 0 or 1 / (1 - p), per value (F.dropout) or per channel.

    Args:
        func: the dropout function.
        like: of the shape, type and order in memory of what is dropped; masks are filled in that order.
        p: probability that a value is dropped.
        streams: of the seed.
    """
    if func is F.dropout and like.is_cuda:
        # CUDA draws such a mask inside the operator that applies it, from the device's own generator alone.
        device = torch.cuda.default_generators[like.device.index]
        before = device.graphsafe_get_state()
        device.graphsafe_set_state(streams.dropout)
        try:
            dropped: Tensor = F.dropout(torch.ones_like(like), p)
        finally:
            device.graphsafe_set_state(before)
        return dropped
    mask = torch.empty_like(like) if func is F.dropout else like.new_empty(*like.shape[:2], *(1,) * (like.dim() - 2))
    return mask.bernoulli_(1 - p, generator=streams.dropout).div_(1 - p)
