"""Random numbers seed by seed: what each single run would draw, stacked, so that one pass can serve all seeds.

A single run draws dropout masks from PyTorch's global stream, seeded for the run, and perturbations from a generator
of its own. One pass of one model, watched, tells what is drawn, in which order, in which shape and from which of the
two (`Watch`); shapes depend on no values. Before every vectorised step the same draws are made for every seed from
generators in the same states (`Draws`), and the step is handed them where it would have drawn (`Replay`).
Axis letters: S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from concord.errors import ConcordError

Function = Callable[..., Any]
Fill = tuple[Callable[[Tensor, torch.Generator], None], Tensor, torch.Generator]
_WHOLE = (F.dropout, torch.dropout)  # a mask for every value
_FEATURES = (F.dropout1d, F.dropout2d, F.dropout3d, torch.feature_dropout)  # one for every channel
_PLAIN = {torch.rand: "uniform", torch.randn: "normal"}


class NotStackableError(ConcordError):
    """A pass draws what cannot be drawn seed by seed, or seeds differ where they must not; says what."""


@dataclass(frozen=True)
class Draw:
    """One draw of a pass.

    Args:
        kind: "uniform", "normal", or "keep": a dropout mask, 0 or 1 / (1 - p).
        explicit: drawn from the generator that was handed in; else from the global stream.
        shape: of one seed's.
        stride: of one seed's; a mask lies in memory as what it multiplies, and is filled in that order.
        dtype: of it.
        probability: of a dropout mask, that a value is dropped.
    """

    kind: str
    explicit: bool
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    probability: float = 0.0

    def fill(self, into: Tensor, generator: torch.Generator) -> None:
        """Draw for one seed, as a single run does."""
        if self.kind == "uniform":
            into.uniform_(generator=generator)
        elif self.kind == "normal":
            into.normal_(generator=generator)
        else:
            into.bernoulli_(1 - self.probability, generator=generator)


class Watch(TorchFunctionMode):
    """Write down what a pass of one model draws, and let it draw.

    Attributes:
        draws: in the order in which they were made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Draw] = []

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call the function; note it down if it draws."""
        named = dict(kwargs or {})
        if func in _WHOLE or func in _FEATURES:
            x, p = _dropout_of(args, named)
            if p > 0 and x.numel():
                # As PyTorch makes it on a CPU: like the input, or of features contiguous.
                like = torch.empty_like(x) if func in _WHOLE else x.new_empty(feature_shape(x))
                self.draws.append(Draw("keep", False, tuple(like.shape), like.stride(), x.dtype, p))
        elif func in _PLAIN:
            with _without_modes():
                made = func(*args, **named)
            explicit = named.get("generator") is not None
            self.draws.append(Draw(_PLAIN[func], explicit, tuple(made.shape), made.stride(), made.dtype))
            return made
        with _without_modes():
            return func(*args, **named)


class Replay(TorchFunctionMode):
    """Hand a vectorised pass the draws that were made for it, in order.

    Args:
        planned: what was watched.
        made: one tensor a draw; inside vmap each stands for one seed's.
    """

    def __init__(self, planned: Sequence[Draw], made: Sequence[Tensor]) -> None:
        super().__init__()
        self._coming = iter(zip(planned, made, strict=True))

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call the function, or return what was drawn for it."""
        if func in _PLAIN:
            _, made = next(self._coming)
            return made
        named = dict(kwargs or {})
        if func in _WHOLE or func in _FEATURES:
            x, p = _dropout_of(args, named)
            if p == 0 or not x.numel():
                return x
            planned, made = next(self._coming)
            shape = tuple(x.shape) if func in _WHOLE else feature_shape(x)
            if planned.shape != shape or planned.probability != p:
                raise NotStackableError(f"it drops values of shape {shape} where one seed alone has {planned.shape}")
            return x * made
        return func(*args, **named)


