"""The axes of tapped features: two forward passes, of a batch and of some of its rows, show where the instances are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from concordant.attach.containers import Path, at_path, elements_of, map_tensors, tensors_of
from concordant.attach.state import RandomState
from concordant.attach.taps import FOLDED, Tap, core_of, find_module, letters_of
from concordant.attach.tracing import Inputs, Key, Point, Trace, trace, untouched
from concordant.errors import UsageError
from concordant.modalities import AUTO, BY_AXES, LAYOUTS


@dataclass
class Probe:
    """What forward passes of an example and of some of its rows show.

    Args:
        trace: of the example.
        rows: the number of instances.
        batch: point -> the axis of its instances; None = unknown.
    """

    trace: Trace
    rows: int
    batch: dict[Key, int | None] = field(default_factory=dict)

    def layouts(self, point: Point) -> list[str]:
        """Return the layouts that a point may have."""
        if not torch.isfinite(point.value).all() or 0 in point.value.shape:
            return []
        return fitting_layouts(point.value.shape, self.batch.get(point.key), point.feature, self.rows)


def probe(model: nn.Module, inputs: Inputs, groups: Mapping[Path, tuple[str, bool]], method: str = "forward") -> Probe:
    """Run a model with an example, and with some of its rows; `groups` are path -> modality, whether it is a mask."""
    random = RandomState()

    def run(given: Inputs) -> Trace:
        random.restore()
        cloned: Any = map_tensors(given, lambda x: x.clone())
        return trace(model, cloned, [(at_path(cloned, path), *group) for path, group in groups.items()], method)

    whole = run(inputs)
    shapes = [tuple(at_path(inputs, path).shape) for path in groups]
    first = None
    for axis, count, exact in _hypotheses(shapes):
        kept = slice(1, count - 1) if count > 2 else slice(count, 2 * count)

        def resized(x: Tensor, axis: int = axis, count: int = count, exact: bool = exact) -> Tensor:
            times, rest = divmod(x.shape[axis], count) if x.dim() > axis else (0, 1)
            if rest or not times or (exact and times > 1):
                return x if not axis or x.dim() != 1 or x.shape[0] != count else resized(x, 0)
            return x.narrow(axis, times, (count - 2) * times) if count > 2 else torch.cat([x] * 3, axis)

        other = None
        with suppress(Exception):  # whatever a model raises that such rows do not fit
            other = run(map_tensors(inputs, resized))
        if other is None:
            continue
        total = count if count > 2 else 3 * count
        there = {point.key: point.value for point in other.points}
        found = Probe(whole, count)
        for point in whole.points:
            if point.key in there and whole.calls[point.key[0]] == other.calls[point.key[0]]:
                found.batch[point.key] = _compared(point.value, there[point.key], kept, total)
        outputs = zip(tensors_of(whole.output), tensors_of(other.output), strict=False)
        axes = [_compared(a, b, kept, total) for a, b in outputs if a.dim() and a.is_floating_point()]
        if (not axes or any(a is not None for a in axes)) and any(a is not None for a in found.batch.values()):
            return found
        first = first or found
    return Probe(whole, (first.rows if first else shapes[0][0] if shapes and shapes[0] else 1))


def _compared(one: Tensor, other: Tensor, kept: slice, total: int) -> int | None:
    """Return the axis of instances of two tensors, the larger of which has all of them."""
    return batch_axis(*((one, other) if one.numel() >= other.numel() else (other, one)), kept, total)


def resolve_layouts(
    model: nn.Module, taps: Mapping[str, Tap], layouts: Mapping[str, str], inputs: Inputs, method: str = "forward"
) -> dict[str, str]:
    """Return modality -> layout, "auto" replaced by what forward passes of the inputs show.

    Raises:
        UsageError: the axes cannot be told; the message names the layouts that fit. Or a layout that is not "auto" has
            its instances on another axis than the passes show.
    """
    core = core_of(model)
    groups = {path: ("", False) for path, x in elements_of(inputs) if x.dim() and not x.is_inference()}
    try:
        with untouched(core) as used:
            found = probe(used, inputs, groups, method)
            names = {id(module): name for name, module in used.named_modules()}
            at = {name: names[id(find_module(used, tap.name, name))] for name, tap in taps.items()}
    except Exception:
        return dict(layouts)
    resolved = dict(layouts)
    for name, tap in taps.items():
        keys = [(at[name], tap.call or 1, path) for path in (tap.path, (*tap.path, 0))]
        point = next((point for key in keys for point in found.trace.points if point.key == key), None)
        if point is None or not 2 <= point.value.dim() <= max(BY_AXES):
            continue
        fits, axis = found.layouts(point), found.batch.get(point.key)
        if layouts[name] != AUTO:
            letters = letters_of(layouts[name])
            if axis not in (None, letters.index("b")) and len(letters) == point.value.dim():
                raise UsageError(
                    f"layout[{name!r}] is {layouts[name]!r}, but the tap {tap.written!r} has its instances on axis "
                    f"{axis} of {tuple(point.value.shape)}; give the layout that it has, or 'auto'"
                )
            continue
        if not fits and axis is None:  # instances are counted in other ways; the calibrator checks the number of axes
            continue
        if len(fits) != 1:
            instances = "" if axis is None else f", instances on axis {axis}"
            raise UsageError(
                f"the layout of the tap {tap.written!r} of {name!r} cannot be told from its shape "
                f"{tuple(point.value.shape)} in a batch of {found.rows}{instances}; "
                + (
                    f"give layout={{{name!r}: ...}}: {' or '.join(map(repr, fits))}"
                    if fits
                    else "tap another submodule"
                )
            )
        resolved[name] = fits[0]
    return resolved


def _hypotheses(shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, int, bool]]:
    """Yield the axis of instances in the inputs, their number, and whether only axes of exactly that size are cut."""
    for axis in (0, 1):
        sizes = Counter(shape[axis] for shape in shapes if len(shape) > max(axis, 2 * axis))
        for count, _ in sizes.most_common(3):
            if count:
                yield axis, count, False
                yield axis, count, True


def fitting_layouts(shape: Sequence[int], batch: int | None, feature: int | None, rows: int) -> list[str]:
    """Return the layouts that a tensor may have, from its axes of instances and features; None = unknown.

    `rows` is the number of instances: a first axis that holds several times as many has frames folded into it.
    """
    folded = batch in (None, 0) and bool(shape) and rows > 0 and shape[0] != rows
    fits = []
    for written in FOLDED if folded else LAYOUTS:
        letters = letters_of(written)
        if len(letters) != len(shape) or (folded and shape[0] % rows):
            continue
        known = batch in (None, letters.index("b")) and feature in (None, max(letters.find("c"), letters.find("d")))
        if known and (folded or shape[letters.index("b")] == rows):
            fits.append(written)
    return fits


def batch_axis(whole: Tensor, part: Tensor, rows: slice, count: int) -> int | None:
    """Return the axis of instances, given a tensor of all instances and that of some of them; None = there is none.

    Along it the sizes are those of the instances, and values do not depend on which other instances are there.
    """
    if whole.dim() != part.dim():
        return None
    kept = rows.stop - rows.start
    for axis in range(whole.dim()):
        times, rest = divmod(whole.shape[axis], count)
        if rest or not times or part.shape[axis] != times * kept:
            continue
        same = whole.narrow(axis, rows.start * times, kept * times)
        if same.shape == part.shape and torch.allclose(same, part, rtol=1e-2, atol=1e-3, equal_nan=True):
            return axis
    return None
