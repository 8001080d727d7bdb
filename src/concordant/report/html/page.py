"""The page as plain records: sections, in each a block a run, in each block figures and tables.

A block whose analysis was not made says which command makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from concordant.report.html import figures, tables, words
from concordant.report.html.appendix import commands, settings
from concordant.report.html.documents import RunDocuments
from concordant.report.html.figures import Figure
from concordant.report.html.tables import Table
from concordant.report.table import shown

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """What a section says of one run.

    Args:
        id: unique on the page.
        name: of the run.
        sentences: in words.
        figures: in order.
        tables: in order.
        hint: what to do where the analysis was not made.
        command: that makes it.
        settings: name -> value, for the appendix.
        commands: to reproduce the run.
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
        title: of the section.
        intro: one sentence on what it is about.
        blocks: one a run.
        tables: over all runs.
    """

    id: str
    title: str
    intro: str
    blocks: Sequence[Block]
    tables: Sequence[Table] = field(default_factory=tuple)


def sections(documents: Sequence[RunDocuments]) -> list[Section]:
    """Return the whole page."""
    runs = list(_single(documents))
    return [
        Section(
            "summary",
            "Summary",
            "What the numbers below say, wins and losses alike; p is Holm-corrected.",
            [Block(f"summary-{n}", one.name, words.summary(one)) for n, one in enumerate(_whole(documents))],
        ),
        Section(
            "comparison",
            "Comparison",
            "Every method was trained on the same splits, batches and perturbations, seed by seed.",
            [_comparison(one, f"comparison-{n}") for n, one in enumerate(documents)],
            _joint(documents),
        ),
        Section(
            "severity",
            "Severity",
            "How accuracy falls as one modality of every instance is corrupted more and more.",
            [_severity(one, f"severity-{n}") for n, one in enumerate(runs)],
        ),
        Section(
            "removal",
            "Removal",
            "What is left when modalities are absent, and what each brings.",
            [_removal(one, f"removal-{n}") for n, one in enumerate(runs)],
        ),
        Section(
            "dynamics",
            "Training dynamics",
            "What happened while the methods were trained, and how steadily.",
            [_dynamics(one, f"dynamics-{n}") for n, one in enumerate(runs)],
        ),
        Section(
            "features",
            "Features",
            "What calibration does to the features before they are fused.",
            [_features(one, f"features-{n}") for n, one in enumerate(runs)],
        ),
        Section(
            "distrusted",
            "Distrusted instances",
            "The test instances of which a modality is trusted least.",
            [_distrusted(one, f"distrusted-{n}") for n, one in enumerate(runs)],
        ),
        Section(
            "appendix",
            "Appendix",
            "What it takes to compute all of this again.",
            [_appendix(one, f"appendix-{n}") for n, one in enumerate(documents)],
        ),
    ]


def title_of(documents: Sequence[RunDocuments]) -> str:
    """Return the page's title."""
    names = [one.name for one in documents]
    return f"Concordant report: {names[0] if len(names) == 1 else f'{len(names)} runs'}"


def _single(documents: Sequence[RunDocuments]) -> Iterable[RunDocuments]:
    """Go through the single runs; the analysed rows of a grid by the names of both."""
    for one in documents:
        if one.grid is None:
            yield one
        elif one.rows:
            for row, inner in one.rows.items():
                yield _renamed(inner, f"{one.name}, {row}")
        else:
            yield one  # so that the sections say what is not analysed yet


def _whole(documents: Sequence[RunDocuments]) -> list[RunDocuments]:
    """Return the grids followed by their analysed rows, and the single runs: what the summary goes through."""
    found = []
    for one in documents:
        found.append(one)
        if one.grid is not None:
            # What was compared in a row is in the grid's own sentences.
            found += [
                RunDocuments(
                    name=f"{one.name}, {row}",
                    removal=inner.removal,
                    corruption=inner.corruption,
                    dynamics=inner.dynamics,
                    features=inner.features,
                )
                for row, inner in one.rows.items()
            ]
    return found


def _renamed(one: RunDocuments, name: str) -> RunDocuments:
    return RunDocuments(**{**vars(one), "name": name})


