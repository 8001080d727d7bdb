"""Random search of a recipe: the space, draws from it, and the choice by validation scores alone.

A space maps fields of the recipe to a list of values, each with the same probability, or to {"log": [low, high]} or
{"uniform": [low, high]}. Every draw has a stream of its own, by field and candidate: one more field or a larger budget
changes no other draw. All variants get the same candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from concordant import seeding
from concordant.errors import explain
from concordant.training.config import Recipe, Value

SCHEMA = "concordant.search/1"
DIGITS = 4  # significant digits of a number that is drawn from a range

Values = list[Any] | dict[str, list[float]]
Space = Mapping[str, Values]


def draw(space: Space, candidate: int, *, seed: int = 0) -> dict[str, Value]:
    """Return the recipe fields of a candidate, whose number counts from 0.

    >>> space = {"dropout": [0.1, 0.3, 0.5]}
    >>> draw(space, 3)["dropout"] == draw({**space, "learning_rate": {"log": [1e-4, 1e-2]}}, 3)["dropout"]
    True
    """
    drawn = {}
    for name, values in space.items():
        stream = seeding.generator(seed, "search", name, candidate)
        drawn[name] = value_at(values, float(torch.rand((), generator=stream, dtype=torch.float64)))
    return drawn


def value_at(values: Values, place: float) -> Value:
    """Return the value of a field at a place of [0, 1).

    >>> value_at({"log": [1e-4, 1e-2]}, 0.5), value_at({"uniform": [0, 1]}, 0.25), value_at([8, 16], 0.75)
    (0.001, 0.25, 16)
    """
    if isinstance(values, list):
        chosen: Value = values[int(place * len(values))]
        return chosen
    ((kind, (low, high)),) = values.items()
    if kind == "log":
        value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        value = low + place * (high - low)
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def candidate_row(
    label: str, number: int, fields: Mapping[str, Value], results: Sequence[Mapping[str, Any]]
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


def read_space(given: Mapping[str, Any]) -> dict[str, Values]:
    """Return the space that a grid file describes, with numbers as the recipe takes them.

    Raises:
        ValueError: names all faults at once.
    """
    space: dict[str, Values] = {}
    faults = []
    for name, values in given.items():
        try:
            space[name] = _read(name, values)
        except ValueError as error:
            faults.append(str(error))
    if {"steps", "epochs"} <= given.keys():
        faults.append("steps and epochs are two lengths of one training; search one of them")
    if faults:
        raise ValueError("; ".join(faults))
    return space


def _read(name: str, values: Any) -> Values:  # noqa: ANN401 - whatever the file holds
    """Return the values of one field; raise ValueError with its faults."""
    if name not in Recipe.model_fields:
        raise ValueError(f"unknown field {name!r}; choose from: {', '.join(Recipe.model_fields)}")
    if isinstance(values, list) and values:
        return _numbers(name, values)
    kind, ends = next(iter(values.items())) if isinstance(values, dict) and len(values) == 1 else (None, None)
    if kind not in ("log", "uniform"):
        raise ValueError(
            f"{name} must be a list of values, {{log: [low, high]}} or {{uniform: [low, high]}}; found {values!r}"
        )
    if Recipe.model_fields[name].annotation is not float:
        raise ValueError(f"{name} takes whole numbers; list the values to try, such as [32, 64]")
    if not isinstance(ends, list) or len(ends) != 2:
        raise ValueError(f"{name}.{kind} must be [low, high]; found {ends!r}")
    low, high = _numbers(name, ends)
    if not low < high:
        raise ValueError(f"{name}.{kind} must have the lower number first; found {ends!r}")
    if kind == "log" and low <= 0:
        raise ValueError(f"{name}.log must be above 0; found {ends!r}")
    return {kind: [low, high]}


def _numbers(name: str, values: Sequence[Any]) -> list[Any]:
    """Return values of a field as the recipe takes them; raise ValueError with all faults."""
    numbers, faults = [], []
    for value in values:
        try:
            numbers.append(getattr(Recipe.model_validate({name: value}), name))
        except ValidationError as error:
            faults.append(explain(error))
    if faults:
        raise ValueError("; ".join(faults))
    return numbers
