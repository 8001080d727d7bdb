"""Random search of a recipe: the space, draws from it, and the choice by validation scores alone.

Every draw has a stream of its own, by field and candidate: one more field or a larger budget changes no other draw.
All variants get the same candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from concordant import seeding
from concordant.errors import explain
from concordant.training.config import Recipe

SCHEMA = "concordant.search/1"
FIELDS = tuple(Recipe.model_fields)
SPANNED = tuple(name for name, field in Recipe.model_fields.items() if field.annotation is float)
DIGITS = 4  # significant digits of a drawn number


@dataclass(frozen=True)
class Choices:
    """A field that takes one of several values, each with the same probability."""

    values: tuple[float | int, ...]

    def at(self, place: float) -> float | int:
        """Return the value at a place of [0, 1)."""
        return self.values[int(place * len(self.values))]

    @property
    def written(self) -> list[float | int]:
        """As a grid file has it."""
        return list(self.values)


@dataclass(frozen=True)
class Span:
    """A field that takes any number between `low` and `high`, evenly on a linear or a logarithmic scale."""

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

    @property
    def written(self) -> dict[str, list[float]]:
        """As a grid file has it."""
        return {"log" if self.log else "uniform": [self.low, self.high]}


Space = Mapping[str, Choices | Span]


def draw(space: Space, candidate: int, *, seed: int = 0) -> dict[str, float | int]:
    """Return the recipe fields of a candidate, whose number counts from 0.

    >>> space = {"dropout": Choices((0.1, 0.3, 0.5))}
    >>> draw(space, 3)["dropout"] == draw({**space, "learning_rate": Span(1e-4, 1e-2, log=True)}, 3)["dropout"]
    True
    """
    streams = {name: seeding.generator(seed, "search", name, candidate) for name in space}
    return {
        name: values.at(float(torch.rand((), generator=streams[name], dtype=torch.float64)))
        for name, values in space.items()
    }


def candidate_row(
    label: str, number: int, fields: Mapping[str, float | int], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the record of a candidate of a variant, from its results per seed ("validation" or "error")."""
    errors = [one["error"] for one in results if one["error"] is not None]
    scores = [one["validation"] for one in results]
    return {
        "label": label,
        "candidate": number,
        "recipe": dict(fields),
        "validation": scores,
        "mean": None if errors else float(np.mean(scores)),
        "error": errors[0] if errors else None,
    }


def choose(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the candidate with the highest mean validation score, the first of equals.

    None where no candidate could be trained with every seed.
    """
    return max((row for row in rows if row["mean"] is not None), key=lambda row: float(row["mean"]), default=None)


def read_space(given: Mapping[str, Any]) -> tuple[dict[str, Choices | Span], list[str]]:
    """Return the space that a grid file describes, and one sentence per fault.

    Args:
        given: field of the recipe -> a list of values, {log: [low, high]} or {uniform: [low, high]}.
    """
    space: dict[str, Choices | Span] = {}
    faults: list[str] = []

    def number(name: str, value: object) -> float | int:
        """Return a value as the recipe takes it; 0 with a fault where it does not."""
        try:
            return getattr(Recipe.model_validate({name: value}), name)  # type: ignore[no-any-return]
        except ValidationError as error:
            faults.append(explain(error))
            return 0

    for name, values in given.items():
        kind, ends = next(iter(values.items())) if isinstance(values, dict) and len(values) == 1 else (None, None)
        before = len(faults)
        if name not in FIELDS:
            faults.append(f"unknown field {name!r}; choose from: {', '.join(FIELDS)}")
        elif isinstance(values, list) and values:
            space[name] = Choices(tuple(number(name, value) for value in values))
        elif kind not in ("log", "uniform"):
            faults.append(
                f"{name} must be a list of values, {{log: [low, high]}} or {{uniform: [low, high]}}; found {values!r}"
            )
        elif name not in SPANNED:
            faults.append(f"{name} takes whole numbers; list the values to try, such as [32, 64]")
        elif not isinstance(ends, list) or len(ends) != 2:
            faults.append(f"{name}.{kind} must be [low, high]; found {ends!r}")
        else:
            low, high = (float(number(name, end)) for end in ends)
            space[name] = Span(low, high, kind == "log")
            if len(faults) == before and not low < high:
                faults.append(f"{name}.{kind} must have the lower number first; found {ends!r}")
            elif len(faults) == before and kind == "log" and low <= 0:
                faults.append(f"{name}.log must be above 0; found {ends!r}")
    return space, faults
