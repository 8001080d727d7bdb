"""Tables of removal.json and corruption.json: subsets of modalities, kinds of corruption, detection, the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from concordant.report.format import Document, by_label, mean, metric_of, shown
from concordant.report.record import Cell, Table, marked, number, spread

PAIR = ("which", "whether")  # which modality is corrupted, whether one is


def removal(document: Document, *, retained: bool = False) -> Table:
    """Return the score of every subset of the modalities, Shapley values, and the area under the curve of rates.

    Args:
        document: removal.json.
        retained: add the share of the full score to each subset, in parentheses.
    """
    labels = by_label(document["runs"])
    rows = []
    for place, one in enumerate(document["runs"][0]["subsets"]):
        cells = [spread(run["subsets"][place]["score"] for run in runs) for runs in labels.values()]
        if retained:
            shares = [number(mean(run["subsets"][place]["retained"] for run in runs)) for runs in labels.values()]
            cells = [Cell(f"{a.text} ({b.text})", a.value) for a, b in zip(cells, shares, strict=True)]
        rows.append([Cell(" + ".join(one["present"])), *marked(cells)])
    for name in document["modalities"]:
        cells = [spread(run["shapley"].get(name) for run in runs) for runs in labels.values()]
        rows.append([Cell(f"Shapley value of {name}"), *cells])
    rows.append([Cell("area"), *marked([spread(run["rate_area"] for run in runs) for runs in labels.values()])])
    note = (
        f"{metric_of(document).capitalize()} in % with only these modalities; Shapley value: the points that a "
        "modality adds, in the mean over all orders; area: the mean over the rates at which modalities of instances "
        "were removed at random. Mean ± standard deviation over seeds; bold is the best of a row."
    )
    caption = "Modality removal"
    if retained:
        caption = (
            f"{document['benchmark']} · {document['fusion']}: with these modalities alone; share of the full score"
        )
    return Table("removal", caption, ["modalities present", *map(shown, labels)], rows, note)


def removal_rates(document: Document) -> Table:
    """Return the score at each rate of modalities removed at random."""
    labels = by_label(document["runs"])
    rows = [
        [
            Cell(f"{100 * rate:.0f} %"),
            *(spread(run["rates"][place]["score"] for run in runs) for runs in labels.values()),
        ]
        for place, rate in enumerate(document["rates"])
    ]
    caption = "Each modality of each instance removed at this rate"
    return Table("rates", caption, ["rate", *map(shown, labels)], rows)


def corruption_kinds(document: Document) -> Table:
    """Return the mean score over the severities of each kind, a column per method; then oracle and description."""
    labels, oracles = by_label(document["runs"]), by_label(document["oracle"])
    rows = []
    for kind in document["kinds"]:
        name = kind["name"]
        cells = marked([spread(_means(runs, name)) for runs in labels.values()])
        cells += [spread(_means(runs, name)) for runs in oracles.values()]
        rows.append([Cell(f"{name} *" if kind["seen"] else name), *cells, Cell(kind["group"]), Cell(kind["summary"])])
    head = ["corruption, mean over severities", *map(shown, labels), *(f"oracle of {shown(one)}" for one in oracles)]
    note = (
        f"Mean {metric_of(document)} in % over five severities, ± standard deviation over seeds; bold is the best of "
        "a row, oracles apart. * Training perturbs by this kind too, at other strengths."
    )
    return Table("kinds", "Score by kind of corruption", [*head, "group", "what it does"], rows, note)


def corruption_summary(document: Document) -> Table:
    """Return the figures over all kinds and severities per method: mean, area, error, oracle's share, worst case."""
    shares = {one["label"]: one["share"] for one in document["covered"]}
    rows = []
    for label, runs in by_label(document["runs"]).items():
        worst = min((run["worst"] for run in runs), key=lambda one: float(one["score"]))
        covered = number(shares.get(label), 0)
        rows.append(
            [
                Cell(shown(label)),
                spread(run["clean"] for run in runs),
                spread(run["mean"] for run in runs),
                spread((run["area"] for run in runs), 3, scale=1),
                spread((run["mean_corruption_error"] for run in runs), 2, scale=1),
                covered if covered.value is None else Cell(f"{covered.text} %", covered.value),
                spread(run["worst"]["score"] for run in runs),
                Cell(f"{worst['kind']}, {worst['severity']}"),
                number(worst["score"]),
                spread((run["diagram"]["error"] for run in runs if run["diagram"] is not None), 3, scale=1),
            ]
        )
    head = ["calibrator", "clean", "corrupted", "area", "error", "covered", "worst case", "which is", "its score"]
    note = (
        f"Corrupted: {metric_of(document)} in % over all kinds and severities. Area: under its curve by severity. "
        "Error: mean corruption error, errors over those of the twin of the same seed; below 1 is better. Covered: "
        "share of the way from the twin to its oracle. Worst case: mean over seeds; beside it the worst of all seeds, "
        "its kind and severity. Reliability's error: mean distance from the share of clean modalities."
    )
    return Table("robustness", "Robustness in numbers", [*head, "reliability's error"], rows, note)


