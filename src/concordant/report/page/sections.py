"""The page as plain records: sections, in each a block per run, in each block sentences, figures and tables.

A block whose analysis was not made names the command that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from concordant.report import figures, sentences
from concordant.report.figures import Figure
from concordant.report.folder import RunDocuments
from concordant.report.format import shown
from concordant.report.page.appendix import commands, settings
from concordant.report.record import Table
from concordant.report.tables import grids, insight, robustness, scores


@dataclass(frozen=True)
class Block:
    """One run in a section.

    Args:
        id: unique on the page; the ids of its tables and figures begin with it.
        name: of the run.
        sentences: on its results.
        figures: in order.
        tables: in order.
        hint: what is missing where the analysis was not made.
        command: makes the analysis.
        settings: name and value, for the appendix.
        commands: reproduce the run.
    """

    id: str
    name: str
    sentences: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    hint: str = ""
    command: str = ""
    settings: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        id: its anchor.
        title: heading.
        intro: its subject in one sentence.
        blocks: one per run.
        tables: over all runs.
    """

    id: str
    title: str
    intro: str
    blocks: Sequence[Block]
    tables: Sequence[Table] = ()


def sections(documents: Sequence[RunDocuments]) -> list[Section]:
    """Return the whole page."""
    runs = list(_single(documents))

    def section(identity: str, title: str, intro: str, make: Any, over: Sequence[RunDocuments] = runs) -> Section:  # noqa: ANN401
        blocks = [Block(**{"id": f"{identity}-{n}", "name": one.name, **make(one)}) for n, one in enumerate(over)]
        return Section(identity, title, intro, [_filled(block) for block in blocks])

    comparison = section(
        "comparison",
        "Comparison",
        "Every method was trained on the same splits, batches and perturbations, seed by seed.",
        _comparison,
        documents,
    )
    return [
        section(
            "summary",
            "Summary",
            "Wins and losses alike; p is Holm-corrected.",
            lambda one: {"sentences": sentences.summary(one)},
            _whole(documents),
        ),
        replace(comparison, tables=_joint(documents)),
        section(
            "severity",
            "Severity",
            "How accuracy falls as one modality of every instance is corrupted more and more.",
            _severity,
        ),
        section("removal", "Removal", "What is left when modalities are absent, and what each brings.", _removal),
        section(
            "dynamics",
            "Training dynamics",
            "What happened while the methods were trained, and how steadily.",
            _dynamics,
        ),
        section("features", "Features", "What calibration does to the features before they are fused.", _features),
        section(
            "distrusted",
            "Distrusted instances",
            "The test instances with the lowest reliability of a modality.",
            _distrusted,
        ),
        section("appendix", "Appendix", "What it takes to compute all of this again.", _appendix, documents),
    ]


def title_of(documents: Sequence[RunDocuments]) -> str:
    """Return the page's title."""
    names = [one.name for one in documents]
    return f"Concordant report: {names[0] if len(names) == 1 else f'{len(names)} runs'}"


def _filled(block: Block) -> Block:
    """Return a block without figures that could not be drawn and tables without rows."""
    return replace(
        block,
        figures=[figure for figure in block.figures if figure is not None],
        tables=[table for table in block.tables if table.rows],
    )


def _single(documents: Sequence[RunDocuments]) -> Iterable[RunDocuments]:
    """Iterate over single runs; the analysed rows of a grid by the names of both."""
    for one in documents:
        if one.rows:
            yield from (replace(inner, name=f"{one.name}, {row}") for row, inner in one.rows.items())
        else:
            yield one  # a grid without analyses too: its block names the command


def _whole(documents: Sequence[RunDocuments]) -> list[RunDocuments]:
    """Return grids followed by their analysed rows, and single runs: the blocks of the summary."""
    found = []
    for one in documents:
        found.append(one)
        # The comparisons of a row are in the grid's own sentences.
        found += [replace(inner, name=f"{one.name}, {row}", results=None) for row, inner in one.rows.items()]
    return found


def _joint(documents: Sequence[RunDocuments]) -> list[Table]:
    """Return the table over all runs and all rows of grids, where there are several."""
    rows: list[tuple[str, str, Any, Any]] = []
    for one in documents:
        if one.grid is not None:
            analysed = {name: inner.corruption for name, inner in one.rows.items()}
            rows += [(one.name, one.grid["benchmark"], row, analysed.get(row["row"])) for row in one.grid["rows"]]
        elif one.results is not None:
            rows.append((one.name, one.results["benchmark"], scores.as_row(one.results), one.corruption))
    return [scores.joint(rows)] if len(rows) > 1 else []


def _drawn(found: dict[str, Any], *kinds: Callable[[Any], Figure | Table | None]) -> dict[str, Any]:
    """Return the figures and tables of one document."""
    made = [make(found) for make in kinds]
    return {
        "figures": [one for one in made if isinstance(one, Figure)],
        "tables": [one for one in made if isinstance(one, Table)],
    }


def _comparison(one: RunDocuments) -> dict[str, Any]:
    if one.results is not None:
        return _drawn(
            one.results,
            figures.accuracy_bars,
            figures.differences,
            scores.accuracy,
            scores.comparisons,
            scores.detection,
        )
    if one.grid is not None:
        several = one.grid["config"]["seeds"] > 1
        return {
            "figures": [figures.grid_differences(one.grid)],
            "tables": [grids.grid_scores(one.grid, deviations=several)],
        }
    return {"hint": "No comparison is here.", "command": f"concordant report {one.folder}"}


def _severity(one: RunDocuments) -> dict[str, Any]:
    if one.corruption is None:
        return _missing(one, "Severities were not swept.", "concordant stress {} --corruption")
    return _drawn(
        one.corruption,
        figures.severity_curves,
        figures.reliability_diagram,
        robustness.corruption_summary,
        robustness.corruption_kinds,
        robustness.corruption_detection,
        robustness.covered,
    )


def _removal(one: RunDocuments) -> dict[str, Any]:
    if one.removal is None:
        return _missing(one, "Removal was not analysed.", "concordant stress {} --removal")
    return _drawn(one.removal, figures.subset_dots, figures.shapley_bars, figures.rate_curve, robustness.removal)


def _dynamics(one: RunDocuments) -> dict[str, Any]:
    if one.dynamics is None:
        made = next((line for line in commands(one) if line.startswith("concordant run")), "concordant run BENCHMARK")
        hint = "Training was not recorded; train again, into another folder."
        return {"hint": hint, "command": f"{made} --dynamics --out FOLDER"}
    return _drawn(one.dynamics, figures.training_lines, insight.stability)


def _features(one: RunDocuments) -> dict[str, Any]:
    if one.features is None:
        return _missing(one, "Features were not analysed.", "concordant inspect {}")
    drawn = _drawn(one.features, figures.feature_map, figures.gate_maps, figures.agreement_maps, insight.separation)
    return {**drawn, "sentences": [f"Features of {shown(one.features['label'])}, seed {one.features['seed']}."]}


def _distrusted(one: RunDocuments) -> dict[str, Any]:
    if one.features is None:
        return _missing(one, "Features were not analysed.", "concordant inspect {}")
    table = insight.distrusted(one.features)
    return {"tables": [table]} if table.rows else {"sentences": ["No modality of any test instance stands out."]}


def _appendix(one: RunDocuments) -> dict[str, Any]:
    return {"tables": [insight.checks(one.checks or [])], "settings": settings(one), "commands": commands(one)}


def _missing(one: RunDocuments, hint: str, command: str) -> dict[str, Any]:
    return {"hint": hint, "command": command.format(f"{one.folder}/ROW" if one.grid is not None else one.folder)}
