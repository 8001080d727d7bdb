"""Tables of dynamics.json, features.json and the checks of the data."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.html.numbers import by_label, mean
from concordant.report.html.tables.base import Cell, Document, Table, given, number, table_or_none
from concordant.report.table import shown


def stability(document: Document, key: str) -> Table | None:
    """Return how steadily each method trained."""
    rows = []
    seconds = {
        label: (mean(r["seconds"] for r in runs), mean(r["observing_seconds"] for r in runs))
        for label, runs in by_label(document["runs"]).items()
    }
    for one in document["summary"]:
        took, observing = seconds.get(one["label"], (None, None))
        rows.append(
            (
                Cell(shown(one["label"])),
                given(one["loss_variance"], "{:.3g}"),
                given(one["spikes"], "{:.1f}"),
                given(one["final_score"], "{:.1f}", 100),
                given(one["sharpness"], "{:.3g}"),
                number(took, 1, scale=1),
                number(observing, 1, scale=1),
            )
        )
    head = ("calibrator", "loss variance", "spikes", "final score, %", "sharpness", "seconds", "observing, s")
    note = (
        "Loss variance: of the second half of training, its trend removed. Spikes: steps whose loss leaps far above "
        "the steps before. Final score: on validation data. Sharpness: how much small changes of the weights raise the "
        "validation loss; lower is flatter."
    )
    return table_or_none(f"{key}-stability", "Stability of training", head, rows, note)


def separation(document: Document, key: str) -> Table | None:
    """Return how well the classes are apart in the features, before and after calibration."""
    rows = [
        (
            Cell(name),
            *(
                number(one[what][when], digits, scale=scale)
                for what, digits, scale in (("silhouette", 3, 1), ("probe", 1, 100))
                for when in ("before", "after")
            ),
        )
        for name, one in document["separation"].items()
    ]
    head = ("modality", "silhouette before", "silhouette after", "probe before, %", "probe after, %")
    note = (
        "Silhouette: -1 to 1, higher is classes farther apart. Probe: accuracy of a linear classifier on the features."
    )
    return table_or_none(f"{key}-separation", "Separation of the classes", head, rows, note)


def distrusted(document: Document, key: str) -> Table | None:
    """Return the instances of which a modality is trusted least, beside what is usual."""
    rows = [
        (
            Cell(one["id"]),
            Cell(one["modality"]),
            number(one["reliability"], 2, scale=1),
            number(one["usual"], 2, scale=1),
            number(one["z"], 1, scale=1),
            Cell(one["label"]),
            Cell(one["prediction"]),
            Cell("yes" if one["right"] else "no"),
            Cell(one["supported_by"] or "-"),
            Cell(one["contradicted_by"] or "-"),
        )
        for one in document["distrusted"]
    ]
    head: tuple[str, ...] = ("instance", "modality", "reliability", "usual", "z", "class", "prediction", "right")
    head += ("supported by", "contradicted by")
    note = "z: how many standard deviations the reliability lies from what is usual for the modality."
    return table_or_none(f"{key}-distrusted", "Least trusted, beside what is usual", head, rows, note)


def checks(documents: Sequence[Document], key: str) -> Table | None:
    """Return what the checks of the data found."""
    rows = [
        (Cell(one["folder"]), Cell(finding["level"]), Cell(finding["subject"]), Cell(finding["text"]))
        for one in documents
        for finding in one["findings"]
    ]
    return table_or_none(f"{key}-checks", "Checks of the data", ("dataset", "level", "about", "finding"), rows)
