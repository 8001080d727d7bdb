"""The search of recipes: per cell, equal candidates for every method, chosen on validation data alone.

The first candidate is the benchmark's own recipe, the others are drawn at random. The seeds of a candidate share a
vectorised pass where `concordant run` would train them in one. The test split is removed before candidates are trained.
Where the test groups are new, validation on the training groups soon is perfect for every recipe; a training group is
then left out and scored. Searches are committed (results/search/FAMILY--FUSION.json, in the schema of `concordant
sweep`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
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
from concordant.study.work import jobs_of
from concordant.sweep.search import SCHEMA, candidate_row, choose, draw
from concordant.sweep.trial import without_test
from concordant.training.batches import open_tensors
from concordant.training.config import Config, Recipe, Value
from concordant.training.execution_plan import Pass, Unit, plan
from concordant.training.many_seeds import alike, train_together
from concordant.training.processes import Job, default_jobs
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from concordant.training.train import Trained, train
from concordant.training.validation import validation_score
from studies.paper.grid import Cell, Family, Grid, Tuned, base_config
from studies.paper.jobs import do_missing

FILE = "candidate.json"
SEED = 0  # of the draws
VALIDATION, LEFT_OUT = "validation part", "training group that is left out"


def search(grid: Grid, cell: Cell, out: Path, kept: Path, how: Execution) -> Tuned:
    """Return the recipe fields chosen for a cell: by the committed search where it fits, else by a new one.

    Args:
        grid: has the space and the budget.
        cell: what is searched.
        out: folder of all runs.
        kept: folder of the searches, where a new one is written.
        how: data folder, concurrent trainings, progress.

    Raises:
        ConcordantError: no candidate of a method could be trained.
    """
    known = known_search(grid, cell, kept)
    if known is not None:
        return known
    table = search_cell(grid, cell, out, how)
    write_json(path_of(kept, cell), table)
    return chosen_of(table)


def search_cell(grid: Grid, cell: Cell, out: Path, how: Execution) -> dict[str, Any]:
    """Search the recipe of every method of a cell, or resume; return the table of all candidates. See `search`."""
    family = cell.family
    seeds, methods = range(family.search_seeds), grid.methods(cell.fusion)
    plain = base_config(grid, family, cell.fusion, methods, seeds=family.search_seeds)
    fields = [candidate(grid, plain, number) for number in range(grid.budget)]
    source = folder_of(family.benchmark, how.data)
    processes = default_jobs() if how.jobs is None else how.jobs

    def place(label: str, number: int, seed: int) -> Path:
        return out / "search" / cell.name / label / f"candidate-{number}-seed-{seed}"

    units: list[Unit] = []
    for number, own in enumerate(fields):
        config = _with(plain, own)
        jobs = [
            Job(config, variant, seed, place(variant.label, number, seed), source)
            for seed in seeds
            for variant in plain.variants
        ]
        units += plan(jobs, partial(_prepared, unseen=family.unseen), vectorise="auto", processes=processes)[0]
    failures = do_missing(
        units,
        partial(_known, scored=scored_on(family)),
        partial(try_candidates, unseen=family.unseen),
        how,
        lambda unit: f"search {cell.name}: {unit.name}, {jobs_of(unit)[0].folder.name.partition('-seed')[0]}",
    )
    if failures:
        raise ConcordantError(f"{len(failures)} candidates of {cell.name} failed: {failures[0][1]}")
    rows, chosen = [], {}
    for label in (variant.label for variant in plain.variants):
        mine = [
            candidate_row(label, number, own, [read_json(place(label, number, seed) / FILE) for seed in seeds])
            for number, own in enumerate(fields)
        ]
        chosen[label] = choose(mine)
        if chosen[label] is None:
            raise ConcordantError(f"no candidate of {label} on {cell.name} could be trained: {mine[0]['error']}")
        rows += mine
    return {
        "schema": SCHEMA,
        "family": family.name,
        "benchmark": family.benchmark,
        "protocol": family.split,
        "modalities": list(family.names),
        **_request(grid, cell),
        "candidates": rows,
        "chosen": chosen,
        "versions": versions(),
        "hardware": hardware(),
    }


def known_search(grid: Grid, cell: Cell, kept: Path) -> Tuned | None:
    """Return the choice of a committed search; None where there is none, or it is not the search of the grid.

    With a budget of 0 every committed search is accepted, and without one nothing is tuned.

    Raises:
        DataError: the file cannot be read.
    """
    path = path_of(kept, cell)
    known = read_json(path) if path.is_file() else None
    if grid.budget == 0:
        return {} if known is None else chosen_of(known)
    if known is None or any(known.get(key) != value for key, value in _request(grid, cell).items()):
        return None
    return chosen_of(known)


def _request(grid: Grid, cell: Cell) -> dict[str, Any]:
    """Return what defines a search."""
    return {
        "fusion": cell.fusion,
        "method": "none",
        "budget": grid.budget,
        "seeds": cell.family.search_seeds,
        "seed": SEED,
        "scored": scored_on(cell.family),
        "space": dict(grid.space),
    }


def candidate(grid: Grid, config: Config, number: int) -> dict[str, Value]:
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


def try_candidates(unit: Unit, *, unseen: bool = False) -> dict[str, Any]:
    """Train one candidate over one seed, or several in one pass, in a worker process, and write its scores.

    A candidate that diverges has no score.

    Args:
        unit: the candidate's run, or its pass.
        unseen: leave out the training group with the number of the seed, and score its instances as validation splits
            are scored; otherwise the score is that of the selected checkpoint.

    Returns:
        The document of the last seed.
    """
    found: dict[str, Any] = {}
    tasks = {job.seed: _task_of(job, unseen) for job in jobs_of(unit)}
    trained = _together(unit, {seed: task for seed, (task, _) in tasks.items()}) if isinstance(unit, Pass) else {}
    for job in jobs_of(unit):
        task, scored = tasks[job.seed]
        found = {
            "config": job.config.model_dump(mode="json"),
            "scored": LEFT_OUT if unseen else VALIDATION,
            "validation": None,
            "error": None,
        }
        try:
            one = trained.pop(job.seed, None) or train(task, job.config, job.variant, job.seed)
        except ConcordantError as error:
            found["error"] = str(error)
        else:
            if scored is None:
                score = next(row for row in one.history if row["step"] == one.best_step)["validation"]
            else:
                settings = Perturbation() if job.variant.perturbed else None
                score, _ = validation_score(one.model.eval(), open_tensors(scored), settings, job.seed)
            found |= {"validation": score, "train_seconds": one.seconds}
        write_json(job.folder / FILE, found)
    return found


def _together(unit: Pass, tasks: Mapping[int, Task]) -> dict[int, Trained]:
    """Return the trained runs of a pass; a seed that it cannot have, or that diverged, is left out."""
    trained: dict[int, Trained] = {}
    first = unit.jobs[0]
    for seeds in alike(tasks, first.config.of(first.variant).recipe):
        if len(seeds) > 1:
            with suppress(ConcordantError):  # then each by itself, which names the error
                trained |= train_together([tasks[seed] for seed in seeds], first.config, first.variant, seeds)
    return trained


def _prepared(job: Job, *, unseen: bool) -> Task:
    return _task_of(job, unseen)[0]


def _task_of(job: Job, unseen: bool) -> tuple[Task, Split | None]:
    """Return the split of a run without its test part, and what is scored; None = its validation part."""
    task = without_test(prepare_of(job.config, job.data, seed=job.seed))
    return leave_group_out(task, job.seed) if unseen else (task, None)


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


def _with(config: Config, fields: Mapping[str, Value]) -> Config:
    return config.model_copy(update={"recipe": Recipe.model_validate({**config.recipe.model_dump(), **fields})})


def _known(unit: Unit, *, scored: str) -> bool:
    """Return whether the candidate of a run, or of all runs of a pass, was trained before with its configuration."""
    same = ("benchmark", "fusion", "protocol", "modalities", "recipe")
    for job in jobs_of(unit):
        path = job.folder / FILE
        found = read_json(path) if path.is_file() else None
        now = job.config.model_dump(mode="json")
        if found is None or found["scored"] != scored or any(found["config"][key] != now[key] for key in same):
            return False
    return True


def path_of(kept: Path, cell: Cell) -> Path:
    """Return the file of a cell's search."""
    return kept / f"{cell.family.name}--{cell.fusion}.json"
