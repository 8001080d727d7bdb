"""All of the proof in order: search, train, stress, time, and everything that is made of it. Nothing is done twice.

RESULTS/summary.json, PROOF.md           what came of it
RESULTS/proof/<question>.md, .csv        the tables
RESULTS/proof/*.png                      the figures
RESULTS/search/<family>.json             the searches
OUT/                                     the runs
OUT/report.html                          the report page of the first cell of every family
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from concord.analysis.study import Progress
from concord.files import read_json, write_json, write_text
from concord.proof.blocks import FOLDER, SUMMARY
from concord.proof.figures import draw_detection, draw_leads, draw_shares
from concord.proof.grid import Family, Grid
from concord.proof.outcomes import CellOutcomes, read_cell
from concord.proof.page import proof_page
from concord.proof.plan import Experiment, Tuned, make_plan
from concord.proof.questions.ablation import ablation, place
from concord.proof.questions.cost import cost
from concord.proof.questions.detection import detection
from concord.proof.questions.oracle import oracle
from concord.proof.questions.scores import clean, corruption, corruption_kinds, removal
from concord.proof.questions.stability import stability
from concord.proof.searching import SEED, chosen_of, search_family
from concord.proof.stressing import stress_all
from concord.proof.summary import Summary, made_with, summarise
from concord.proof.table import Table, joined
from concord.proof.timing import time_cell
from concord.proof.training import is_observed, train_all
from concord.proof.verdict import made_line
from concord.proof.writing import write_table_files
from concord.report.html import read_documents, write_report
from concord.sweep.space import written

SEARCH = "search"
PAGE = "PROOF.md"
QUESTIONS = (clean, corruption, corruption_kinds, removal, oracle, detection, stability, ablation, place)
FIGURES = ("leads.png", "shares.png", "detection.png")


def make_proof(
    grid: Grid,
    out: Path,
    results: Path,
    *,
    searches: Path | None = None,
    command: str = "make results",
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run a grid, or go on with it, and write everything that comes of it.

    Args:
        grid: what is run.
        out: the folder of its runs.
        results: where tables, figures, page and summary go.
        searches: where searches are kept; None = RESULTS/search.
        command: that the results say they were made by.
        data: the data folder; None = the one that CONCORD_DATA names, or ../shared/data.
        jobs: runs that go at once; None = one a core.
        progress: called with what is done, all there is, and a line about the last one, stage by stage.

    Raises:
        UsageError: a folder belongs to another configuration.
        DataError: the data are absent or cannot be used.
        ConcordError: some runs failed; the others are kept.
    """
    common: dict[str, Any] = {"data": data, "jobs": jobs, "progress": progress}
    kept = searches if searches is not None else results / SEARCH
    tuned = {family.name: search(grid, family, out, kept, **common) for family in grid.families}
    plan = make_plan(grid, out, tuned)
    train_all(plan, **common)
    stress_all(plan, grid.severities, **common)
    timings = {one.cell.name: time_cell(one, data=data) for one in plan if not one.ablations}
    tables = make_tables(read_cells(plan, grid.severities), timings, resamples=grid.resamples)
    pages = [replace(read_documents(one.folder), name=one.name) for one in plan if is_observed(one)]
    write_report(pages, out / "report.html")
    made = made_with(grid, command, {name: bool(chosen) for name, chosen in tuned.items()})
    return write_results(grid, tables, made, results)


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
    """Return what was chosen for a family, from a committed search if it is the one that is asked for, or a new one.

    Without a budget any committed search will do, and without one nothing is tuned.
    """
    path = kept / f"{family.name}.json"
    known = read_json(path) if path.is_file() else None
    if grid.budget == 0:
        return {} if known is None else chosen_of(known)
    asked = {"budget": grid.budget, "seeds": grid.search_seeds, "seed": SEED, "space": written(grid.space)}
    if known is None or any(known.get(key) != value for key, value in asked.items()):
        known = search_family(grid, family, out, data=data, jobs=jobs, progress=progress)
        write_json(path, known)
    return chosen_of(known)


def read_cells(plan: Sequence[Experiment], severities: Sequence[int]) -> Iterator[CellOutcomes]:
    """Yield the outcomes of all cells of a plan, in its order; one at a time, since all together are gigabytes."""
    by_cell: dict[str, list[Experiment]] = {}
    for one in plan:
        by_cell.setdefault(one.cell.name, []).append(one)
    for mine in by_cell.values():
        yield read_cell(mine, severities)


def make_tables(
    cells: Iterable[CellOutcomes], timings: Mapping[str, Mapping[str, Any]], *, resamples: int
) -> dict[str, Table]:
    """Return the table of every question, by name, in the order of the questions."""
    found: dict[str, list[Table]] = {}
    for cell in cells:
        for question in QUESTIONS:
            table = question([cell], resamples=resamples)
            found.setdefault(table.name, []).append(table)
        costs = cost([cell], timings)
        found.setdefault(costs.name, []).append(costs)
    return {name: joined(tables) for name, tables in found.items()}


def write_results(grid: Grid, tables: Mapping[str, Table], made: Mapping[str, Any], results: Path) -> Summary:
    """Write tables, figures, page and summary; return the summary."""
    summary = summarise(grid, tables, made)
    folder = results / FOLDER
    for table in tables.values():
        write_table_files(table, folder, head=made_line(made))
    note = " (quick version)" if made["quick"] else ""
    draw_leads(tables["clean"], tables["corruption"], folder / FIGURES[0], note=note)
    draw_shares(tables["oracle"], folder / FIGURES[1], note=note)
    draw_detection(tables["detection"], folder / FIGURES[2], note=note)
    write_text(results / PAGE, proof_page(summary, list(tables.values()), FIGURES))
    write_json(results / SUMMARY, summary.document())
    return summary
