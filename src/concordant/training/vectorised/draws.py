"""Random numbers seed by seed: what each single run would draw, stacked, so that one pass can serve all seeds.

A single run draws dropout masks from PyTorch's global stream, seeded for the run, and perturbations from a generator
of its own. One pass of one model, watched, tells what is drawn, in which order, in which shape and from which of the
two (`Watch`); shapes depend on no values. Before every vectorised step the same draws are made for every seed from
generators in the same states (`Draws`), and the step is handed them where it would have drawn (`Replay`).
A GPU makes dropout masks inside the operator that applies them, from its global stream alone; there each seed's draws
are made with that stream in the seed's state, by a CUDA graph (graphed.py).
Axis letters: S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from concordant.errors import ConcordantError
from concordant.training.vectorised.graphed import drawn

Function = Callable[..., Any]
_WHOLE = (F.dropout, torch.dropout)  # a mask for every value
_FEATURES = (F.dropout1d, F.dropout2d, F.dropout3d, torch.feature_dropout)  # one for every channel
_PLAIN = {torch.rand: "uniform", torch.randn: "normal"}


class NotStackableError(ConcordantError):
    """A pass draws what cannot be drawn seed by seed, or seeds differ where they must not; says what."""


@dataclass(frozen=True)
class Draw:
    """One draw of a pass.

    Args:
        kind: "uniform", "normal", or a dropout mask, 0 or 1 / (1 - p): "keep" of values, "keep features" of channels.
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
        """Draw for one seed, as a single run does; of a mask where it is not 0, see `undivided`.

        Args:
            into: of the draw's shape.
            generator: on a GPU, of what is implicit, the device's own: of masks of values there is no other.
        """
        if self.kind == "uniform":
            into.uniform_(generator=generator)
        elif self.kind == "normal":
            into.normal_(generator=generator)
        elif self.kind == "keep" and into.is_cuda:
            ones = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=into.device).fill_(1)
            into.copy_(torch.native_dropout(ones, self.probability, True)[0])
        else:
            into.bernoulli_(1 - self.probability, generator=generator)

    def undivided(self, device: torch.device) -> bool:
        """Whether what `fill` made is 1 where 1 / (1 - p) is meant; it is quicker to divide for all seeds at once."""
        return self.kind == "keep features" or (self.kind == "keep" and device.type != "cuda")


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
                # As PyTorch makes it: like the input, or of features contiguous.
                like = torch.empty_like(x) if func in _WHOLE else x.new_empty(feature_shape(x))
                kind = "keep" if func in _WHOLE else "keep features"
                self.draws.append(Draw(kind, False, tuple(like.shape), like.stride(), x.dtype, p))
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
        device: of the generators and of what is drawn.
    """

    def __init__(
        self,
        planned: Sequence[Draw],
        implicit: Sequence[torch.Generator],
        explicit: Sequence[torch.Generator],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.planned = tuple(planned)
        self._device = torch.device(device)
        self._sources = list(zip(implicit, explicit, strict=True))
        self._make_room()

    def next(self) -> list[Tensor]:
        """Return the next step's draws, (S, ...) each; what was returned before is overwritten."""
        for fill in self._fills:
            fill()
        for into, part in self._copies:
            into.copy_(part)
        for room, share in self._undivided:
            room.div_(share)
        return self._room

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the seeds at these places alone."""
        self._sources = [self._sources[place] for place in places]
        self._make_room()

    def _make_room(self) -> None:
        seeds = len(self._sources)
        self._room = [_room(draw, seeds, self._device) for draw in self.planned]
        self._undivided = [
            (room, 1 - draw.probability)
            for draw, room in zip(self.planned, self._room, strict=True)
            if draw.undivided(self._device)
        ]
        self._copies: list[tuple[Tensor, Tensor]] = []
        rows: list[list[tuple[Draw, Tensor]]] = [[] for _ in range(seeds)]  # what each seed draws, and where to
        place = 0
        while place < len(self.planned):
            row = _row(self.planned[place:], self._device)
            rooms = self._room[place].unbind()
            if len(row) > 1:
                # Uniform draws in a row are one draw as long as all of them.
                lengths = [math.prod(draw.shape) for draw in row]
                whole = torch.empty(seeds, sum(lengths), device=self._device)
                for index, length in enumerate(lengths):
                    start = sum(lengths[:index])
                    room = self._room[place + index]  # copied to, so that what is handed out is contiguous
                    self._copies.append((room, whole[:, start : start + length].view(room.shape)))
                rooms = whole.unbind()
            for mine, into in zip(rows, rooms, strict=True):
                mine.append((row[0], into))
            place += len(row)
        self._fills: list[Callable[[], None]] = [
            self._filling(mine, *source) for mine, source in zip(rows, self._sources, strict=True)
        ]

    def _filling(
        self, mine: Sequence[tuple[Draw, Tensor]], implicit: torch.Generator, explicit: torch.Generator
    ) -> Callable[[], None]:
        """Return what makes one seed's draws of a step."""
        if self._device.type != "cuda" or not mine:
            return partial(_fill, mine, implicit, explicit)
        stream = global_stream(self._device)
        return drawn(partial(_fill, mine, stream, explicit), implicit, explicit, stream)


