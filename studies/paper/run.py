"""The study, cell by cell: search, train, stress, time, tables; then everything that is made of all cells.

RESULTS/summary.json, PROOF.md           the findings
RESULTS/proof/QUESTION.md, .csv, *.png   tables and figures
RESULTS/search/FAMILY.json               the searches
RESULTS/proof/cells/CELL.json            the results of a cell; a cell with its file is not run again
OUT/                                     the runs
OUT/report.html                          report page of the first cell of every family whose runs are at hand
All files but the searches are written again after each cell, and name the missing cells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from concordant import seeding
from concordant.benchmarks.catalogue import folder_of
from concordant.data.split import Task
from concordant.dynamics.recorder import DEFAULT_EVERY
from concordant.errors import ConcordantError, DataError
from concordant.files import read_json, write_json, write_text
from concordant.report.page import read_documents, write_report
from concordant.speed import interleaved, training_step
from concordant.study.experiment import study_all
from concordant.training.batches import endless_rows, open_tensors
from concordant.training.config import Config, Variant
from concordant.training.model import build_model
from concordant.training.processes import Progress
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from studies.paper.cells import CellFile, asked_of, path_of, read_cell_file, read_cell_files, write_cell
from studies.paper.figures import draw_detection, draw_leads, draw_shares
from studies.paper.grid import TWIN, Cell, Experiment, Grid, Tuned, plan_cell
from studies.paper.outcomes import read_cell
from studies.paper.pages import FOLDER, SUMMARY, proof_page, write_table_files
from studies.paper.search import known_search, search
from studies.paper.sentences import made_line, standing
from studies.paper.stress import stress_all
from studies.paper.summary import Summary, made_with, summarise
from studies.paper.tables import QUESTIONS, joined, tables_of

SEARCH = "search"
CELLS = "cells"
PAGE = "PROOF.md"
FIGURES = ("leads.png", "shares.png", "detection.png")
TIMING = "timing.json"
TURNS, WARM_UP = 15, 3


class TimeIsUp(Exception):  # noqa: N818 - requested, not an error
    """No new run is to be started."""


@dataclass(frozen=True)
class Places:
    """Where the files of a study are.

    Args:
        out: the runs.
        results: tables, figures, page and summary.
        searches: the searches; None = RESULTS/search.
        cells: the results of finished cells; None = RESULTS/proof/cells.
    """

    out: Path
    results: Path
    searches: Path | None = None
    cells: Path | None = None

    @property
    def kept_searches(self) -> Path:
        """Folder of the searches."""
        return self.searches if self.searches is not None else self.results / SEARCH

    @property
    def kept_cells(self) -> Path:
        """Folder of the cells' files."""
        return self.cells if self.cells is not None else self.results / FOLDER / CELLS


def run_study(
    grid: Grid,
    places: Places,
    *,
    families: Sequence[str] | None = None,
    stop_after: float | None = None,
    command: str = "make results",
    commit: str | None = None,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    after: Callable[[], None] | None = None,
) -> Summary | None:
    """Run the unfinished cells of a grid, in rounds, and write all files that are made of the finished ones.

    Args:
        grid: what is run.
        places: where its files are.
        families: whose cells are run; None = all. Tables are of all finished cells in any case.
        stop_after: minutes after which no new run is started; None = no limit.
        command: that the results name.
        commit: of the code, recorded in the file of a cell.
        data: data folder; None = the one that CONCORDANT_DATA names, or ../shared/data.
        jobs: parallel runs; None = one per core.
        progress: called per stage with the number of finished runs, their total, and a line about the last one.
        after: called whenever the results were written.

    Returns:
        The summary of all finished cells; None while there is none.

    Raises:
        DataError: a cell's file cannot be used.
        ConcordantError: some cells failed; the tables are of the others.
    """
    read_cell_files(places.kept_cells, grid.cells)  # shows their faults before hours are spent
    end = None if stop_after is None else time.monotonic() + 60 * stop_after
    common: dict[str, Any] = {"data": data, "jobs": jobs, "progress": _until(end, progress)}
    tuned: dict[str, Tuned] = {}
    failures: dict[str, list[str]] = {}  # sentence -> cells
    try:
        for cell in grid.rounds:
            family = cell.family
            if families is not None and family.name not in families:
                continue
            try:
                if family.name not in tuned:
                    known = known_search(grid, family, places.kept_searches)
                    if known is None:
                        _check(end)
                        known = search(grid, family, places.out, places.kept_searches, **common)
                    tuned[family.name] = known
                if run_cell(grid, cell, places, tuned[family.name], end, commit, common):
                    write_results(grid, places, command)
                    if after is not None:
                        after()
            except ConcordantError as error:
                failures.setdefault(str(error), []).append(cell.name)
    except TimeIsUp:
        pass
    summary = write_results(grid, places, command)
    if after is not None:
        after()
    write_first_pages(grid, places)
    if failures:
        named = "; ".join(f"{', '.join(names)}: {sentence}" for sentence, names in failures.items())
        count = sum(map(len, failures.values()))
        raise ConcordantError(f"{count} of {len(grid.cells)} cells failed, the tables are of the others: {named}")
    return summary


def run_cell(
    grid: Grid,
    cell: Cell,
    places: Places,
    chosen: Tuned,
    end: float | None,
    commit: str | None,
    common: Mapping[str, Any],
) -> bool:
    """Train, stress and time one cell and write its file; return False where the file already answers the grid."""
    experiments = plan_cell(grid, cell, places.out, chosen)
    asked, path = asked_of(grid, experiments), path_of(places.kept_cells, cell)
    if path.is_file() and read_cell_file(path).asked == asked:
        return False
    _check(end)
    train_all(experiments, **common)
    _check(end)
    stress_all(experiments, grid.severities, **common)
    timing = time_cell(experiments[0], data=common["data"])
    tables = tables_of(read_cell(experiments, grid.severities), timing, resamples=grid.resamples)
    write_cell(path, cell, asked, tables, commit)
    return True


