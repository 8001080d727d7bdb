"""The search of a recipe: its candidates as trials, the choice by validation alone, and the table of it all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from concordant.files import read_json
from concordant.sweep.grid_file import Grid, Search
from concordant.sweep.plan import Experiment
from concordant.sweep.space import draw, written
from concordant.sweep.trial import Trial
from concordant.training.config import Recipe, Variant
from concordant.training.provenance import versions

SCHEMA = "concordant.search/1"


def candidates(
    experiment: Experiment, grid: Grid, search: Search, *, sweep: Path, files: dict[str, str]
) -> list[Trial]:
    """Return the trials of an experiment's search: the same candidates for every variant."""
    found = []
    for number in range(search.budget):
        fields = draw(search.values, number, seed=search.seed)
        recipe = Recipe.model_validate({**experiment.config.recipe.model_dump(), **fields})
        config = experiment.config.model_copy(update={"recipe": recipe})
        found += [
            Trial(
                experiment=experiment.name,
                config=config,
                label=variant.label,
                seed=seed,
                sweep=sweep,
                target=place(sweep, experiment, variant, number, seed),
                data=experiment.data,
                files=files,
                cpus=grid.resources.cpus,
                gpus=grid.resources.gpus,
                candidate=number,
                fields=fields,
            )
            for variant in experiment.config.variants
            for seed in range(search.seeds)
        ]
    return found


def place(sweep: Path, experiment: Experiment, variant: Variant, number: int, seed: int) -> Path:
    """Return the file of one candidate and seed."""
    return sweep / "search" / experiment.name / variant.label / f"candidate-{number}-seed-{seed}.json"


def table_of(experiment: Experiment, search: Search, sweep: Path) -> dict[str, Any]:
    """Return the table of a finished search: every candidate with its scores, and what was chosen.

    Chosen is the candidate with the highest mean validation score over the seeds of the search, of equals the first;
    none of a variant of which no candidate could be trained with every seed.
    """
    rows, chosen = [], {}
    for variant in experiment.config.variants:
        mine = [_row(experiment, search, sweep, variant, number) for number in range(search.budget)]
        scored = [row for row in mine if row["mean"] is not None]
        chosen[variant.label] = max(scored, key=lambda row: float(row["mean"])) if scored else None
        rows += mine
    return {
        "schema": SCHEMA,
        "benchmark": experiment.config.benchmark,
        "fusion": experiment.config.fusion,
        "method": experiment.config.method,
        "budget": search.budget,
        "seeds": search.seeds,
        "seed": search.seed,
        "space": written(search.values),
        "candidates": rows,
        "chosen": chosen,
        "versions": versions(),
    }


def tuned(table: dict[str, Any]) -> dict[str, dict[str, float | int]]:
    """Return label -> the recipe fields that were chosen, of the variants of which any could be trained."""
    return {label: dict(row["recipe"]) for label, row in table["chosen"].items() if row is not None}


def _row(experiment: Experiment, search: Search, sweep: Path, variant: Variant, number: int) -> dict[str, Any]:
    files = [read_json(place(sweep, experiment, variant, number, seed)) for seed in range(search.seeds)]
    scores = [one["validation"] for one in files]
    errors: Sequence[str] = [one["error"] for one in files if one["error"] is not None]
    return {
        "label": variant.label,
        "candidate": number,
        "recipe": files[0]["recipe"],
        "validation": scores,
        "mean": None if errors else float(np.mean(scores)),
        "error": errors[0] if errors else None,
    }