def corruption_detection(document: Document, *, severest: bool = False) -> Table:
    """Return how well each method's reliability finds the corrupted modality, per kind; no rows without reliability.

    Args:
        document: corruption.json.
        severest: at the highest severity, instead of the mean over severities.
    """
    labels = {
        label: runs
        for label, runs in by_label(document["runs"]).items()
        if any(
            kind[what] is not None for run in runs for kind in run["kinds"].values() for what in ("which", "whether")
        )
    }
    rows = []
    for kind in document["kinds"] if labels else []:
        cells = []
        for runs in labels.values():
            pair = [_area(runs, kind["name"], what, severest=severest) for what in PAIR]
            both = all(cell.text == "-" for cell in pair)
            cells.append(Cell("-") if both else Cell(f"{pair[0].text} / {pair[1].text}", pair[0].value))
        rows.append([Cell(kind["name"]), *cells])
    place = "highest severity" if severest else "mean over severities"
    caption = f"Finding the corrupted modality, by kind, {place}: which / whether"
    note = "Area under the ROC curve, mean over seeds; 0.5 is chance, 1 is perfect."
    return Table("which", caption, ["kind", *map(shown, labels)], rows, note)


def corruption_terminal(document: Document) -> list[Table]:
    """Return what `concordant stress` prints: means per kind, figures over all kinds, detection when severest."""
    names = {"group", "what it does"}
    kinds, summary = corruption_kinds(document), corruption_summary(document)
    title = f"{document['benchmark']} · {document['fusion']}: one modality of every instance corrupted"
    found = [
        replace(kinds, caption=f"{title} (* training perturbs by this kind, at other strengths)").pick(
            lambda name: name not in names
        ),
        replace(summary, caption="over all kinds").pick(lambda name: name not in ("which is", "its score")),
        corruption_detection(document, severest=True),
    ]
    return [table.without_spread() for table in found if table.rows]


def covered(document: Document) -> Table:
    """Return the share of the distance from the twin to the oracle that each method covers."""
    kinds = [kind["name"] for kind in document["kinds"]]
    rows = [
        [
            Cell(shown(one["label"])),
            Cell(shown(one["twin"])),
            number(one["share"], 0),
            *(number(one["by_kind"].get(kind), 0) for kind in kinds),
        ]
        for one in document["covered"]
    ]
    note = (
        "In %: 0 is as good as the twin, 100 as good as the oracle, the twin that is given the corrupted modality as "
        "absent. Only conditions count in which the oracle is more than a point ahead; a dash where none is."
    )
    head = ["calibrator", "twin", "overall", *kinds]
    return Table("covered", "Distance to the oracle that is covered", head, rows, note)


def _means(runs: Sequence[Document], kind: str) -> list[float | None]:
    return [mean(run["kinds"][kind]["scores"]) for run in runs if kind in run["kinds"]]


def _area(runs: Sequence[Document], kind: str, what: str, *, severest: bool) -> Cell:
    found = [run["kinds"][kind][what] for run in runs if kind in run["kinds"]]
    known = [values[-1] if severest else mean(values) for values in found if values is not None]
    return number(mean(known), 2, scale=1)
