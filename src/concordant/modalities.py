"""Named features with masks and presence, and the checks of their shapes.

Axis letters, throughout the package: B batch, T time, D feature size, H W height and width, M modalities,
L positions of one modality (1 for a vector, T for a sequence, H*W or T*H*W for a map), K comparison size,
C classes. A layout names the axes of one modality's tensor: "bd", "btd", "bdt", "tbd", "bchw", "bhwc", "bcthw",
"bthwc" (c is a map's feature axis).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from concordant.errors import UsageError, checks, shown

AUTO = "auto"
LayoutName = Literal["auto", "bd", "btd", "bdt", "tbd", "bchw", "bhwc", "bcthw", "bthwc"]


@dataclass(frozen=True)
class Layout:
    """Where the axes of one modality's tensor are.

    Args:
        name: the axis letters, for example "btd".
        batch: index of the batch axis.
        feature: index of the feature axis: d, or c in a map.
        positions: indices of the axes over which features repeat, in order; none for a vector.
    """

    name: str
    batch: int
    feature: int
    positions: tuple[int, ...]


LAYOUTS: dict[str, Layout] = {
    name: Layout(
        name,
        name.index("b"),
        max(name.find("c"), name.find("d")),
        tuple(i for i, axis in enumerate(name) if axis in "thw"),
    )
    for name in get_args(LayoutName)[1:]
}
BY_AXES = {2: "bd", 3: "btd", 4: "bchw", 5: "bcthw"}  # number of axes -> the layout that "auto" stands for
_RESERVED = torch.nn.ModuleDict()  # its attributes cannot be keys of a module dictionary
_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class ModalityBatch:
    """Features that passed the checks, with everything about them in one shape.

    Args:
        names: every declared modality, in the declared order; column m of `present` is names[m].
        features: modality -> tensor in its layout; a modality absent from the whole batch has no entry.
        masks: modality -> bool (B, L), True at valid positions; no entry means that all are valid.
        present: bool (B, M), True where the instance has the modality and at least one valid position.
        layouts: modality -> its layout.
        all_present: True when no mask and no presence was given and no modality is left out or empty: every instance
            has every modality at every position.
    """

    names: tuple[str, ...]
    features: dict[str, Tensor]
    masks: dict[str, Tensor]
    present: Tensor
    layouts: dict[str, Layout]
    all_present: bool

    @property
    def size(self) -> int:
        """Number of instances, B."""
        return self.present.shape[0]

    def column(self, name: str) -> Tensor:
        """Presence of one modality, bool (B,)."""
        return self.present[:, self.names.index(name)]

    def positions(self, name: str) -> Tensor:
        """Features of one modality as (B, L, D); see `to_positions`."""
        return to_positions(self.features[name], self.layouts[name])

    def valid(self, name: str) -> Tensor | None:
        """Where a modality's features count: bool (B, L), or (B, 1) without a mask; None = everywhere."""
        if self.all_present:
            return None
        here = self.present[:, self.names.index(name), None]
        return here & self.masks[name] if name in self.masks else here


def check_sizes(
    sizes: Mapping[str, int], layouts: str | Mapping[str, str], *, fewest: int = 2
) -> tuple[dict[str, int], dict[str, str]]:
    """Check declared modalities and return modality -> feature size, and modality -> layout name.

    Args:
        sizes: modality -> feature size.
        layouts: one for all, or modality -> layout; "auto", also of those without an entry: read from the tensor.
        fewest: how many modalities there must be.

    Raises:
        UsageError: all faults at once: fewer modalities than that, sizes that are not positive integers,
            unknown layouts, layouts of modalities that are not declared.
    """
    if not isinstance(sizes, Mapping):
        raise UsageError(f"sizes must be a dictionary from modality to feature size; found {shown(sizes)}")
    if not isinstance(layouts, (str, Mapping)):
        raise UsageError(f"layouts must be a layout, or a dictionary from modality to layout; found {shown(layouts)}")
    found, given = {}, dict.fromkeys(sizes, layouts) if isinstance(layouts, str) else dict(layouts)
    with checks() as check:
        least = "two modalities" if fewest == 2 else "one modality"
        check.require(len(sizes) >= fewest, f"sizes must name at least {least}; found {list(sizes) or 'none'}")
        for name, size in sizes.items():
            plain = isinstance(name, str) and name and "." not in name and not hasattr(_RESERVED, name)
            check.require(
                bool(plain), f"{name!r} cannot name a modality: use a plain word, without dots, unknown to PyTorch"
            )
            whole = isinstance(size, Integral) and not isinstance(size, bool) and 0 < size < 2**31
            message = f"sizes[{name!r}] must be a positive integer, the feature size; found {shown(size)}"
            check.require(whole, message)
            found[name] = int(size) if whole else 1
        choices = (AUTO, *LAYOUTS)
        for name, layout in given.items():
            check.require(name in sizes, f"layouts names {name!r}, which is not among the modalities {list(sizes)}")
            known = isinstance(layout, str) and layout in choices
            message = f"unknown layout {shown(layout)} for {name!r}; choose from: {', '.join(choices)}"
            check.require(known, message)
    return found, {name: given.get(name, AUTO) for name in sizes}


