"""The study, cell by cell: search, train, stress, time, tables; then everything that is made of all cells.

RESULTS/summary.json, PROOF.md           the findings
RESULTS/proof/QUESTION.md, .csv, *.png   tables and figures
RESULTS/search/CELL.json                 the searches
RESULTS/proof/cells/CELL.json            the results of a cell; a cell with its file is not run again
OUT/                                     the runs
All files but the searches are written again after each cell, and name the missing cells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from concordant import seeding
from concordant.benchmarks.catalogue import folder_of
from concordant.data.split import Task
from concordant.dynamics.recorder import DEFAULT_EVERY
from concordant.errors import ConcordantError
from concordant.files import read_json, write_json, write_text
from concordant.speed import training_step
from concordant.study.experiment import Execution, study_all
from concordant.timing import interleaved, one_thread, ratios
from concordant.training.batches import endless_rows, open_tensors
from concordant.training.config import Config, Variant
from concordant.training.model import build_model
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from studies.paper.cells import path_of, read_cell_files, request_of, write_cell
from studies.paper.figures import draw_detection, draw_leads, draw_shares
from studies.paper.findings import Findings, made_line, made_with, standing, summarise
from studies.paper.grid import TWIN, Cell, Experiment, Grid, Tuned, plan_cell
from studies.paper.outcomes import read_cell
from studies.paper.pages import FOLDER, proof_page, write_table_files
from studies.paper.search import known_search, search
from studies.paper.stress import stress_all
from studies.paper.tables import QUESTIONS, joined, tables_of

PAGE, SUMMARY = "PROOF.md", "summary.json"
FIGURES = ("leads.png", "shares.png", "detection.png")
TIMING = "timing.json"
TURNS, WARM_UP = 15, 3  # of the timing of a training step


class TimeIsUp(Exception):  # noqa: N818 - requested, not an error
    """No new run is to be started."""


@dataclass(frozen=True)
class Study:
    """A grid, the places of its files, and how its runs are carried out."""

    grid: Grid
    out: Path  # the runs
    results: Path  # tables, figures, page and summary
    searches: Path  # one file per cell
    cells: Path  # the files of finished cells
    how: Execution = field(default_factory=Execution)  # data folder, concurrent runs, progress
    command: str = "make results"  # that the results name
    commit: str | None = None  # of the code, recorded in the file of a cell

    def run(
        self,
        families: Sequence[str] | None = None,
        stop_after: float | None = None,
        after: Callable[[Findings | None], None] = lambda _: None,
    ) -> Findings | None:
        """Run the unfinished cells in rounds, and write all files that are made of the finished ones.

        Args:
            families: whose cells are run; None = all. Tables are of all finished cells in any case.
            stop_after: minutes after which no new run is started; None = no limit.
            after: called with the findings whenever the results were written.

        Returns:
            The findings of all finished cells; None while there is none.

        Raises:
            DataError: a cell's file cannot be used.
            ConcordantError: some cells failed; the tables are of the others.
        """
        read_cell_files(self.cells, self.grid.cells)  # shows their faults before hours are spent
        check = _deadline(stop_after)
        how = replace(self.how, progress=_until(check, self.how))
        failures: dict[str, list[str]] = {}  # sentence -> cells
        try:
            for cell in self.grid.rounds:
                if families is not None and cell.family.name not in families:
                    continue
                try:
                    tuned = known_search(self.grid, cell.searched, self.searches)
                    if tuned is None:
                        check()
                        tuned = search(self.grid, cell.searched, self.out, self.searches, how)
                    if self.run_cell(cell, tuned, how, check):
                        after(self.write())
                except ConcordantError as error:
                    failures.setdefault(str(error), []).append(cell.name)
        except TimeIsUp:
            pass
        findings = self.write()
        after(findings)
        if failures:
            named = "; ".join(f"{', '.join(names)}: {sentence}" for sentence, names in failures.items())
            count = sum(map(len, failures.values()))
            total = len(self.grid.cells)
            raise ConcordantError(f"{count} of {total} cells failed, the tables are of the others: {named}")
        return findings

    def run_cell(self, cell: Cell, chosen: Tuned, how: Execution, check: Callable[[], None]) -> bool:
        """Train, stress and time one cell and write its file; return False where its file is that of the grid."""
        experiments = plan_cell(self.grid, cell, self.out, chosen)
        request = request_of(self.grid, experiments)
        known = read_cell_files(self.cells, [cell]).get(cell.name)
        if known is not None and known.request == request:
            return False
        check()
        train_all(experiments, how)
        check()
        stress_all(experiments, self.grid.severities, how)
        timing = time_cell(experiments[0], data=how.data)
        tables = tables_of(read_cell(experiments, self.grid.severities), timing, resamples=self.grid.resamples)
        write_cell(path_of(self.cells, cell), cell, request, tables, self.commit)
        return True

    def plan(self, cell: Cell) -> tuple[Experiment, ...]:
        """Return the experiments of a cell; none while it is not searched."""
        chosen = known_search(self.grid, cell.searched, self.searches)
        return () if chosen is None else plan_cell(self.grid, cell, self.out, chosen)

    def findings(self) -> Findings | None:
        """Return the tables of the finished cells, those whose files are those of the grid; None without any.

        Raises:
            DataError: some files cannot be used.
        """
        files = read_cell_files(self.cells, self.grid.cells)
        there = [cell for cell in self.grid.cells if cell.name in files]
        cells = [one for one in there if files[one.name].request == request_of(self.grid, self.plan(one))]
        if not cells:
            return None
        found = [files[cell.name].tables_of(cell) for cell in cells]
        tables = {name: joined(name, [(one[name].scores, one[name].rows) for one in found]) for name in QUESTIONS}
        made = made_with(self.grid, self.command, {cell.name: files[cell.name] for cell in cells})
        return Findings(self.grid, tables, made)

    def write(self) -> Findings | None:
        """Write tables, figures, page and summary of the finished cells, from their files alone, if there are any.

        Raises:
            DataError: some files of cells cannot be used.
        """
        findings = self.findings()
        if findings is None:
            return None
        _, tables, made = findings
        folder = self.results / FOLDER
        for table in tables.values():
            write_table_files(table, folder, head=made_line(made))
        note = " (quick version)" if made["quick"] else ""
        note += f" ({made['finished']} of {made['planned']} cells)" if standing(made) else ""
        draw_leads(tables["clean"], tables["corruption"], folder / FIGURES[0], note=note)
        draw_shares(tables["oracle"], folder / FIGURES[1], note=note)
        draw_detection(tables["detection"], folder / FIGURES[2], note=note)
        write_text(self.results / PAGE, proof_page(findings, FIGURES))
        write_json(self.results / SUMMARY, summarise(findings))
        return findings


def train_all(experiments: Sequence[Experiment], how: Execution) -> None:
    """Train what is not trained yet, as `study_all` does; observed runs record the loss of every step."""
    for observed in (True, False):
        mine = {one.name: (one.config, one.folder) for one in experiments if one.observed == observed}
        if mine:
            every = DEFAULT_EVERY if observed else None
            study_all(mine, data=how.data, jobs=how.jobs, progress=how.progress, dynamics=every, baselines=False)


def time_cell(experiment: Experiment, *, data: Path | str | None = None) -> dict[str, Any]:
    """Return the time of a training step of every method of a cell, and write it beside its runs; measured once.

    Returns:
        "methods": label -> "median_ms", and "relative", the median ratio to the perturbed twin within a turn.
    """
    path = experiment.folder / TIMING
    if path.is_file():
        return read_json(path)
    config = experiment.config
    task = prepare_of(config, folder_of(config.benchmark, data), seed=0)
    with one_thread(), torch.random.fork_rng(devices=[]):
        steps = {one.label: stepper(task, config, one) for one in config.variants}
        taken = interleaved(steps, repetitions=TURNS, warm=WARM_UP)
    found = {
        "methods": {
            label: {
                "median_ms": 1000 * float(np.median(seconds)),
                "relative": float(np.median(ratios(seconds, taken[TWIN]))) if TWIN in taken else None,
            }
            for label, seconds in taken.items()
        },
        "batch": config.recipe.batch,
        "turns": TURNS,
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


def _deadline(minutes: float | None) -> Callable[[], None]:
    """Return a function that raises TimeIsUp when so many minutes have passed; None = never."""
    end = None if minutes is None else time.monotonic() + 60 * minutes

    def check() -> None:
        if end is not None and time.monotonic() >= end:
            raise TimeIsUp

    return check


def _until(check: Callable[[], None], how: Execution) -> Callable[[int, int, str], None]:
    """Return a progress that ends the work when the time is up and something is left."""

    def watched(done: int, total: int, line: str) -> None:
        if how.progress is not None:
            how.progress(done, total, line)
        if done < total:
            check()

    return watched
