"""The page as plain records: sections, in each a block per run, in each block sentences, figures and tables.

A block whose analysis was not made names the command that makes it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from concordant.report import sentences
from concordant.report.figures import comparison, dynamics, features, removal, severity
from concordant.report.figures.base import Figure
from concordant.report.folder import ANALYSES, RunDocuments
from concordant.report.format import shown
from concordant.report.record import Table
from concordant.report.tables import grids, insight, robustness, scores
from concordant.report.tables.verdict import NOTE, Question, verdict
from concordant.training.config import command_words

Fields = dict[str, Any]  # of a `Block`
GALLERY = 12  # instances that are shown with pictures; the table has all
# Anchor -> title, and the subject in one sentence.
_SECTIONS = {
    "verdict": ("Verdict", NOTE),
    "comparison": (
        "Comparison",
        "Every method was trained on the same splits, batches and perturbations, seed by seed.",
    ),
    "severity": ("Severity", "How accuracy falls as one modality of every instance is corrupted more and more."),
    "removal": ("Removal", "What is left when modalities are absent, and what each brings."),
    "dynamics": ("Training dynamics", "What happened while the methods were trained, and how steadily."),
    "features": ("Features", "What calibration does to the features before they are fused."),
    "distrusted": ("Distrusted instances", "The test instances with the lowest reliability of a modality."),
    "appendix": ("Appendix", "What it takes to compute all of this again."),
}


@dataclass(frozen=True)
class Block:
    """One run in a section.

    Args:
        id: unique on the page; the ids of its tables and figures begin with it.
        name: of the run.
        cards: the questions of the verdict.
        sentences: on its results.
        figures: in order.
        tables: in order.
        gallery: distrusted instances, with pictures.
        hint: what is missing where the analysis was not made.
        command: makes the analysis.
        settings: name and value, for the appendix.
        commands: reproduce the run.
    """

    id: str
    name: str
    cards: Sequence[Question] = ()
    sentences: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    gallery: Sequence[Mapping[str, Any]] = ()
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
    over = {"verdict": _whole(documents), "comparison": documents, "appendix": documents}
    runs = list(_single(documents))
    makers = (_verdict, _comparison, _severity, _removal, _dynamics, _features, _distrusted, _appendix)
    found = []
    for (anchor, (title, intro)), make in zip(_SECTIONS.items(), makers, strict=True):
        blocks = [Block(f"{anchor}-{n}", one.name, **make(one)) for n, one in enumerate(over.get(anchor, runs))]
        found.append(Section(anchor, title, intro, blocks, _joint(documents) if anchor == "comparison" else ()))
    return found


def title_of(documents: Sequence[RunDocuments]) -> str:
    """Return the page's title."""
    names = [one.name for one in documents]
    return f"Concordant report: {names[0] if len(names) == 1 else f'{len(names)} runs'}"


def _single(documents: Sequence[RunDocuments]) -> Iterable[RunDocuments]:
    """Iterate over single runs; the analysed rows of a grid by the names of both."""
    for one in documents:
        if one.rows:
            yield from (replace(inner, name=f"{one.name}, {row}") for row, inner in one.rows.items())
        else:
            yield one  # a grid without analyses too: its block names the command


def _whole(documents: Sequence[RunDocuments]) -> list[RunDocuments]:
    """Return grids followed by their analysed rows, and single runs: the blocks of the verdict."""
    found = []
    for one in documents:
        # The comparisons of a row are in the grid's own sentences.
        found += [one, *(replace(inner, results=None) for inner in _single([one]) if inner is not one)]
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


def _drawn(found: Any, *kinds: Callable[[Any], Figure | Table | None]) -> Fields:  # noqa: ANN401 - a document
    """Return the figures that can be drawn of one document, and the tables that have rows."""
    made = [make(found) for make in kinds]
    return {
        "figures": [one for one in made if isinstance(one, Figure)],
        "tables": [one for one in made if isinstance(one, Table) and one.rows],
    }


def _missing(one: RunDocuments, hint: str, command: str) -> Fields:
    folder = f"{one.folder}/ROW" if one.grid is not None else one.folder
    dataset = (one.results or one.grid or {}).get("config", {}).get("dataset")
    data = "" if dataset is None else f" --data {shlex.quote(dataset)}"  # a prepared dataset goes by its folder
    return {"hint": hint, "command": command.format(shlex.quote(folder)) + data}


