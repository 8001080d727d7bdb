"""Tables of dynamics.json, features.json, checks of data, and one explained instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from concordant.report.format import Document, by_label, mean, shown
from concordant.report.record import Cell, Table, number

if TYPE_CHECKING:
    from concordant.visualisation.inspection import Explanation


def stability(document: Document) -> Table:
    """Return how steadily each method trained."""
    runs = by_label(document["runs"])
    measures = {"loss_variance": (".3g", 1), "spikes": (".1f", 1), "final_score": (".1f", 100), "sharpness": (".3g", 1)}
    rows = []
    for one in document["summary"]:
        cells = [_recorded(one[name], form, scale) for name, (form, scale) in measures.items()]
        times = [[run[key] for run in runs.get(one["label"], [])] for key in ("seconds", "observing_seconds")]
        rows.append([Cell(shown(one["label"])), *cells, *(number(mean(seconds), scale=1) for seconds in times)])
    head = ["calibrator", "loss variance", "spikes", "final score, %", "sharpness", "seconds", "observing, s"]
    note = (
        "Loss variance: of the task's loss in the second half of training, its trend removed. Spikes: steps whose loss "
        "leaps far above the steps before. Final score: on validation data. Sharpness: how much small changes of the "
        "weights raise the validation loss; lower is flatter."
    )
    return Table("stability", "Stability of training", head, rows, note)


def separation(document: Document) -> Table:
    """Return how well the classes are separated in the features, before and after calibration."""
    rows = []
    for name, one in document["separation"].items():
        scaled = (("silhouette", 3, 1), ("probe", 1, 100))
        sides = [number(one[what][when], n, scale=s) for what, n, s in scaled for when in ("before", "after")]
        rows.append([name, *sides])
    head = ["modality", "silhouette before", "silhouette after", "probe before, %", "probe after, %"]
    caption = f"Separation of the classes: {shown(document['label'])}, seed {document['seed']}"
    note = (
        "Silhouette: -1 to 1, higher is classes farther apart. Probe: accuracy of a linear classifier on the features."
    )
    return Table("separation", caption, head, rows, note)


def distrusted(document: Document, most: int | None = None) -> Table:
    """Return the instances with the lowest reliability of a modality, beside the usual one; at most so many."""
    rows = [
        [
            one["id"],
            one["modality"],
            *(number(one[key], digits, scale=1) for key, digits in (("reliability", 2), ("usual", 2), ("z", 1))),
            one["label"],
            one["prediction"],
            "yes" if one["right"] else "no",
            one["supported_by"] or "-",
            one["contradicted_by"] or "-",
        ]
        for one in document["distrusted"][:most]
    ]
    head = ["instance", "modality", "reliability", "usual", "z", "class", "prediction", "right"]
    note = "z: how many standard deviations the reliability lies from what is usual for the modality."
    caption = "Least trusted, beside what is usual"
    return Table("distrusted", caption, [*head, "supported by", "contradicted by"], rows, note)


def checks(documents: Sequence[Document]) -> Table:
    """Return the findings of the checks of the data."""
    rows = [
        [one["folder"], finding["level"], finding["subject"], finding["text"]]
        for one in documents
        for finding in one["findings"]
    ]
    return Table("checks", "Checks of the data", ["dataset", "level", "about", "finding"], rows)


def explanation(found: Explanation) -> Table:
    """Return one instance explained: reliability, support, conflict and the most changed dimensions per modality."""
    rows = []
    for one in found.verdicts:
        usual = Cell(f"{one.usual:.2f}", one.usual)
        if not one.present:
            rows.append([Cell(one.modality), Cell("absent"), usual, *([Cell("")] * 4)])
            continue
        pairs = [
            ", ".join(f"{name} {value:.2f}" for name, value in each) for each in (one.supported_by, one.contradicted_by)
        ]
        gates = [
            "\n".join(f"{place}: {gate:.2f} (usual {middle:.2f})" for place, gate, middle in each)
            for each in (one.down, one.up)
        ]
        reliability = Cell(f"{one.reliability:.2f} ({one.z:+.1f} sd)", one.reliability)
        rows.append([Cell(one.modality), reliability, usual, *(Cell(text or "-") for text in (*pairs, *gates))])
    head = ["modality", "reliability", "usual", "supported by", "contradicted by", "scaled down", "scaled up"]
    right = "right" if found.right else "wrong"
    caption = f"{found.id}: {found.label}, taken for {found.prediction} ({right})"
    return Table("explanation", caption, head, rows)


def _recorded(value: Document, form: str, scale: float) -> Cell:
    """Return a cell of a mean and a standard deviation that the document holds."""
    if value["mean"] is None:
        return Cell("-")
    around = "" if value["std"] is None else f"{scale * value['std']:{form}}"
    return Cell(f"{scale * value['mean']:{form}}", scale * value["mean"], around)