def _fill(mine: Sequence[tuple[Draw, Tensor]], implicit: torch.Generator, explicit: torch.Generator) -> None:
    """Make one seed's draws of a step."""
    for draw, into in mine:
        draw.fill(into, explicit if draw.explicit else implicit)


def global_stream(device: torch.device | str) -> torch.Generator:
    """Return the generator that a device draws from where none is handed in."""
    place = torch.device(device)
    if place.type != "cuda":
        return torch.default_generator
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return torch.cuda.default_generators[torch.cuda.current_device() if place.index is None else place.index]


def _row(coming: Sequence[Draw], device: torch.device) -> Sequence[Draw]:
    """Return the first draw, with those behind it that are one with it: uniform, from the same source, on a CPU."""
    first, count = coming[0], 1
    if first.kind == "uniform" and first.dtype == torch.float32 and device.type == "cpu":
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
    place = torch.device(device)
    stream = global_stream(place)
    streams = [torch.default_generator] if place.type == "cpu" else [torch.default_generator, stream]
    before = [one.get_state() for one in streams]
    try:
        seen = Watch()
        with seen:
            step()
        spent = [one.get_state() for one in streams]
        # The same draws once more: whatever else was drawn shows in the state of a stream.
        for one, state in zip(streams, before, strict=True):
            one.set_state(state)
        for draw in seen.draws:
            if not draw.explicit:
                draw.fill(_room(draw, 1, place)[0], stream)
        again = [one.get_state() for one in streams]
    finally:
        for one, state in zip(streams, before, strict=True):
            one.set_state(state)
    if not all(torch.equal(one, other) for one, other in zip(again, spent, strict=True)):
        raise NotStackableError("it draws random numbers in a way that cannot be repeated seed by seed")
    return seen.draws


def feature_shape(x: Tensor) -> tuple[int, ...]:
    """Return the shape of a mask of whole features: (B, C, 1, ...)."""
    return (*x.shape[:2], *(1 for _ in x.shape[2:]))


def _room(draw: Draw, seeds: int, device: torch.device) -> Tensor:
    size = math.prod(draw.shape)
    return torch.empty_strided((seeds, *draw.shape), (size, *draw.stride), dtype=draw.dtype, device=device)


def _dropout_of(args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Tensor, float]:
    """Return the input and the probability of a call of a dropout function; 0 where it is not training."""
    x = args[0] if args else named["input"]
    p = args[1] if len(args) > 1 else named.get("p", 0.5)
    training = args[2] if len(args) > 2 else named.get("training", named.get("train", True))
    return x, float(p) if training else 0.0


def _without_modes() -> Any:  # noqa: ANN401 - a context manager of PyTorch's
    return torch._C.DisableTorchFunction()
