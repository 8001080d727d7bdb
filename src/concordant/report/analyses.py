"""The analyses as tables for a terminal: removal, corruption, features, one instance explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from concordant.report.table import shown

if TYPE_CHECKING:
    from rich.table import Table

Document = Mapping[str, Any]


def removal_tables(document: Document) -> list[Table]:
    """Return scores by subset and method, Shapley values, and scores where instances lose modalities at random."""
    labels = _labels(document)
    subsets = [one["present"] for one in document["runs"][0]["subsets"]]
    first = _table(f"{_title(document)}: with these modalities alone; share of the full score", labels)
    for place, present in enumerate(subsets):
        cells = [
            f"{_mean(document, label, lambda run, k=place: run['subsets'][k]['score'])} "
            f"({_mean(document, label, lambda run, k=place: run['subsets'][k]['retained'])})"
            for label in labels
        ]
        first.add_row(" + ".join(present), *cells)
    second = _table("Shapley value: points that a modality adds, the mean over all orders", labels)
    for name in document["modalities"]:
        second.add_row(name, *(_mean(document, label, lambda run, m=name: run["shapley"][m]) for label in labels))
    third = _table("each modality of each instance gone with this chance", labels)
    for place, rate in enumerate(document["rates"]):
        third.add_row(
            f"{100 * rate:.0f} %",
            *(_mean(document, label, lambda run, k=place: run["rates"][k]["score"]) for label in labels),
        )
    third.add_row("area", *(_mean(document, label, lambda run: run["rate_area"]) for label in labels))
    return [first, second, third]


def corruption_tables(document: Document) -> list[Table]:
    """Return the mean score under each kind, the figures over all kinds, and detection at the highest severity."""
    labels = _labels(document)
    first = _table(f"{_title(document)}: one modality of every instance corrupted, mean over five severities", labels)
    for kind in document["kinds"]:
        name = kind["name"]
        cells = [
            _mean(document, label, lambda run, k=name: float(np.mean(run["kinds"][k]["scores"]))) for label in labels
        ]
        first.add_row(f"{name}{' *' if kind['seen'] else ''}", *cells)
    second = _table("over all kinds (* training perturbs by this kind, at other strengths)", labels)
    second.add_row("clean", *(_mean(document, label, lambda run: run["clean"]) for label in labels))
    second.add_row("mean", *(_mean(document, label, lambda run: run["mean"]) for label in labels))
    second.add_row("area", *(_mean(document, label, lambda run: run["area"]) for label in labels))
    second.add_row(
        "error/twin's", *(_mean(document, label, lambda run: run["mean_corruption_error"], 1, 2) for label in labels)
    )
    second.add_row("worst", *(_mean(document, label, lambda run: run["worst"]["score"]) for label in labels))
    covered = {one["label"]: one["share"] for one in document["covered"]}
    second.add_row(
        "of the oracle's way",
        *(f"{100 * covered[label]:.0f} %" if covered.get(label) is not None else "-" for label in labels),
    )
    tables = [first, second]
    telling = [label for label in labels if _runs(document, label)[0]["diagram"] is not None]
    if telling:
        third = _table("which modality was hit / whether one was, at the highest severity: AUROC", telling)
        for kind in document["kinds"]:
            name = kind["name"]
            cells = [
                " / ".join(
                    _mean(document, label, lambda run, k=name, w=what: run["kinds"][k][w][-1], 1, 2)
                    for what in ("which", "whether")
                )
                for label in telling
            ]
            third.add_row(name, *cells)
        tables.append(third)
    return tables


def feature_tables(document: Document) -> list[Table]:
    """Return how far classes lie apart before and after calibration, and the instances distrusted most."""
    from rich.table import Table

    first = Table(title=f"{_title(document)}: {document['label']}, seed {document['seed']}", **_STYLE)
    for heading in ("modality", "silhouette before", "after", "linear probe before", "after"):
        first.add_column(heading, justify="left" if heading == "modality" else "right")
    for name, found in document["separation"].items():
        values = [found["silhouette"]["before"], found["silhouette"]["after"]]
        probes = [found["probe"]["before"], found["probe"]["after"]]
        first.add_row(
            name,
            *("-" if v is None else f"{v:.3f}" for v in values),
            *("-" if v is None else f"{100 * v:.1f}" for v in probes),
        )
    second = Table(title="distrusted most; go and look", **_STYLE)
    for heading in ("instance", "modality", "reliability", "usual", "label", "prediction", "contradicted by"):
        second.add_column(heading, justify="right" if heading in ("reliability", "usual") else "left")
    for one in document["distrusted"][:10]:
        second.add_row(
            one["id"],
            one["modality"],
            f"{one['reliability']:.2f}",
            f"{one['usual']:.2f}",
            one["label"],
            f"{one['prediction']}{'' if one['right'] else ' (wrong)'}",
            one["contradicted_by"] or "-",
        )
    return [first, second]


def explanation_table(explanation: Any) -> Table:  # noqa: ANN401 - concordant.visualisation.inspection.Explanation
    """Return one instance explained: reliability of each modality, who supports and contradicts it, its dimensions."""
    from rich.table import Table

    right = "right" if explanation.right else "wrong"
    table = Table(
        title=f"{explanation.id}: {explanation.label}, taken for {explanation.prediction} ({right})", **_STYLE
    )
    for heading in ("modality", "reliability", "usual", "supported by", "contradicted by", "scaled down", "scaled up"):
        table.add_column(heading, justify="right" if heading in ("reliability", "usual") else "left")
    for one in explanation.verdicts:
        if not one.present:
            table.add_row(one.modality, "absent", f"{one.usual:.2f}", "", "", "", "")
            continue
        table.add_row(
            one.modality,
            f"{one.reliability:.2f} ({one.z:+.1f} sd)",
            f"{one.usual:.2f}",
            _pairs(one.supported_by),
            _pairs(one.contradicted_by),
            _gates(one.down),
            _gates(one.up),
        )
    return table


_STYLE: dict[str, Any] = {"title_justify": "left", "title_style": "bold", "padding": (0, 1)}


def _pairs(pairs: Sequence[tuple[Any, float]]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in pairs) or "-"


def _gates(dimensions: Sequence[tuple[int, float, float]]) -> str:
    return "\n".join(f"{number}: {gate:.2f} (usual {usual:.2f})" for number, gate, usual in dimensions) or "-"


def _title(document: Document) -> str:
    return f"{document['benchmark']} · {document['fusion']}"


def _labels(document: Document) -> list[str]:
    return list(dict.fromkeys(run["label"] for run in document["runs"]))


def _runs(document: Document, label: str) -> list[Any]:
    return [run for run in document["runs"] if run["label"] == label]


def _mean(document: Document, label: str, read: Any, scale: float = 100, digits: int = 1) -> str:  # noqa: ANN401
    values = [value for run in _runs(document, label) if (value := read(run)) is not None]
    return f"{scale * float(np.mean(values)):.{digits}f}" if values else "-"


def _table(title: str, labels: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(title=title, **_STYLE)
    table.add_column("")
    for label in labels:
        table.add_column(shown(label), justify="right")
    return table