def _verdict(one: RunDocuments) -> Fields:
    main = one.results or one.grid
    return {"cards": [] if main is None else verdict(main), "sentences": sentences.summary(one)}


def _comparison(one: RunDocuments) -> Fields:
    if one.results is not None:
        drawn = (comparison.accuracies, comparison.differences)
        return _drawn(one.results, *drawn, scores.accuracy, scores.comparisons, scores.detection)
    if one.grid is not None:
        several = one.grid["config"]["seeds"] > 1
        return _drawn(one.grid, comparison.grid_differences, lambda grid: grids.grid_scores(grid, deviations=several))
    return {"hint": "No comparison is here.", "command": f"concordant report {shlex.quote(one.folder)}"}


def _severity(one: RunDocuments) -> Fields:
    if one.corruption is None:
        return _missing(one, "Severities were not swept.", "concordant stress {} --corruption")
    tables = (robustness.corruption_summary, robustness.corruption_kinds, robustness.corruption_detection)
    curves = (severity.severity_curves, severity.reliability_diagram)
    return _drawn(one.corruption, *curves, *tables, robustness.covered)


def _removal(one: RunDocuments) -> Fields:
    if one.removal is None:
        return _missing(one, "Removal was not analysed.", "concordant stress {} --removal")
    return _drawn(one.removal, removal.subset_scores, removal.shapley_values, removal.rate_curve, robustness.removal)


def _dynamics(one: RunDocuments) -> Fields:
    if one.dynamics is None:
        made = next((line for line in _commands(one) if line.startswith("concordant run")), "concordant run BENCHMARK")
        hint = "Training was not recorded; train again, into another folder."
        return {"hint": hint, "command": f"{made} --dynamics --out FOLDER"}
    return _drawn(one.dynamics, dynamics.training_lines, insight.stability)


def _features(one: RunDocuments) -> Fields:
    if one.features is None:
        return _missing(one, "Features were not analysed.", "concordant inspect {}")
    drawn = _drawn(one.features, features.feature_map, features.gate_maps, features.agreement_maps, insight.separation)
    return {**drawn, "sentences": [f"Features of {shown(one.features['label'])}, seed {one.features['seed']}."]}


def _distrusted(one: RunDocuments) -> Fields:
    if one.features is None:
        return _missing(one, "Features were not analysed.", "concordant inspect {}")
    drawn = {**_drawn(one.features, insight.distrusted), "gallery": one.features["distrusted"][:GALLERY]}
    return drawn if drawn["tables"] else {"sentences": ["No modality of any test instance stands out."]}


def _appendix(one: RunDocuments) -> Fields:
    return {**_drawn(one.checks or [], insight.checks), "settings": _settings(one), "commands": _commands(one)}


def _settings(documents: RunDocuments) -> list[tuple[str, str]]:
    """Return configuration, versions and hardware as pairs of texts."""
    main = documents.results or documents.grid or {}
    heads = {"config": "", "versions": "version of ", "hardware": "hardware: "}
    return [
        (f"{head}{key}", as_text(value)) for kind, head in heads.items() for key, value in main.get(kind, {}).items()
    ]


def as_text(value: object) -> str:
    """Return a value of a configuration as text.

    >>> as_text(["a", "b"]), as_text({"steps": 400, "width": 64}), as_text(None), as_text(True)
    ('a, b', 'steps 400, width 64', '-', 'yes')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {as_text(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(as_text(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _commands(documents: RunDocuments) -> list[str]:
    """Return the commands that made the documents, each once; quoted for a shell."""
    # The command that recorded training is the one that trained, with an option more.
    found = [_run_command(documents) if documents.dynamics is None else documents.dynamics["command"]]
    for one in (documents, *documents.rows.values()):
        found += [document["command"] for kind in ANALYSES if (document := getattr(one, kind)) is not None]
    return list(dict.fromkeys(line for line in found if line))


def _run_command(documents: RunDocuments) -> str:
    """Return the command that trained the runs; the one that is recorded, or one put together from the settings."""
    main = documents.results or documents.grid
    if main is None:
        return ""
    if isinstance(main.get("command"), str):
        return str(main["command"])
    rows = [str(row["row"]) for row in main["rows"]] if "rows" in main else [str(main["fusion"])]
    return shlex.join(command_words(main["config"], fusion=",".join(rows)))
