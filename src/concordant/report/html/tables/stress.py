"""Tables of removal.json and corruption.json: subsets, kinds of corruption, robustness, the oracle."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.html.numbers import by_label, mean, metric_of
from concordant.report.html.tables.base import Cell, Document, Table, best, number, spread, table_or_none
from concordant.report.table import shown


def removal(document: Document, key: str) -> Table | None:
    """Return the score of every subset of the modalities, and what each modality brings."""
    modalities = list(document["modalities"])
    first = document["runs"][0]
    subsets = [tuple(one["present"]) for one in first["subsets"]]
    subsets.sort(key=lambda one: (-len(one), one))
    labels = by_label(document["runs"])
    rows = []
    for label, runs in labels.items():
        found = [{tuple(one["present"]): one["score"] for one in run["subsets"]} for run in runs]
        cells = [spread(one.get(subset) for one in found) for subset in subsets]
        cells += [spread(run["shapley"].get(name) for run in runs) for name in modalities]
        cells.append(spread(run["rate_area"] for run in runs))
        rows.append((Cell(shown(label)), *cells))
    head = ("calibrator", *(" + ".join(one) for one in subsets), *(f"Shapley {one}" for one in modalities), "rate area")
    note = (
        f"{metric_of(document).capitalize()} in % with only these modalities; Shapley values in points; rate area: "
        "its mean over the rates at which modalities were removed at random. Mean ± standard deviation over seeds."
    )
    return table_or_none(f"{key}-removal", "Modality removal", head, best(rows, 1), note)


def corruption_kinds(document: Document, key: str) -> Table | None:
    """Return the mean accuracy over the severities of every kind, a row a kind, a column a method."""
    labels = by_label(document["runs"])
    oracles = by_label(document["oracle"])
    rows = []
    for kind in document["kinds"]:
        name = kind["name"]
        cells = [spread(_means(runs, name)) for runs in labels.values()]
        top = max((cell.value for cell in cells if cell.value is not None), default=None)
        marked = [Cell(cell.text, cell.value, strong=cell.value is not None and cell.value == top) for cell in cells]
        marked += [spread(_means(runs, name)) for runs in oracles.values()]
        seen = "yes" if kind["seen"] else "no"
        rows.append((Cell(name), Cell(kind["summary"]), Cell(kind["group"]), Cell(seen), *marked))
    head = ("kind", "what it does", "group", "seen", *(shown(one) for one in labels))
    head += tuple(f"oracle of {shown(one)}" for one in oracles)
    note = (
        f"Mean {metric_of(document)} in % over five severities, ± standard deviation over seeds; bold is the best of "
        "a row, oracles "
        "apart. Seen: training perturbs by this kind, at other strengths."
    )
    return table_or_none(f"{key}-kinds", "Accuracy by kind of corruption", head, rows, note)


def corruption_summary(document: Document, key: str) -> Table | None:
    """Return mean, area, mean corruption error and the worst case of every method."""
    rows = []
    for label, runs in by_label(document["runs"]).items():
        worst = min((run["worst"] for run in runs), key=lambda one: float(one["score"]))
        errors = [run["diagram"]["error"] for run in runs if run["diagram"] is not None]
        rows.append(
            (
                Cell(shown(label)),
                spread(run["clean"] for run in runs),
                spread(run["mean"] for run in runs),
                spread((run["area"] for run in runs), 3, scale=1),
                spread((run["mean_corruption_error"] for run in runs), 3, scale=1),
                Cell(f"{worst['kind']}, severity {worst['severity']}"),
                number(worst["score"]),
                spread(errors, 3, scale=1),
            )
        )
    head = (
        "calibrator",
        "clean",
        "mean",
        "area",
        "mean corruption error",
        "worst case",
        "its score",
        "reliability error",
    )
    note = (
        f"Mean: {metric_of(document)} in % over all kinds and severities. Area: under its curve by severity. Mean "
        "corruption error: errors over those of the twin of the same seed, below 1 is better. Worst case: of all "
        "seeds. Reliability error: mean distance of the reliability from the share that was intact."
    )
    return table_or_none(f"{key}-robustness", "Robustness in numbers", head, rows, note)


def corruption_detection(document: Document, key: str) -> Table | None:
    """Return how well each method names the corrupted modality, by kind, in the mean over severities."""
    labels = {
        label: runs
        for label, runs in by_label(document["runs"]).items()
        if any(
            kind["which"] is not None or kind["whether"] is not None for run in runs for kind in run["kinds"].values()
        )
    }
    rows = []
    for kind in document["kinds"]:
        cells = []
        for runs in labels.values():
            for what in ("which", "whether"):
                found = [run["kinds"][kind["name"]][what] for run in runs if kind["name"] in run["kinds"]]
                known = [mean(values) for values in found if values is not None]
                cells.append(number(mean(known), 2, scale=1))
        rows.append((Cell(kind["name"]), *cells))
    if not labels:
        return None
    head = ("kind", *(f"{shown(label)}, {what}" for label in labels for what in ("which", "whether")))
    note = "Area under the ROC curve, mean over severities and seeds; 0.5 is guessing, 1 is perfect."
    return table_or_none(f"{key}-which", "Finding the corrupted modality, by kind", head, rows, note)


def covered(document: Document, key: str) -> Table | None:
    """Return which share of the distance from the twin to the oracle each method covers."""
    kinds = [kind["name"] for kind in document["kinds"]]
    rows = [
        (
            Cell(shown(one["label"])),
            Cell(shown(one["twin"])),
            number(one["share"], 0),
            *(number(one["by_kind"].get(kind), 0) for kind in kinds),
        )
        for one in document["covered"]
    ]
    note = (
        "In %: 0 is as good as the twin, 100 as good as the oracle, the twin that is told the corrupted modality "
        "and given "
        "it as absent. Only conditions count in which the oracle is more than a point ahead; a dash where none is."
    )
    head = ("calibrator", "twin", "overall", *kinds)
    return table_or_none(f"{key}-covered", "Distance to the oracle that is covered", head, rows, note)


def _means(runs: Sequence[Document], kind: str) -> list[float | None]:
    return [mean(run["kinds"][kind]["scores"]) for run in runs if kind in run["kinds"]]
