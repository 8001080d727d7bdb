"""The base class of fusions and their registry: modules from the features of all modalities to logits.

A fusion has its own head and does not depend on a calibrator before it.
Shapes: features in their layouts; masks (B, L) and present (B,) per modality; logits (B, C).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from concordant.errors import UsageError, checks
from concordant.modalities import AUTO, Layout, check_sizes, to_positions
from concordant.registry import Registry

Tensors = Mapping[str, Tensor]
Encoded = tuple[dict[str, Tensor], dict[str, Tensor]]  # features and masks
F = TypeVar("F", bound="type[Fusion]")


@dataclass(frozen=True)
class FeatureSpec:
    """The feature size D and the layout of one modality's features."""

    size: int
    layout: Layout


Specs = Mapping[str, FeatureSpec]


class Fusion(nn.Module):
    """Base class of the fusions: `encode` processes each modality alone, `join` combines them.

    A calibrator stands between the two; `forward` calls one after the other.

    Args:
        features: modality -> feature size and layout.
        classes: number of logits, C.

    Raises:
        UsageError: a keyword argument, here or in a subclass, is not of its type: integers are 1 or more, other numbers
            are not negative, and `dropout` is below 1.

    Attributes:
        names: the modalities, sorted, so the declared order has no influence.
        meeting: modality -> size and layout of the output of `encode`, the features just before they meet. A subclass
            whose `encode` changes them sets it.
    """

    may_be_zero: tuple[str, ...] = ()  # arguments of a constructor that count something there need not be

    def __new__(cls, *args: Any, **options: Any) -> Self:  # noqa: ANN401
        """Check the keyword arguments of all constructors, whichever subclass takes them."""
        known = [p for one in cls.__mro__ if "__init__" in vars(one) for p in _parameters(one)]
        with checks() as check:
            for name, annotation in known:
                if name in options and annotation == "int":
                    check.integer(name, options[name], 0 if name in cls.may_be_zero else 1)
                elif name in options and annotation == "float":
                    check.number(name, options[name], high=1 if name == "dropout" else math.inf)
        return super().__new__(cls)

    def __init__(self, features: Specs, *, classes: int) -> None:
        super().__init__()
        check_sizes({name: spec.size for name, spec in features.items()}, AUTO, fewest=1)
        self.specs = dict(features)
        self.meeting = dict(features)
        self.names = tuple(sorted(features))
        self.classes = classes
        self._extra: Tensor | None = None

    def forward(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C).

        Args:
            features: modality -> features in its layout.
            masks: modality -> bool (B, L), True at valid positions; no entry = all are valid.
            present: modality -> bool (B,), True where the instance has the modality; no entry = all have it.
        """
        encoded, left = self.encode(features, masks, present)
        return self.join(encoded, left, present)

    def encode(self, features: Tensors, masks: Tensors, present: Tensors) -> Encoded:
        """Return the features as `meeting` describes them, and their masks; by default unchanged.

        Rows of absent modalities may have any values. Some of the modalities may be given alone.
        """
        return dict(features), dict(masks)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C) from the output of `encode`, calibrated or not."""
        raise NotImplementedError

    def auxiliary_loss(self, labels: Tensor | None = None) -> Tensor:
        """Return the fusion's own loss of the last training pass, to add to the task's; 0 in evaluation or without one.

        Args:
            labels: class indices (B,) of that pass, for fusions whose modalities learn the task separately too.
        """
        if self.training and self._extra is not None:
            return self._extra
        like = next(self.parameters())
        return torch.zeros((), dtype=like.dtype, device=like.device)  # plain, even where parameters are sharded

    def positions(self, name: str, features: Tensors) -> Tensor:
        """Return one modality's encoded features in the shape (B, L, D)."""
        return to_positions(features[name], self.meeting[name].layout)

    def __getstate__(self) -> dict[str, Any]:
        # The last loss belongs to a graph, which neither pickles nor deep-copies.
        return {**super().__getstate__(), "_extra": None}  # type: ignore[no-untyped-call]


def _parameters(module: type) -> list[tuple[str, str]]:
    """Return name and annotation of a constructor's arguments."""
    return [(name, str(p.annotation)) for name, p in inspect.signature(module.__init__).parameters.items()]  # type: ignore[misc]


