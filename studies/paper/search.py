"""The search of recipes: once per family, equal candidates for every method, chosen on validation data alone.

The first candidate is the benchmark's own recipe, the others are drawn at random. The test split is removed before
candidates are trained. Where the test groups are new, validation on the training groups soon is perfect for every
recipe; a training group is then left out and scored. Searches are committed (results/search/FAMILY.json, in the schema
of `concordant sweep`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from concordant.benchmarks.catalogue import folder_of
from concordant.calibration import Perturbation
from concordant.data.split import Split, Task
from concordant.errors import ConcordantError, DataError, UsageError
from concordant.files import read_json, write_json
from concordant.study.experiment import Execution
from concordant.sweep.search import SCHEMA, candidate_row, choose, draw
from concordant.sweep.trial import without_test
from concordant.training.batches import open_tensors
from concordant.training.config import Config, Recipe
from concordant.training.processes import Job
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from concordant.training.train import train
from concordant.training.validation import validation_score
from studies.paper.grid import Family, Grid, Tuned, base_config
from studies.paper.jobs import do_missing

FILE = "candidate.json"
SEED = 0  # of the draws
VALIDATION, LEFT_OUT = "validation part", "training group that is left out"


def search(grid: Grid, family: Family, out: Path, kept: Path, how: Execution) -> Tuned:
    """Return the recipe fields chosen for a family: by the committed search where it fits, else by a new one.

    Args:
        grid: has the space and the budget.
        family: what is searched.
        out: folder of all runs.
        kept: folder of the searches, where a new one is written.
        how: data folder, concurrent trainings, progress.

    Raises:
        ConcordantError: no candidate of a method could be trained.
    """
    known = known_search(grid, family, kept)
    if known is not None:
        return known
    table = search_family(grid, family, out, how)
    write_json(kept / f"{family.name}.json", table)
    return chosen_of(table)


def search_family(grid: Grid, family: Family, out: Path, how: Execution) -> dict[str, Any]:
    """Search the recipe of every method of a family, or resume; return the table of all candidates. See `search`."""
    seeds, methods = range(family.search_seeds), grid.methods(family.searched)
    plain = base_config(grid, family, family.searched, methods, seeds=family.search_seeds)
    fields = [candidate(grid, plain, number) for number in range(grid.budget)]
    source = folder_of(family.benchmark, how.data)

    def place(label: str, number: int, seed: int) -> Path:
        return out / "search" / family.name / label / f"candidate-{number}-seed-{seed}"

    jobs = [
        Job(_with(plain, own), variant, seed, place(variant.label, number, seed), source)
        for seed in seeds
        for number, own in enumerate(fields)
        for variant in plain.variants
    ]
    failures = do_missing(
        jobs,
        partial(_known, scored=scored_on(family)),
        partial(try_candidate, unseen=family.unseen),
        how,
        lambda job: f"search {family.name}: {job.variant.label}, {job.folder.name}",
    )
    if failures:
        raise ConcordantError(f"{len(failures)} candidates of {family.name} failed: {failures[0][1]}")
    rows, chosen = [], {}
    for label in (variant.label for variant in plain.variants):
        mine = [
            candidate_row(label, number, own, [read_json(place(label, number, seed) / FILE) for seed in seeds])
            for number, own in enumerate(fields)
        ]
        chosen[label] = choose(mine)
        if chosen[label] is None:
            raise ConcordantError(f"no candidate of {label} on {family.name} could be trained: {mine[0]['error']}")
        rows += mine
    return {
        "schema": SCHEMA,
        "family": family.name,
        "benchmark": family.benchmark,
        "protocol": family.split,
        "modalities": list(family.names),
        **_request(grid, family),
        "candidates": rows,
        "chosen": chosen,
        "versions": versions(),
        "hardware": hardware(),
    }


def known_search(grid: Grid, family: Family, kept: Path) -> Tuned | None:
    """Return the choice of a committed search; None where there is none, or it is not the search of the grid.

    With a budget of 0 every committed search is accepted, and without one nothing is tuned.

    Raises:
        DataError: the file cannot be read.
    """
    path = kept / f"{family.name}.json"
    known = read_json(path) if path.is_file() else None
    if grid.budget == 0:
        return {} if known is None else chosen_of(known)
    if known is None or any(known.get(key) != value for key, value in _request(grid, family).items()):
        return None
    return chosen_of(known)


def _request(grid: Grid, family: Family) -> dict[str, Any]:
    """Return what defines a search."""
    return {
        "fusion": family.searched,
        "method": "none",
        "budget": grid.budget,
        "seeds": family.search_seeds,
        "seed": SEED,
        "scored": scored_on(family),
        "space": dict(grid.space),
    }


def candidate(grid: Grid, config: Config, number: int) -> dict[str, float | int]:
    """Return the recipe fields of a candidate; the first has the benchmark's own values."""
    if number == 0:
        return {name: getattr(config.recipe, name) for name in grid.space}
    return draw(grid.space, number, seed=SEED)


