"""Where to tap a model: the last outputs of submodules that depend on one modality alone, and their layouts.

Two forward passes tell, of the example and of some of its rows: which tensors depend on which inputs, on which axis the
instances are, and where modalities meet. Names of classes play no part.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from concordant.attach import attach
from concordant.attach.arguments import parameters_of
from concordant.attach.axes import Probe, probe
from concordant.attach.containers import Path, at_path, elements_of
from concordant.attach.example import UnusedTapError, as_inputs, run_and_check
from concordant.attach.taps import check_taps, core_of, read_tap
from concordant.attach.tracing import Inputs, Origin, untouched
from concordant.errors import ConcordantError, UsageError, shown
from concordant.modalities import AUTO, BY_AXES, check_sizes

_KEPT = 5  # candidates that are returned
_TRIED = 40  # combinations that are tried
# Words in the names of arguments that say which values count, or where they are, and of those for the loss.
_MASKS = {
    *("mask", "masks", "padding", "pad", "position", "positions", "pos", "segment", "segments", "type", "types"),
    *("length", "lengths", "len", "lens", "present", "valid", "sizes", "thw", "shapes"),
}
_TARGETS = {"label", "labels", "target", "targets"}


@dataclass(frozen=True)
class TapPoint:
    """The tap of one modality.

    Args:
        tap: as `attach` takes it: "net.audio", "net.audio#2", "net.audio[1]"; or the address of an argument.
        layout: of the feature.
        shape: of the feature in the example.
        meets: the function, and the submodule, in which the modality first meets another one.
        normalised: whether something between the tap and that place normalises the feature, which undoes a factor.
        whole: whether all that meets the others has passed the tap; the rest of it goes past the calibrator.
        raw: whether it is an argument of forward as it comes in.
    """

    tap: Any
    layout: str
    shape: tuple[int, ...]
    meets: str
    normalised: bool
    whole: bool = True
    raw: bool = False


@dataclass(frozen=True)
class TapCandidate:
    """One tap per modality; give `attach` its `taps`, `layout` and `at`.

    Args:
        points: modality -> its tap.
        at: "" where all are the model's own inputs, None where submodules are tapped.
    """

    points: Mapping[str, TapPoint]
    at: str | None = None

    @property
    def taps(self) -> dict[str, Any]:
        """Modality -> tap."""
        return {name: point.tap for name, point in self.points.items()}

    @property
    def layout(self) -> dict[str, str]:
        """Modality -> layout."""
        return {name: point.layout for name, point in self.points.items()}

    @property
    def line(self) -> str:
        """The line of Python that attaches a calibrator there."""
        at = "" if self.at is None else f", at={self.at!r}"
        return f"attach(model, {self.taps}{at}, layout={self.layout})"


class TapCandidates(tuple[TapCandidate, ...]):
    """Candidates, best first; a table when printed."""

    def __str__(self) -> str:
        rows = [("", "modality", "tap", "layout", "shape", "meets others in", "normalised behind", "goes past")]
        for number, candidate in enumerate(self, 1):
            for name, point in candidate.points.items():
                what = (f"input {point.tap!r}" if point.raw else point.tap, point.layout)
                marks = ("yes" if point.normalised else "", "" if point.whole else "a part")
                rows.append((str(number), name, *what, str(point.shape), point.meets, *marks))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        cells = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in cells)


def find_taps(model: nn.Module, example: Any, inputs: Mapping[str, Any] | None = None) -> TapCandidates:  # noqa: ANN401
    """Find where the modalities of a model can be tapped: the last places where none has met another.

    The model stays as it was: a copy runs. Every candidate returned has been attached to the copy and run with the
    example.

    Args:
        model: any module.
        example: one batch of inputs, three instances or more: a tensor, a tuple, or a dictionary of keyword arguments.
        inputs: modality -> the arguments it consists of, by name or position or as a path such as (0, "audio"), one or
            a list. None = every tensor among the arguments is a modality of its own name. Masks, positions and lengths
            are recognised by name and type, and belong to the modality whose name or shape they share.

    Returns:
        At most five candidates, best first: modality -> tap, layout, shape and where it meets the others.

    Raises:
        UsageError: the model has fewer than two modalities, or none of its outputs depends on one alone.

    >>> class Model(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.audio, self.visual, self.head = nn.Linear(4, 3), nn.Conv1d(5, 3, 1), nn.Linear(6, 2)
    ...
    ...     def forward(self, sound, film):
    ...         return self.head(torch.cat([self.audio(sound), self.visual(film).mean(2)], 1))
    >>> found = find_taps(Model(), (torch.randn(4, 4), torch.randn(4, 5, 9)))
    >>> found[0].taps, found[0].layout
    ({'sound': 'audio', 'film': 'visual'}, {'sound': 'bd', 'film': 'bdt'})
    """
    return _found(model, example, inputs, _KEPT)


def best_taps(model: nn.Module, example: Any) -> TapCandidate:  # noqa: ANN401
    """Return the first candidate of `find_taps`, without a look for others."""
    return _found(model, example, None, 1)[0]


def _found(model: nn.Module, example: Any, inputs: Mapping[str, Any] | None, kept: int) -> TapCandidates:  # noqa: ANN401
    """Return the first candidates that a calibrator can be attached to, `kept` at most; errors are `find_taps`'."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a torch.nn.Module; found {type(model).__name__}")
    core, given = core_of(model), as_inputs(example)
    groups = _grouped(core, given, inputs)
    with untouched(core) as used:
        found = probe(used, given, groups)
        names = [name for name in _modalities(groups) if inputs is not None or name in found.trace.inputs]
        if len(names) < 2:
            raise UsageError(
                f"the example has fewer than two modalities that the model reads ({', '.join(names) or 'none'}); name "
                'them by `inputs`, such as {"text": ["input_ids"], "image": ["pixel_values"]}'
            )
        good: list[TapCandidate] = []
        last, unused = "", set[tuple[str, TapPoint]]()
        candidates = _candidates(core, given, groups, found, names)
        sound = (one for one in candidates if not unused.intersection(one.points.items()))
        for candidate in itertools.islice(sound, _TRIED):
            try:
                _attempt(used, candidate, example)
            except UnusedTapError as error:
                last = str(error)
                unused.add((error.modality, candidate.points[error.modality]))
            except ConcordantError as error:
                last = str(error)
            except Exception as error:
                last = f"{type(error).__name__}: {error}".split("\n")[0]
            else:
                good.append(candidate)
            if len(good) == kept:
                break
    if not good:
        raise UsageError(
            f"no outputs of submodules depend on one of {', '.join(names)} alone and can be tapped"
            + (f" ({last})" if last else "".join(f" ({why})" for name in names if (why := _untapped(found, name))))
            + "; group the arguments by `inputs`, or give taps to attach"
        )
    return TapCandidates(good)


def _grouped(core: nn.Module, inputs: Inputs, wanted: Mapping[str, Any] | None) -> dict[Path, tuple[str, bool]]:
    """Return path of a tensor among the arguments -> the modality it belongs to, and whether it is a mask of it."""
    parameters = parameters_of(core)
    walked = {path: x for path, x in elements_of(inputs) if x.dim()}
    named = {path: _named(path, parameters) for path in walked}
    groups: dict[Path, tuple[str, bool]] = {}
    if wanted is None:
        short = Counter(names[-1] for names in named.values())
        for path, x in walked.items():
            words = set(_words(named[path]))
            if not _is_mask(x, words) and not words & _TARGETS:
                one = str(named[path][-1])
                plain = "_".join(map(str, named[path])) if short[one] > 1 or one.isdigit() else one
                groups[path] = (_allowed(plain), False)
    else:
        if not isinstance(wanted, Mapping) or not all(isinstance(name, str) for name in wanted):
            raise UsageError(f"inputs must be modality -> names of arguments; found {shown(wanted)}")
        for name, addresses in wanted.items():
            for address in addresses if isinstance(addresses, list) else [addresses]:
                keys = address if isinstance(address, tuple) else (address,)
                under = [path for path in walked if _leads(keys, path, named[path])]
                if not under:
                    there = ", ".join(dict.fromkeys(".".join(map(str, names)) for names in named.values()))
                    raise UsageError(f"inputs[{name!r}] names {address!r}, which the example has not; it has {there}")
                groups |= {path: (name, _is_mask(walked[path], set(_words(named[path])))) for path in under}
        for name in wanted:
            if all(mask for modality, mask in groups.values() if modality == name):
                groups |= {path: (name, False) for path, (modality, _) in groups.items() if modality == name}
    owners = {path: name for path, (name, mask) in groups.items() if not mask}
    for path, x in walked.items():
        words = set(_words(named[path]))
        if path not in groups and _is_mask(x, words) and owners:
            scores = {owner: (len(words & set(_words(named[owner]))), _shared(x, walked[owner])) for owner in owners}
            best = max(scores, key=scores.__getitem__)
            if scores[best] > (0, 0):
                groups[path] = (owners[best], True)
    return groups


def _modalities(groups: Mapping[Path, tuple[str, bool]]) -> list[str]:
    return list(dict.fromkeys(name for name, mask in groups.values() if not mask))


def _named(path: Path, parameters: Sequence[str]) -> Path:
    """Return a path among (args, kwargs) with the name of the argument in front."""
    if path[0] == 1:
        return path[1:]
    first = parameters[int(path[1])] if int(path[1]) < len(parameters) else f"input{path[1]}"
    return (first, *path[2:])


def _words(names: Path) -> list[str]:
    return [
        word for name in names for word in re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", str(name)).lower())
    ]


def _leads(keys: Path, path: Path, named: Path) -> bool:
    """Return whether an address leads to the container or tensor at a path."""
    whole = (path[1:], named)
    last = len(named) > 1 and keys[0] in named[1:2]  # a key of the only argument
    return any(one[: len(keys)] == keys for one in whole) or last


def _is_mask(x: Tensor, words: set[str]) -> bool:
    """Return whether a tensor says which values count, or where they are, rather than being values."""
    if x.dtype == torch.bool:
        return True
    return bool(words & _MASKS) and (not x.is_floating_point() or x.dim() < 3 or bool(((x == 0) | (x == 1)).all()))


def _shared(x: Tensor, other: Tensor) -> int:
    """Return how many leading axes two tensors share, beyond the first; -1 = not even that one."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(x.shape, other.shape, strict=False))
    return sum(1 for _ in same) - 1


def _allowed(name: str) -> str:
    """Return a name that a modality may have."""
    name = re.sub(r"\W", "_", name)
    try:
        check_sizes({name: 1}, AUTO, fewest=1)
    except UsageError:
        return f"{name}_input"
    return name


def _candidates(
    core: nn.Module, inputs: Inputs, groups: Mapping[Path, tuple[str, bool]], found: Probe, names: Sequence[str]
) -> Iterator[TapCandidate]:
    """Yield combinations of taps, best first; an argument is the first tap of a modality that meets others as it is."""
    ranked = {}
    for name in names:
        taps, given = _ranked(found, name)[:7], _argument(core, inputs, groups, found, name)
        first = any(not origin.passed for origin, _ in _ways(found, name))
        ranked[name] = [*given, *taps] if first else [*taps, *given]
    orders = _orders([len(points) for points in ranked.values()])
    for order in itertools.islice(orders, 25 * _TRIED):
        points = {name: ranked[name][number] for name, number in zip(names, order, strict=True)}
        try:
            check_taps(core, {name: read_tap(point.tap, name) for name, point in points.items() if not point.raw})
        except UsageError:
            continue
        yield TapCandidate(points, at="" if all(point.raw for point in points.values()) else None)


def _argument(
    core: nn.Module, inputs: Inputs, groups: Mapping[Path, tuple[str, bool]], found: Probe, name: str
) -> list[TapPoint]:
    """Return the argument that a modality comes in as, if it can be calibrated."""
    for path, (modality, mask) in groups.items():
        x = at_path(inputs, path)
        if modality == name and not mask and x.is_floating_point() and x.dim() in BY_AXES:
            where = found.trace.meetings.get(name, [])
            plain = len(path) == 2 and path[1] not in dict(core.named_modules())
            address = path[1] if plain else path[1:]
            return [TapPoint(address, BY_AXES[x.dim()], tuple(x.shape), where[0][1] if where else "", False, raw=True)]
    return []


def _orders(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield one index per size, those of the smallest sum first, then those of the smallest maximum."""
    first = (0,) * len(sizes)
    waiting, known = [(0, 0, first)] if all(sizes) else [], {first}
    while waiting:
        total, _, order = heapq.heappop(waiting)
        yield order
        for axis, size in enumerate(sizes):
            after = (*order[:axis], order[axis] + 1, *order[axis + 1 :])
            if after[axis] < size and after not in known:
                known.add(after)
                heapq.heappush(waiting, (total + 1, max(after), after))


def _ways(found: Probe, name: str) -> list[tuple[Origin, str]]:
    """Return what one modality brings to the places where it meets others, or to the output if it meets none."""
    meetings = found.trace.meetings.get(name, [])
    return [(origin, where) for origin, where in meetings if where != "the output"] or meetings


def _untapped(found: Probe, name: str) -> str:
    """Return why a modality has no point that can be tapped; empty = it has one."""
    ways, shapes = _ways(found, name), [tuple(one.value.shape) for one in found.trace.points if one.name == name]
    if not ways or _ranked(found, name):
        return "" if ways else f"nothing of {name!r} reaches another modality or the output"
    if not shapes:
        where = "let it pass through an nn.Identity of the model where it has an axis of features"
        return f"{name!r} meets others as it is, {ways[0][1]}; {where}"
    return f"what submodules make of {name!r} fits no layout: {shapes[-1]}"


def _ranked(found: Probe, name: str) -> list[TapPoint]:
    """Return the points of one modality, best first: those that every way passes, the later the better."""
    ways = _ways(found, name)
    if not ways:
        return []
    every = frozenset.intersection(*(origin.through or frozenset() for origin, _ in ways))
    some = frozenset().union(*(origin.passed for origin, _ in ways))
    normed = frozenset().union(*(origin.normed for origin, _ in ways))
    outer: dict[tuple[int, bool], int] = {}
    for number in sorted(some):  # of nested submodules with one output the outermost
        outer[id(found.trace.points[number].value), number in every] = number
    ordered = sorted(
        some,
        key=lambda n: (
            n not in every,
            n not in (ways[0][0].through or ()),  # the first meeting, where the modality is joined, before later uses
            outer[id(found.trace.points[n].value), n in every] != n,
            found.trace.points[n].value.shape[-1:] == (1,),
            -n,
        ),
    )
    points = []
    for number in ordered:
        point = found.trace.points[number]
        module, call, path = point.key
        written = module + (f"#{call}" if found.trace.calls[module] > 1 else "") + "".join(f"[{key}]" for key in path)
        for layout in found.layouts(point)[:2]:
            shape = tuple(point.value.shape)
            points.append(TapPoint(written, layout, shape, ways[0][1], number in normed, number in every))
    return points


def _attempt(used: nn.Module, candidate: TapCandidate, example: Any) -> None:  # noqa: ANN401
    """Attach a calibrator to a copy of the model and run it, which changes the copy; raise what goes wrong."""
    run_and_check(attach(used, candidate.taps, at=candidate.at, layout=candidate.layout, seed=0), example)