@dataclass(frozen=True)
class Published:
    """A fusion as its paper or the reference code has it, from the inputs on.

    Args:
        build: the class; takes feature specs of the inputs and keyword arguments with the published defaults.
        recipe: fields of the recipe that differ from the usual ones.
        steps: the modalities whose steps it reads; of the others it gets the mean over time.
    """

    build: type[Fusion]
    recipe: Mapping[str, Any]
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class FusionEntry:
    """A fusion that an experiment can choose.

    Args:
        build: the class; takes feature specs and keyword arguments, whose defaults are of the paper's order.
        setting: the inputs it was designed for: "vector", "sequence" or "convolutional".
        summary: one line.
        paper: authors, venue and year.
        small: keyword arguments with which it trains on two cores in minutes, without `dropout`, which the recipe of an
            experiment sets.
        most: the largest number of modalities, or None.
        points: where a calibrator can stand: "features", or "maps" and "pooled"; the first is the default. With two,
            `build` takes the choice as `at`.
        late: each modality stays a vector of its own until the end, so a decision can be made for each.
        head: one head follows one vector of all modalities.
        stages: with ResNet-18 streams, how many of the four stages precede the first exchange between modalities.
        published: the preset of this name; None = there is none.
    """

    build: type[Fusion]
    setting: str
    summary: str
    paper: str
    small: Mapping[str, Any] = field(default_factory=dict)
    most: int | None = None
    points: tuple[str, ...] = ("features",)
    late: bool = False
    head: bool = True
    stages: int = 4
    published: Published | None = None


FUSIONS: Registry[FusionEntry] = Registry("fusion")


def register(name: str, **entry: Any) -> Callable[[F], F]:  # noqa: ANN401 - the fields of `FusionEntry` but `build`
    """Return a decorator that registers a class in `FUSIONS`."""

    def enter(build: F) -> F:
        FUSIONS.add(name, FusionEntry(build, **entry))
        return build

    return enter


def presence_of(name: str, masks: Tensors, present: Tensors) -> Tensor | None:
    """Return bool (B,), True where a modality is present with a valid position; None = everywhere."""
    here, mask = present.get(name), masks.get(name)
    if mask is None:
        return here
    return mask.any(1) if here is None else here & mask.any(1)


def mean_of(values: Sequence[Tensor], here: Sequence[Tensor], otherwise: Tensor | None = None) -> Tensor:
    """Return the mean over the modalities that are present, from (B, ...) and bool (B,) of each.

    Where no modality is present it is `otherwise`; None = 0.
    """
    shape = (-1, *(1 for _ in values[0].shape[1:]))
    known = [torch.where(h.view(shape), v, 0) for v, h in zip(values, here, strict=True)]
    count = torch.stack(list(here)).sum(0).view(shape)
    mean = torch.stack(known).sum(0) / count.clamp(min=1)
    return mean if otherwise is None else torch.where(count > 0, mean, otherwise)


def zero_absent(x: Tensor, here: Tensor | None) -> Tensor:
    """Return vectors (B, D), 0 where `here`, bool (B,), is False; None = the modality is present everywhere."""
    return x if here is None else torch.where(here.unsqueeze(1), x, 0)


def masked_mean(x: Tensor, mask: Tensor | None, here: Tensor | None) -> Tensor:
    """Return the mean over valid positions, (B, L, D) -> (B, D), and 0 where the modality is absent."""
    if mask is None:
        mean = x.mean(1) if x.shape[1] != 1 else x.squeeze(1)
    else:
        valid = mask.unsqueeze(-1)
        mean = torch.where(valid, x, 0).sum(1) / valid.sum(1).clamp(min=1)
    return zero_absent(mean, here)


# The vector before the head, where calibration after fusion acts.


def head_of(fusion: Fusion) -> nn.Module:
    """Return the head of a fusion; raise UsageError if there is no single one for all modalities."""
    head = getattr(fusion, "head", None)
    if not isinstance(head, nn.Module):
        raise UsageError(f"{type(fusion).__name__} has no single head for all modalities; choose another fusion")
    return head


def head_width(fusion: Fusion) -> int:
    """Return H, the width of the vector before the head; raise UsageError as `head_of` does."""
    return next(layer.in_features for layer in head_of(fusion).modules() if isinstance(layer, nn.Linear))


@contextmanager
def scaled_head(fusion: Fusion, scale: Tensor | None) -> Iterator[None]:
    """Multiply the input of a fusion's head by a scale (B, H) while a block runs; None = leave it unchanged."""
    if scale is None:
        yield
        return
    handle = head_of(fusion).register_forward_pre_hook(lambda _, given: (given[0] * scale.to(given[0].dtype),))
    try:
        yield
    finally:
        handle.remove()
