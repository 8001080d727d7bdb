"""Tables of removal.json and corruption.json: subsets of modalities, kinds of corruption, detection, the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from concordant.report.format import Document, by_label, mean, metric_of, shown
from concordant.report.record import Cell, Table, marked, number, spread


def removal(document: Document, *, retained: bool = False) -> Table:
    """Return the score of every subset of the modalities, Shapley values, and the area under the curve of rates.

    With `retained`, the share of the full score follows each subset's score, in parentheses.
    """
    labels = by_label(document["runs"])
    rows = []
    for place, one in enumerate(document["runs"][0]["subsets"]):
        cells = _cells([run["subsets"][place]["score"] for run in runs] for runs in labels.values())
        if retained:
            shares = [number(mean(run["subsets"][place]["retained"] for run in runs)) for runs in labels.values()]
            cells = [Cell(f"{a.text} ({b.text})", a.value) for a, b in zip(cells, shares, strict=True)]
        rows.append([Cell(" + ".join(one["present"])), *marked(cells)])
    for name in document["modalities"]:
        cells = _cells([run["shapley"].get(name) for run in runs] for runs in labels.values())
        rows.append([Cell(f"Shapley value of {name}"), *cells])
    areas = _cells([run["rate_area"] for run in runs] for runs in labels.values())
    note = (
        f"{metric_of(document).capitalize()} in % with only these modalities; Shapley value: the points that a "
        "modality adds, in the mean over all orders; area: the mean over the rates at which modalities of instances "
        "were removed at random. Mean ± standard deviation over seeds; bold is the best of a row."
    )
    title = f"{document['benchmark']} · {document['fusion']}: with these modalities alone; share of the full score"
    caption, head = title if retained else "Modality removal", ["modalities present", *map(shown, labels)]
    return Table("removal", caption, head, [*rows, [Cell("area"), *marked(areas)]], note)


def removal_rates(document: Document) -> Table:
    """Return the score at each rate of modalities removed at random."""
    labels = by_label(document["runs"])
    rows = []
    for place, rate in enumerate(document["rates"]):
        cells = _cells([run["rates"][place]["score"] for run in runs] for runs in labels.values())
        rows.append([Cell(f"{100 * rate:.0f} %"), *cells])
    return Table("rates", "Each modality of each instance removed at this rate", ["rate", *map(shown, labels)], rows)


def corruption_kinds(document: Document) -> Table:
    """Return the mean score over the severities of each kind, a column per method; then oracle and description."""
    labels, oracles = by_label(document["runs"]), by_label(document["oracle"])
    rows = []
    for kind in document["kinds"]:
        name = kind["name"]
        cells, others = (_cells(_means(runs, name) for runs in some.values()) for some in (labels, oracles))
        first = Cell(f"{name} *" if kind["seen"] else name)
        rows.append([first, *marked(cells), *others, Cell(kind["group"]), Cell(kind["summary"])])
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

    In the mean over severities, or at the severest.
    """
    kinds = [kind["name"] for kind in document["kinds"]]
    found = {
        label: [[_area(runs, kind, what, severest=severest) for what in ("which", "whether")] for kind in kinds]
        for label, runs in by_label(document["runs"]).items()
    }
    known = {label: rows for label, rows in found.items() if any(one.value is not None for row in rows for one in row)}
    rows = [[Cell(kind), *map(_pair, pairs)] for kind, *pairs in zip(kinds, *known.values(), strict=True) if known]
    place = "highest severity" if severest else "mean over severities"
    caption = f"Finding the corrupted modality, by kind, {place}: which / whether"
    note = "Area under the ROC curve, mean over seeds; 0.5 is chance, 1 is perfect."
    return Table("which", caption, ["kind", *map(shown, known)], rows, note)


def corruption_terminal(document: Document) -> list[Table]:
    """Return what `concordant stress` prints: means per kind, figures over all kinds, detection when severest."""
    title = f"{document['benchmark']} · {document['fusion']}: one modality of every instance corrupted"
    kinds = replace(
        corruption_kinds(document), caption=f"{title} (* training perturbs by this kind, at other strengths)"
    )
    summary = replace(corruption_summary(document), caption="over all kinds")
    found = [
        kinds.pick(lambda name: name not in ("group", "what it does")),
        summary.pick(lambda name: name not in ("which is", "its score")),
        corruption_detection(document, severest=True),
    ]
    return [table.without_spread() for table in found if table.rows]


def covered(document: Document) -> Table:
    """Return the share of the distance from the twin to the oracle that each method covers."""
    kinds = [kind["name"] for kind in document["kinds"]]
    rows = []
    for one in document["covered"]:
        shares = [one["share"], *(one["by_kind"].get(kind) for kind in kinds)]
        rows.append([Cell(shown(one["label"])), Cell(shown(one["twin"])), *(number(share, 0) for share in shares)])
    note = (
        "In %: 0 is as good as the twin, 100 as good as the oracle, the twin that is given the corrupted modality as "
        "absent. Only conditions count in which the oracle is more than a point ahead; a dash where none is."
    )
    head = ["calibrator", "twin", "overall", *kinds]
    return Table("covered", "Distance to the oracle that is covered", head, rows, note)


def _cells(values: Iterable[Iterable[float | None]]) -> list[Cell]:
    """Return a cell per method from its values, one per seed."""
    return [spread(one) for one in values]


def _means(runs: Sequence[Document], kind: str) -> list[float | None]:
    return [mean(run["kinds"][kind]["scores"]) for run in runs if kind in run["kinds"]]


def _area(runs: Sequence[Document], kind: str, what: str, *, severest: bool) -> Cell:
    found = [run["kinds"][kind][what] for run in runs if kind in run["kinds"]]
    known = [values[-1] if severest else mean(values) for values in found if values is not None]
    return number(mean(known), 2, scale=1)


def _pair(areas: Sequence[Cell]) -> Cell:
    which, whether = areas
    return which if which.text == whether.text == "-" else Cell(f"{which.text} / {whether.text}", which.value)