class Draws:
    """The generators of every seed, and room for what they draw.

    Args:
        planned: what a step draws.
        implicit: one generator a seed, in the state that a single run gives the global stream.
        explicit: one a seed, of the perturbations.
    """

    def __init__(
        self, planned: Sequence[Draw], implicit: Sequence[torch.Generator], explicit: Sequence[torch.Generator]
    ) -> None:
        self.planned = tuple(planned)
        self._sources = list(zip(implicit, explicit, strict=True))
        self._make_room()

    def next(self) -> list[Tensor]:
        """Return the next step's draws, (S, ...) each; what was returned before is overwritten."""
        for fill, into, source in self._fills:
            fill(into, source)
        for into, part in self._copies:
            into.copy_(part)
        for draw, room in zip(self.planned, self._room, strict=True):
            if draw.kind == "keep":
                room.div_(1 - draw.probability)
        return self._room

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the seeds at these places alone."""
        self._sources = [self._sources[place] for place in places]
        self._make_room()

    def _make_room(self) -> None:
        seeds = len(self._sources)
        self._room = [_room(draw, seeds) for draw in self.planned]
        self._fills: list[Fill] = []
        self._copies: list[tuple[Tensor, Tensor]] = []
        place = 0
        while place < len(self.planned):
            row = _row(self.planned[place:])
            if len(row) > 1:
                # Uniform draws in a row are one draw as long as all of them.
                lengths = [math.prod(draw.shape) for draw in row]
                whole = torch.empty(seeds, sum(lengths))
                for index, length in enumerate(lengths):
                    start = sum(lengths[:index])
                    room = self._room[place + index]  # copied to, so that what is handed out is contiguous
                    self._copies.append((room, whole[:, start : start + length].view(room.shape)))
                fill, rooms = row[0].fill, whole.unbind()
            else:
                fill, rooms = row[0].fill, self._room[place].unbind()
            for (implicit, explicit), into in zip(self._sources, rooms, strict=True):
                self._fills.append((fill, into, explicit if row[0].explicit else implicit))
            place += len(row)


def _row(coming: Sequence[Draw]) -> Sequence[Draw]:
    """Return the first draw, with those behind it that are one with it: uniform, from the same source."""
    first, count = coming[0], 1
    if first.kind == "uniform" and first.dtype == torch.float32:
        while count < len(coming) and (coming[count].kind, coming[count].explicit, coming[count].dtype) == (
            first.kind,
            first.explicit,
            first.dtype,
        ):
            count += 1
    return coming[:count]


def watch(step: Callable[[], object], device: torch.device | str = "cpu") -> list[Draw]:
    """Return what a step of one model draws from the global stream and from the generators that it uses.

    Args:
        step: is called once; it may draw as it likes, the global stream is put back.
        device: where it computes.

    Raises:
        NotStackableError: it draws in a way that cannot be handed in.
    """
    with torch.random.fork_rng(devices=[]):
        seen = Watch()
        before = torch.get_rng_state()
        with seen:
            step()
        spent = torch.get_rng_state()
        # The same draws once more: whatever else was drawn shows in the state of the stream.
        torch.set_rng_state(before)
        for draw in seen.draws:
            if not draw.explicit:
                draw.fill(_room(draw, 1)[0], torch.default_generator)
        if not torch.equal(torch.get_rng_state(), spent):
            raise NotStackableError("it draws random numbers in a way that cannot be repeated seed by seed")
    return seen.draws


def feature_shape(x: Tensor) -> tuple[int, ...]:
    """Return the shape of a mask of whole features: (B, C, 1, ...)."""
    return (*x.shape[:2], *(1 for _ in x.shape[2:]))


def _room(draw: Draw, seeds: int) -> Tensor:
    size = math.prod(draw.shape)
    return torch.empty_strided((seeds, *draw.shape), (size, *draw.stride), dtype=draw.dtype)


def _dropout_of(args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Tensor, float]:
    """Return the input and the probability of a call of a dropout function; 0 where it is not training."""
    x = args[0] if args else named["input"]
    p = args[1] if len(args) > 1 else named.get("p", 0.5)
    training = args[2] if len(args) > 2 else named.get("training", named.get("train", True))
    return x, float(p) if training else 0.0


def _without_modes() -> Any:  # noqa: ANN401 - a context manager of PyTorch's
    return torch._C.DisableTorchFunction()