def train_all(
    experiments: Sequence[Experiment],
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Train what is not trained yet, as `study_all` does; observed runs record the loss of every step."""
    for observed in (True, False):
        mine = {one.name: (one.config, one.folder) for one in experiments if one.observed == observed}
        if mine:
            study_all(mine, data=data, jobs=jobs, progress=progress, dynamics=DEFAULT_EVERY if observed else None)


def time_cell(experiment: Experiment, *, data: Path | str | None = None, turns: int = TURNS) -> dict[str, Any]:
    """Return the time of a training step of every method of a cell, and write it beside its runs; measured once.

    Returns:
        "methods": label -> "median_ms", and "relative", the median ratio to the perturbed twin within a turn.
    """
    path = experiment.folder / TIMING
    if path.is_file():
        return read_json(path)
    config = experiment.config
    task = prepare_of(config, folder_of(config.benchmark, data), seed=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            steps = {one.label: stepper(task, config, one) for one in config.variants}
            taken = {
                label: 1000 * np.array(seconds)
                for label, seconds in interleaved(steps, repetitions=turns, warm=WARM_UP).items()
            }
    finally:
        torch.set_num_threads(threads)
    found = {
        "methods": {
            label: {
                "median_ms": float(np.median(times)),
                "relative": float(np.median(times / taken[TWIN])) if TWIN in taken else None,
            }
            for label, times in taken.items()
        },
        "batch": config.recipe.batch,
        "turns": turns,
        "versions": versions(),
        "hardware": hardware(),
    }
    write_json(path, found)
    return found


def stepper(task: Task, config: Config, variant: Variant) -> Callable[[], Tensor]:
    """Return a function that makes one training step of `concordant run` on the next batch and returns its loss."""
    model, recipe = build_model(task, config, variant, 0), config.of(variant).recipe
    step = training_step(model, recipe, perturbed=variant.perturbed, kind=task.kind)
    data = open_tensors(task.train)
    order = endless_rows(len(data), recipe.batch, seeding.generator(0, "batches"))
    return lambda: step(data.take(next(order)))


def finished_cells(grid: Grid, places: Places) -> list[tuple[Cell, CellFile]]:
    """Return the cells whose files answer the grid, with their files, in its order.

    Raises:
        DataError: some files cannot be used.
    """
    files = read_cell_files(places.kept_cells, grid.cells)
    searched = {one.name: known_search(grid, one, places.kept_searches) for one in grid.families}
    found = []
    for cell in grid.cells:
        chosen = searched[cell.family.name]
        if cell.name in files and chosen is not None:
            asked = asked_of(grid, plan_cell(grid, cell, places.out, chosen))
            if files[cell.name].asked == asked:
                found.append((cell, files[cell.name]))
    return found


def write_results(grid: Grid, places: Places, command: str) -> Summary | None:
    """Write tables, figures, page and summary of the finished cells, from their files alone; return the summary.

    Returns:
        None while no cell is finished; nothing is written then.

    Raises:
        DataError: some files of cells cannot be used.
    """
    finished = finished_cells(grid, places)
    if not finished:
        return None
    found = [file.tables_of(cell) for cell, file in finished]
    tables = {name: joined(name, [(one[name].scores, one[name].rows) for one in found]) for name in QUESTIONS}
    made = made_with(grid, command, {cell.name: file for cell, file in finished})
    part = replace(grid, families=tuple({cell.family.name: cell.family for cell, _ in finished}.values()))
    summary = summarise(part, tables, made)
    folder = places.results / FOLDER
    for table in tables.values():
        write_table_files(table, folder, head=made_line(made))
    note = " (quick version)" if made["quick"] else ""
    note += f" ({made['finished']} of {made['planned']} cells)" if standing(made) else ""
    draw_leads(tables["clean"], tables["corruption"], folder / FIGURES[0], note=note)
    draw_shares(tables["oracle"], folder / FIGURES[1], note=note)
    draw_detection(tables["detection"], folder / FIGURES[2], note=note)
    write_text(places.results / PAGE, proof_page(summary, list(tables.values()), FIGURES))
    write_json(places.results / SUMMARY, summary.document())
    return summary


def write_tables(grid: Grid, places: Places, command: str = "make results") -> Summary:
    """Write everything that is made of the finished cells; run nothing.

    Raises:
        DataError: no cell is finished, or some files of cells cannot be used.
    """
    summary = write_results(grid, places, command)
    if summary is None:
        raise DataError(
            f"{places.kept_cells} has no cell that is what the grid asks for now; without --tables they are run"
        )
    return summary


def write_first_pages(grid: Grid, places: Places) -> None:
    """Write the report page of the first cells whose runs are at hand, if there are any."""
    pages = []
    for cell in grid.cells:
        chosen = known_search(grid, cell.family, places.kept_searches)
        for one in plan_cell(grid, cell, places.out, chosen) if chosen is not None else ():
            if one.observed and (one.folder / "results.json").is_file():
                pages.append(replace(read_documents(one.folder), name=one.name))
    if pages:
        write_report(pages, places.out / "report.html")


def _check(end: float | None) -> None:
    if end is not None and time.monotonic() >= end:
        raise TimeIsUp


def _until(end: float | None, progress: Progress | None) -> Progress:
    """Return a progress that ends the work when the time is up and something is left."""

    def watched(done: int, total: int, line: str) -> None:
        if progress is not None:
            progress(done, total, line)
        if done < total:
            _check(end)

    return watched
