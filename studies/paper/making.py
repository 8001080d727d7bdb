"""All of the proof, cell by cell: search, train, stress, time, tables; then everything that is made of all cells.

RESULTS/summary.json, PROOF.md           what came of it
RESULTS/proof/<question>.md, .csv        the tables
RESULTS/proof/*.png                      the figures
RESULTS/search/<family>.json             the searches
RESULTS/proof/cells/<cell>.json          what is kept of a cell; a cell that has its file is not run again
OUT/                                     the runs
OUT/report.html                          the report page of the first cell of every family whose runs are at hand
Everything but the searches is written anew after each cell, and says which cells are not there yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from concordant.errors import ConcordantError, DataError
from concordant.files import write_json, write_text
from concordant.report.html import read_documents, write_report
from concordant.study.experiment import Progress
from studies.paper.blocks import FOLDER, SUMMARY
from studies.paper.cellfile import CellFile, asked_of, path_of, read_cell_file, read_cell_files, write_cell
from studies.paper.figures import draw_detection, draw_leads, draw_shares
from studies.paper.grid import Cell, Grid
from studies.paper.outcomes import read_cell
from studies.paper.page import proof_page
from studies.paper.plan import Tuned, plan_cell
from studies.paper.questions import tables_of
from studies.paper.searching import known_search, search
from studies.paper.stressing import stress_all
from studies.paper.summary import Summary, made_with, summarise
from studies.paper.table import Table, joined
from studies.paper.timing import time_cell
from studies.paper.training import is_observed, train_all
from studies.paper.verdict import made_line, standing
from studies.paper.writing import write_table_files

SEARCH = "search"
CELLS = "cells"
PAGE = "PROOF.md"
FIGURES = ("leads.png", "shares.png", "detection.png")


class TimeIsUp(Exception):  # noqa: N818 - no error: what is asked for
    """No new run is to be started."""


@dataclass(frozen=True)
class Places:
    """Where the files of a proof are.

    Args:
        out: the runs.
        results: tables, figures, page and summary.
        searches: the searches; None = RESULTS/search.
        cells: what is kept of finished cells; None = RESULTS/proof/cells.
    """

    out: Path
    results: Path
    searches: Path | None = None
    cells: Path | None = None

    @property
    def kept_searches(self) -> Path:
        """The folder of the searches."""
        return self.searches if self.searches is not None else self.results / SEARCH

    @property
    def kept_cells(self) -> Path:
        """The folder of the cells' files."""
        return self.cells if self.cells is not None else self.results / FOLDER / CELLS


def make_proof(
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
    """Run the cells of a grid that are not finished, in rounds, and write everything that comes of all finished ones.

    Args:
        grid: what is run.
        places: where its files are.
        families: whose cells are run; None = all. Tables are of all finished cells in any case.
        stop_after: minutes after which no new run is started; None = go on to the end.
        command: that the results say they were made by.
        commit: of the code, which a cell's file records.
        data: the data folder; None = the one that CONCORDANT_DATA names, or ../shared/data.
        jobs: runs that go at once; None = one a core.
        progress: called with what is done, all there is, and a line about the last one, stage by stage.
        after: called whenever the results were written.

    Returns:
        The summary of all finished cells; None while there is none.

    Raises:
        DataError: a cell's file is none.
        ConcordantError: some cells failed; the others were run, and are in the tables.
    """
    read_cell_files(places.kept_cells, grid.cells)  # what is wrong with them shows before hours are spent
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
        said = "; ".join(f"{', '.join(names)}: {sentence}" for sentence, names in failures.items())
        count = sum(map(len, failures.values()))
        raise ConcordantError(f"{count} of {len(grid.cells)} cells failed, the tables are of the others: {said}")
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
    """Train, stress and time one cell and write its file; return False where the file is there and is what is asked."""
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


def finished_cells(grid: Grid, places: Places) -> list[tuple[Cell, CellFile]]:
    """Return the cells whose files hold what the grid asks now, with their files, in its order.

    Raises:
        DataError: some files are none.
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
        DataError: some files of cells are none.
    """
    finished = finished_cells(grid, places)
    if not finished:
        return None
    tables = _joined([file.tables_of(cell) for cell, file in finished])
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
    """Write everything that comes of the finished cells; run nothing.

    Raises:
        DataError: no cell is finished, or some files of cells are none.
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
            if is_observed(one) and (one.folder / "results.json").is_file():
                pages.append(replace(read_documents(one.folder), name=one.name))
    if pages:
        write_report(pages, places.out / "report.html")


def _joined(cells: Sequence[Mapping[str, Table]]) -> dict[str, Table]:
    return {name: joined([tables[name] for tables in cells]) for name in cells[0]}


def _check(end: float | None) -> None:
    if end is not None and time.monotonic() >= end:
        raise TimeIsUp


def _until(end: float | None, progress: Progress | None) -> Progress:
    """Return a progress that ends the work when the time is up and something is left; what has begun is finished."""

    def watched(done: int, total: int, line: str) -> None:
        if progress is not None:
            progress(done, total, line)
        if done < total:
            _check(end)

    return watched