def values_are_known() -> bool:
    """Return True where Python control flow may depend on tensor values: in plain eager code.

    False while compiling, exporting or tracing, and inside a `torch.func` transform.

    >>> values_are_known()
    True
    >>> torch.func.vmap(lambda x: x * values_are_known())(torch.ones(2)).tolist()
    [0.0, 0.0]
    """
    recorded = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    return not recorded and torch._C._functorch.maybe_current_level() is None


def as_tensor(value: Any) -> Any:  # noqa: ANN401 - as given
    """Return the tensor of a NumPy array (a copy, if PyTorch cannot share it); anything else as it is."""
    if isinstance(value, Tensor) or not hasattr(value, "__array__"):
        return value
    import numpy as np

    array = np.asarray(value)
    try:
        return torch.as_tensor(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError):  # text, objects, or reversed in memory
        return torch.tensor(array.copy()) if array.dtype.kind in "fiub" else value


def gather(
    features: Mapping[str, Tensor],
    *,
    sizes: Mapping[str, int],
    layouts: Mapping[str, str],
    masks: Mapping[str, Tensor] | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> ModalityBatch:
    """Check one batch and bring its masks and presence into one shape.

    Args:
        features: modality -> floating point tensor (or NumPy array, here and below) in its layout. Modalities may
            differ in size, length, layout and dtype; a modality may be left out, and is then absent from the whole
            batch.
        sizes: modality -> feature size D.
        layouts: modality -> layout name or "auto" (2 axes "bd", 3 "btd", 4 "bchw", 5 "bcthw").
        masks: modality -> bool, batch first, then the layout's positions: (B, T) for sequences,
            (B, H, W) for maps, (B, T) or (B, T, H, W) for films, or flat (B, L); True = valid.
            None = all valid. A sequence without a valid step is absent.
        present: modality -> bool (B,), True = the instance has it. None = all present.

    Raises:
        UsageError: names the modality, what was expected and what was found.
    """
    if not isinstance(features, Mapping) or not features:
        raise UsageError(
            f"features must be a dictionary from modality to tensor with at least one of {list(sizes)}; "
            f"found {'an empty one' if isinstance(features, Mapping) else type(features).__name__}"
        )
    masks = {} if masks is None else masks
    present = {} if present is None else present
    for argument, given in (("features", features), ("masks", masks), ("present", present)):
        if not isinstance(given, Mapping):
            raise UsageError(f"{argument} must be a dictionary from modality to tensor; found {type(given).__name__}")
        unknown = [name for name in given if name not in sizes]
        if unknown:
            raise UsageError(f"{argument} names {unknown}; the modalities are {list(sizes)}")
    features, masks, present = (
        {name: x if isinstance(x, Tensor) else as_tensor(x) for name, x in given.items()}
        for given in (features, masks, present)
    )
    resolved = {name: _check_features(name, x, sizes[name], layouts[name]) for name, x in features.items()}
    first = next(iter(features))
    batch = features[first].shape[resolved[first].batch]
    device = features[first].device
    for name, x in features.items():
        if x.shape[resolved[name].batch] != batch:
            raise UsageError(
                f"features[{name!r}] has {x.shape[resolved[name].batch]} instances and features[{first!r}] "
                f"has {batch}; all modalities of a call need the same batch size"
            )
        if x.device != device:
            raise UsageError(f"features[{name!r}] is on {x.device} and features[{first!r}] on {device}")
    flat = {}
    for name, mask in masks.items():
        if name not in features:
            raise UsageError(f"masks names {name!r}, but features has no such modality in this call")
        flat[name] = _check_mask(name, mask, features[name], resolved[name])
    columns = [_presence(name, features, present, flat, batch, device) for name in sizes]
    return ModalityBatch(
        names=tuple(sizes),
        features=dict(features),
        masks=flat,
        present=torch.stack(columns, 1),
        layouts=resolved,
        all_present=not masks and not present and all(n in features and features[n].numel() for n in sizes),
    )


def to_positions(x: Tensor, layout: Layout) -> Tensor:
    """View a modality's tensor as (B, L, D)."""
    if not layout.positions:
        return x.unsqueeze(1)
    moved = x.permute(layout.batch, *layout.positions, layout.feature)
    return moved.flatten(1, -2)


def from_positions(values: Tensor, like: Tensor, layout: Layout) -> Tensor:
    """Bring (B, L, D) back into the shape of `like`, a tensor in `layout`."""
    if not layout.positions:
        return values.squeeze(1)
    order = (layout.batch, *layout.positions, layout.feature)
    moved = values.reshape([like.shape[axis] for axis in order])
    return moved.permute([order.index(axis) for axis in range(like.dim())])


def over(values: Tensor, like: Tensor, layout: Layout) -> Tensor:
    """Bring values (B, L, D), any of whose axes may have length 1, into a shape that broadcasts over `like`."""
    size, length, width = values.shape
    of = {layout.batch: size, layout.feature: width}
    shape = [of.get(axis, 1 if length == 1 else like.shape[axis]) for axis in range(like.dim())]
    order = (layout.batch, *layout.positions, layout.feature)
    moved = values.reshape([shape[axis] for axis in order])
    return moved.permute([order.index(axis) for axis in range(like.dim())])


def _check_features(name: str, x: Tensor, size: int, layout: str) -> Layout:
    """Return the layout of one modality's tensor after checking it."""
    if not isinstance(x, Tensor) or x.dtype not in _PRECISIONS or x.layout != torch.strided or x.is_nested:
        found = type(x).__name__
        if isinstance(x, Tensor):
            found = f"a tensor of {x.dtype}" + ("" if x.layout == torch.strided else f", {x.layout}")
        raise UsageError(f"features[{name!r}] must be a floating point tensor; found {found}")
    if layout == AUTO:
        if x.dim() not in BY_AXES:
            raise UsageError(f"features[{name!r}] must have 2 to 5 axes; found shape {tuple(x.shape)}")
        layout = BY_AXES[x.dim()]
    where = LAYOUTS[layout]
    if x.dim() != len(layout) or x.shape[where.feature] != size:
        raise UsageError(
            f"features[{name!r}] must have layout {layout!r} with feature size {size}; found shape {tuple(x.shape)}"
        )
    return where


def _check_mask(name: str, mask: Tensor, x: Tensor, layout: Layout) -> Tensor:
    """Return the mask of one modality as bool (B, L)."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise UsageError(f"masks[{name!r}] must be a bool tensor, True at valid positions; found {found}")
    if not layout.positions:
        raise UsageError(f"masks[{name!r}] is given for a vector; mark in `present` which instances have it")
    batch = x.shape[layout.batch]
    expected: Sequence[int] = (batch, *(x.shape[axis] for axis in layout.positions))
    if {"t", "h"} <= set(layout.name) and tuple(mask.shape) == tuple(expected[:2]):
        mask = mask[:, :, None, None].expand(*expected)
    if mask.dim() == 2 and mask.shape[0] == batch and mask.shape[1] == math.prod(expected[1:]):
        mask = mask.reshape(*expected)  # positions flat, as everything inside has them
    if tuple(mask.shape) != tuple(expected):
        raise UsageError(f"masks[{name!r}] must have shape {tuple(expected)}; found {tuple(mask.shape)}")
    if mask.device != x.device:
        raise UsageError(f"masks[{name!r}] is on {mask.device} and features[{name!r}] on {x.device}")
    return mask.flatten(1)


def _presence(
    name: str,
    features: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    batch: int,
    device: torch.device,
) -> Tensor:
    """Return bool (B,): the instance has the modality by `present`, and a valid position of it by its mask."""
    here = present.get(name)
    if here is not None:
        if not isinstance(here, Tensor) or here.dtype != torch.bool or tuple(here.shape) != (batch,):
            found = f"{here.dtype} {tuple(here.shape)}" if isinstance(here, Tensor) else type(here).__name__
            raise UsageError(f"present[{name!r}] must be a bool tensor of shape ({batch},); found {found}")
        if name not in features and values_are_known() and bool(here.any()):
            raise UsageError(f"present[{name!r}] is True somewhere, but features has no such modality")
    if name not in features or features[name].numel() == 0:
        return torch.zeros(batch, dtype=torch.bool, device=device)
    has = torch.ones(batch, dtype=torch.bool, device=device) if here is None else here.to(device)
    return has & masks[name].any(1) if name in masks else has