def _joint(documents: Sequence[RunDocuments]) -> tuple[Table, ...]:
    """Return the table over all runs and all rows of grids, where there are several."""
    compared = []
    for one in documents:
        if one.grid is not None:
            compared += tables.of_grid(one.name, one.grid, {row: inner.corruption for row, inner in one.rows.items()})
        elif one.results is not None:
            compared.append(tables.of_results(one.name, one.results, one.corruption))
    table = tables.joint(compared, "all") if len(compared) > 1 else None
    return (table,) if table is not None else ()


def _comparison(one: RunDocuments, key: str) -> Block:
    if one.results is not None:
        return Block(
            key,
            one.name,
            figures=_there(
                figures.accuracy_bars(one.results, key), figures.differences(one.results["comparisons"], key)
            ),
            tables=_there(
                tables.scores(one.results, key),
                tables.comparisons(one.results, key),
                tables.detection(one.results, key),
            ),
        )
    if one.grid is not None:
        return Block(
            key,
            one.name,
            figures=_there(figures.grid_differences(one.grid, key)),
            tables=_there(tables.grid_scores(one.grid, key)),
        )
    return Block(key, one.name, hint="No comparison is here.", command=f"concordant report {one.folder}")


def _severity(one: RunDocuments, key: str) -> Block:
    found = one.corruption
    if found is None:
        return _missing(one, key, "Severities were not swept.", "concordant stress {} --corruption")
    return Block(
        key,
        one.name,
        figures=_there(figures.severity_curves(found, key), figures.reliability_diagram(found, key)),
        tables=_there(
            tables.corruption_summary(found, key),
            tables.corruption_kinds(found, key),
            tables.corruption_detection(found, key),
            tables.covered(found, key),
        ),
    )


def _removal(one: RunDocuments, key: str) -> Block:
    found = one.removal
    if found is None:
        return _missing(one, key, "Removal was not analysed.", "concordant stress {} --removal")
    return Block(
        key,
        one.name,
        figures=_there(
            figures.subset_dots(found, key), figures.shapley_bars(found, key), figures.rate_curve(found, key)
        ),
        tables=_there(tables.removal(found, key)),
    )


def _dynamics(one: RunDocuments, key: str) -> Block:
    found = one.dynamics
    if found is None:
        made = next((line for line in commands(one) if line.startswith("concordant run")), "concordant run BENCHMARK")
        hint = "Training was not observed; train again, into another folder."
        return Block(key, one.name, hint=hint, command=f"{made} --dynamics --out FOLDER")
    return Block(
        key,
        one.name,
        figures=_there(figures.training_lines(found, key)),
        tables=_there(tables.stability(found, key)),
    )


def _features(one: RunDocuments, key: str) -> Block:
    found = one.features
    if found is None:
        return _missing(one, key, "Features were not looked into.", "concordant inspect {}")
    return Block(
        key,
        one.name,
        [f"These are the features of {shown(found['label'])}, seed {found['seed']}."],
        figures=_there(
            figures.feature_map(found, key), figures.gate_maps(found, key), figures.agreement_maps(found, key)
        ),
        tables=_there(tables.separation(found, key)),
    )


def _distrusted(one: RunDocuments, key: str) -> Block:
    if one.features is None:
        return _missing(one, key, "Features were not looked into.", "concordant inspect {}")
    table = tables.distrusted(one.features, key)
    said = [] if table is not None else ["No modality of any test instance stands out."]
    return Block(key, one.name, said, tables=_there(table))


def _appendix(one: RunDocuments, key: str) -> Block:
    return Block(
        key,
        one.name,
        tables=_there(tables.checks(one.checks or [], key)),
        settings=settings(one),
        commands=commands(one),
    )


def _missing(one: RunDocuments, key: str, hint: str, command: str) -> Block:
    folder = f"{one.folder}/ROW" if one.grid is not None else one.folder
    return Block(key, one.name, hint=hint, command=command.format(folder))


def _there(*found: T | None) -> list[T]:
    return [one for one in found if one is not None]