def chosen_of(table: Mapping[str, Any]) -> Tuned:
    """Return label -> the recipe fields that a search chose.

    Raises:
        DataError: the table is not one of a search.
    """
    try:
        return {label: dict(row["recipe"]) for label, row in table["chosen"].items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(
            f"the search of {table.get('family', '?')} has no recipe of each method under 'chosen'; remove its file, "
            "and it is made anew"
        ) from None


def scored_on(family: Family) -> str:
    """Return on what candidates of a family are scored."""
    return LEFT_OUT if family.unseen else VALIDATION


def try_candidate(job: Job, *, unseen: bool = False) -> dict[str, Any]:
    """Train one candidate in a worker process and write its score; a candidate that diverges has none.

    Args:
        job: the candidate's run.
        unseen: leave out the training group with the number of the seed, and score its instances as validation splits
            are scored; otherwise the score is that of the selected checkpoint.
    """
    task, scored = without_test(prepare_of(job.config, job.data, seed=job.seed)), None
    if unseen:
        task, scored = leave_group_out(task, job.seed)
    found: dict[str, Any] = {
        "config": job.config.model_dump(mode="json"),
        "scored": LEFT_OUT if unseen else VALIDATION,
        "validation": None,
        "error": None,
    }
    try:
        trained = train(task, job.config, job.variant, job.seed)
    except ConcordantError as error:
        found["error"] = str(error)
    else:
        if scored is None:
            score = next(one for one in trained.history if one["step"] == trained.best_step)["validation"]
        else:
            settings = Perturbation() if job.variant.perturbed else None
            score, _ = validation_score(trained.model.eval(), open_tensors(scored), settings, job.seed)
        found |= {"validation": score, "train_seconds": trained.seconds}
    write_json(job.folder / FILE, found)
    return found


def leave_group_out(task: Task, number: int) -> tuple[Task, Split]:
    """Return a task without one of its training groups, and the instances of that group.

    Args:
        task: with groups, in memory.
        number: which of the sorted groups of the training split, modulo their number.

    Raises:
        UsageError: splits are read from disk, have no groups, or a single one.
    """
    train, valid = task.train, task.valid
    if not isinstance(train, Split) or not isinstance(valid, Split):
        raise UsageError("leaving a group out needs parts in memory; found parts that are read from disk")
    if train.groups is None or valid.groups is None:
        raise UsageError("leaving a group out needs instances with groups; found none")
    groups = sorted(set(train.groups.tolist()))
    if len(groups) < 2:
        raise UsageError(f"leaving a group out needs two or more in the training part; found {groups}")
    out = groups[number % len(groups)]
    kept = replace(task, train=train.take(train.groups != out), valid=valid.take(valid.groups != out))
    return kept, _joined(train.take(train.groups == out), valid.take(valid.groups == out))


def _joined(one: Split, other: Split) -> Split:
    def both(name: str) -> Any:  # noqa: ANN401 - an array, or a dictionary of arrays
        a, b = getattr(one, name), getattr(other, name)
        return {key: np.concatenate([a[key], b[key]]) for key in a} if isinstance(a, dict) else np.concatenate([a, b])

    return Split(**{name: both(name) for name in ("inputs", "labels", "ids", "groups", "masks", "present")})


def _with(config: Config, fields: Mapping[str, float | int]) -> Config:
    return config.model_copy(update={"recipe": Recipe.model_validate({**config.recipe.model_dump(), **fields})})


def _known(job: Job, *, scored: str) -> bool:
    """Return whether a candidate was trained before with this configuration."""
    path = job.folder / FILE
    if not path.is_file():
        return False
    found = read_json(path)
    before, now = found["config"], job.config.model_dump(mode="json")
    same = ("benchmark", "fusion", "protocol", "modalities", "recipe")
    return all(before[key] == now[key] for key in same) and found["scored"] == scored
