"""The space of a search: which values each field of the recipe may take, and draws from it.

Every draw has a stream of its own, by field and candidate: a field more, or a larger budget, changes no other draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from concordant import seeding
from concordant.faults import explain
from concordant.training.config import Recipe

FIELDS = tuple(Recipe.model_fields)
SPANNED = tuple(name for name, field in Recipe.model_fields.items() if field.annotation is float)
KINDS = ("log", "uniform")
DIGITS = 4  # significant, of a drawn number: more would not be told apart


@dataclass(frozen=True)
class Choices:
    """A field that takes one of some values, each as likely.

    Args:
        values: one or more.
    """

    values: tuple[float | int, ...]

    def at(self, place: float) -> float | int:
        """Return the value at a place of [0, 1)."""
        return self.values[int(place * len(self.values))]


@dataclass(frozen=True)
class Span:
    """A field that takes any number between two.

    Args:
        low: the lower end.
        high: the higher end.
        log: draw evenly on a logarithmic scale, instead of a linear one.
    """

    low: float
    high: float
    log: bool

    def at(self, place: float) -> float:
        """Return the number at a place of [0, 1), to four significant digits.

        >>> Span(1e-4, 1e-2, log=True).at(0.5), Span(0, 1, log=False).at(0.25)
        (0.001, 0.25)
        """
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + place * (self.high - self.low)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Space = Mapping[str, Choices | Span]


def draw(space: Space, candidate: int, *, seed: int = 0) -> dict[str, float | int]:
    """Return the recipe fields of one candidate.

    Args:
        space: what is searched.
        candidate: its number, from 0.
        seed: of the search.

    >>> space = {"dropout": Choices((0.1, 0.3, 0.5))}
    >>> draw(space, 3)["dropout"] == draw({**space, "learning_rate": Span(1e-4, 1e-2, log=True)}, 3)["dropout"]
    True
    """
    found = {}
    for name, values in space.items():
        stream = seeding.generator(seed, "search", name, candidate)
        found[name] = values.at(float(torch.rand((), generator=stream, dtype=torch.float64)))
    return found


def read_space(given: Mapping[str, Any]) -> tuple[dict[str, Choices | Span], list[str]]:
    """Return the space that a grid file describes, and what is wrong with it, a sentence each.

    Args:
        given: field of the recipe -> a list of values, or {log: [low, high]} or {uniform: [low, high]}.
    """
    space: dict[str, Choices | Span] = {}
    faults: list[str] = []
    for name, values in given.items():
        if name not in FIELDS:
            faults.append(f"unknown field {name!r}; choose from: {', '.join(FIELDS)}")
        elif isinstance(values, list) and values:
            space[name] = Choices(tuple(_checked(name, value, faults) for value in values))
        elif isinstance(values, dict) and len(values) == 1 and next(iter(values)) in KINDS:
            _span(name, *next(iter(values.items())), space, faults)
        else:
            faults.append(
                f"{name} must be a list of values, {{log: [low, high]}} or {{uniform: [low, high]}}; found {values!r}"
            )
    return space, faults


def written(space: Space) -> dict[str, Any]:
    """Return a space as the grid file has it."""
    return {
        name: list(values.values)
        if isinstance(values, Choices)
        else {"log" if values.log else "uniform": [values.low, values.high]}
        for name, values in space.items()
    }


def _span(name: str, kind: str, ends: object, space: dict[str, Choices | Span], faults: list[str]) -> None:
    """Take one span into the space, or its faults."""
    before = len(faults)
    if name not in SPANNED:
        faults.append(f"{name} takes whole numbers; list the values to try, such as [32, 64]")
    elif not isinstance(ends, list) or len(ends) != 2:
        faults.append(f"{name}.{kind} must be [low, high]; found {ends!r}")
    else:
        low, high = (float(_checked(name, end, faults)) for end in ends)
        if len(faults) > before:
            return
        if not low < high:
            faults.append(f"{name}.{kind} must have the lower number first; found {ends!r}")
        elif kind == "log" and low <= 0:
            faults.append(f"{name}.log must be above 0; found {ends!r}")
        else:
            space[name] = Span(low, high, kind == "log")


def _checked(name: str, value: object, faults: list[str]) -> float | int:
    """Return a value as the recipe takes it; 0 with a fault where it does not."""
    try:
        recipe = Recipe.model_validate({name: value})
    except ValidationError as error:
        faults.append(explain(error))
        return 0
    taken: float | int = getattr(recipe, name)
    return taken
