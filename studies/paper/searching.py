"""The search of recipes: once a family, the same candidates for every method, chosen on validation data alone.

The first candidate is the benchmark's own recipe, the rest are drawn at random. The test part is not even there while
candidates are trained; where it is of groups that training does not show, a training group is left out and scored. What
came of it is committed (results/search/<family>.json, the schema of `concordant sweep`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from concordant.benchmarks.catalogue import folder_of
from concordant.calibration import Perturbation
from concordant.data.split import Split
from concordant.errors import ConcordantError, DataError
from concordant.files import read_json, write_json
from concordant.study.experiment import Progress
from concordant.sweep.search import SCHEMA
from concordant.sweep.space import draw, written
from concordant.sweep.trial import without_test
from concordant.training.batches import open_tensors
from concordant.training.config import Config, Recipe
from concordant.training.paired import Job, default_jobs, run_all
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from concordant.training.train import Trained, train
from concordant.training.validation import validation_score
from studies.paper.grid import Family, Grid
from studies.paper.plan import Tuned, base_config
from studies.paper.unseen import leave_group_out

FILE = "candidate.json"
SEED = 0  # of the draws
VALIDATION, LEFT_OUT = "validation part", "training group that is left out"


def search_family(
    grid: Grid,
    family: Family,
    out: Path,
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search the recipe of every method of a family, or go on with it; return the table of all candidates.

    Args:
        grid: has the space and the budget.
        family: what is searched.
        out: the folder of all runs.
        data: the data folder.
        jobs: candidates that are trained at once; None = one a core.
        progress: called with the finished trainings, all of them, and a line about the last one.

    Raises:
        ConcordantError: no candidate of a method could be trained.
    """
    plain = base_config(
        grid, family, family.searched, grid.methods(family.searched), seeds=grid.search_seeds_of(family)
    )
    fields = [candidate(grid, plain, number) for number in range(grid.budget)]
    source = folder_of(family.benchmark, data)
    everything = [
        Job(_with(plain, own), variant, seed, _place(out, family, variant.label, number, seed), source)
        for seed in range(grid.search_seeds_of(family))
        for number, own in enumerate(fields)
        for variant in plain.variants
    ]
    todo = [job for job in everything if not _known(job, scored_on(family))]
    count, total = len(everything) - len(todo), len(everything)

    def done(job: Job, _: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(count, total, f"search {family.name}: {job.variant.label}, {job.folder.name}")

    work = partial(try_candidate, unseen=family.unseen)
    failures = run_all(todo, work, processes=jobs if jobs is not None else default_jobs(), done=done)
    if failures:
        raise ConcordantError(f"{len(failures)} candidates of {family.name} failed: {failures[0][1]}")
    rows, chosen = [], {}
    for variant in plain.variants:
        mine = [
            _row(out, family, variant.label, number, own, grid.search_seeds_of(family))
            for number, own in enumerate(fields)
        ]
        usable = [row for row in mine if row["mean"] is not None]
        if not usable:
            raise ConcordantError(
                f"no candidate of {variant.label} on {family.name} could be trained: {mine[0]['error']}"
            )
        chosen[variant.label] = max(usable, key=lambda row: float(row["mean"]))  # of equals the first
        rows += mine
    return {
        "schema": SCHEMA,
        "family": family.name,
        "benchmark": family.benchmark,
        "protocol": family.split,
        "modalities": list(family.names),
        "fusion": family.searched,
        "method": "none",
        "budget": grid.budget,
        "seeds": grid.search_seeds_of(family),
        "seed": SEED,
        "scored": scored_on(family),
        "space": written(grid.space),
        "candidates": rows,
        "chosen": chosen,
        "versions": versions(),
        "hardware": hardware(),
    }


def known_search(grid: Grid, family: Family, kept: Path) -> Tuned | None:
    """Return what a committed search chose for a family; None where there is none, or another one than is asked for.

    Without a budget any committed search will do, and without one nothing is tuned.

    Args:
        grid: has the space and the budget.
        family: what was searched.
        kept: the folder of the searches.

    Raises:
        DataError: the file cannot be read.
    """
    path = kept / f"{family.name}.json"
    known = read_json(path) if path.is_file() else None
    if grid.budget == 0:
        return {} if known is None else chosen_of(known)
    asked = {
        "fusion": family.searched,
        "budget": grid.budget,
        "seeds": grid.search_seeds_of(family),
        "seed": SEED,
        "space": written(grid.space),
    }
    if known is None or any(known.get(key) != value for key, value in asked.items()):
        return None
    if known.get("scored", VALIDATION) != scored_on(family):  # files from before there was a choice do not say
        return None
    return chosen_of(known)


def search(
    grid: Grid,
    family: Family,
    out: Path,
    kept: Path,
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Return what is chosen for a family, by a committed search if it is the one that is asked for, or by a new one.

    Args:
        grid: has the space and the budget.
        family: what is searched.
        out: the folder of all runs.
        kept: the folder of the searches, to which a new one is written.
        data: the data folder.
        jobs: candidates that are trained at once; None = one a core.
        progress: as for `search_family`.

    Raises:
        ConcordantError: no candidate of a method could be trained.
    """
    known = known_search(grid, family, kept)
    if known is not None:
        return known
    table = search_family(grid, family, out, data=data, jobs=jobs, progress=progress)
    write_json(kept / f"{family.name}.json", table)
    return chosen_of(table)


def candidate(grid: Grid, config: Config, number: int) -> dict[str, float | int]:
    """Return the recipe fields of a candidate; the first has the benchmark's own values."""
    if number == 0:
        return {name: getattr(config.recipe, name) for name in grid.space}
    return draw(grid.space, number, seed=SEED)


def chosen_of(table: Mapping[str, Any]) -> Tuned:
    """Return label -> the recipe fields that a search chose.

    Raises:
        DataError: the table is no search's.
    """
    try:
        return {label: dict(row["recipe"]) for label, row in table["chosen"].items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(
            f"the search of {table.get('family', '?')} does not say under 'chosen' what recipe each method has; "
            "remove its file, and it is made anew"
        ) from None


def scored_on(family: Family) -> str:
    """Return what candidates of a family are scored on, in words."""
    return LEFT_OUT if family.unseen else VALIDATION


def try_candidate(job: Job, *, unseen: bool = False) -> dict[str, Any]:
    """Train one candidate and write its score; what a worker process does.

    A candidate that diverges is a result as well: it has no score.

    Args:
        job: the candidate's run.
        unseen: leave the training group out that the seed stands for, and score its instances as validation parts are
            scored; otherwise the score is that of the state that is kept.
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
        kept = next(one for one in trained.history if one["step"] == trained.best_step)
        score = kept["validation"] if scored is None else _score(trained, scored, job)
        found |= {"validation": score, "train_seconds": trained.seconds}
    write_json(job.folder / FILE, found)
    return found


def _score(trained: Trained, part: Split, job: Job) -> float:
    settings = Perturbation() if job.variant.perturbed else None
    score, _ = validation_score(trained.model.eval(), open_tensors(part), settings, job.seed)
    return score


def _with(config: Config, fields: Mapping[str, float | int]) -> Config:
    return config.model_copy(update={"recipe": Recipe.model_validate({**config.recipe.model_dump(), **fields})})


def _place(out: Path, family: Family, label: str, number: int, seed: int) -> Path:
    return out / "search" / family.name / label / f"candidate-{number}-seed-{seed}"


def _known(job: Job, scored: str) -> bool:
    """Say whether a candidate was trained before, as it is asked for now."""
    path = job.folder / FILE
    if not path.is_file():
        return False
    found = read_json(path)
    before, now = found["config"], job.config.model_dump(mode="json")
    same = ("benchmark", "fusion", "protocol", "modalities", "recipe")
    return all(before[key] == now[key] for key in same) and found.get("scored", VALIDATION) == scored


def _row(
    out: Path, family: Family, label: str, number: int, fields: Mapping[str, float | int], seeds: int
) -> dict[str, Any]:
    files = [read_json(_place(out, family, label, number, seed) / FILE) for seed in range(seeds)]
    errors = [one["error"] for one in files if one["error"] is not None]
    scores = [one["validation"] for one in files]
    return {
        "label": label,
        "candidate": number,
        "recipe": dict(fields),
        "validation": scores,
        "mean": None if errors else float(np.mean(scores)),
        "error": errors[0] if errors else None,
    }
