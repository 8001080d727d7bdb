"""Tables of results.json: scores, sentiment metrics, detection, paired differences; one table over several runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from concordant.report.format import (
    SIGNIFICANT,
    Document,
    by_label,
    label_of,
    labels_of,
    p_text,
    plural,
    seeds_of,
    shown,
    values_of,
)
from concordant.report.record import Cell, Table, best_of_columns, markdown, marked, number, spread

MAIN = ("clean", "corruption.mean")  # the conditions of a short comparison
SENTIMENT = {
    "Has0": "has0_accuracy",
    "Non0": "non0_accuracy",
    "Non0 F1": "non0_f1_weighted",
    "Acc-7": "accuracy7",
    "Acc-5": "accuracy5",
    "MAE": "mae",
    "correlation": "correlation",
}


def scores(results: Document) -> Table:
    """Return accuracies per method: clean, under each corruption, their mean, and without each modality."""
    first = results["runs"][0]
    kinds = list(first["corruption"])
    columns = {"clean": "clean", **{f"corruption.{kind}": kind for kind in kinds}}
    columns |= {"corruption.mean": "mean"} if kinds else {}
    columns |= {f"removal.{name}": f"without {name}" for name in first["removal"]}
    rows = []
    for label in labels_of(results):
        count = next(run["parameters"] for run in results["runs"] if label_of(run) == label)
        cells = [spread(values_of(results, label, condition)) for condition in columns]
        rows.append([Cell(shown(label)), Cell(f"{count:,}", count), *cells])
    return Table(
        "scores",
        f"{results['benchmark']} · {results['fusion']} · accuracy %, "
        f"mean ± std over {plural(seeds_of(results['runs']), 'seed')}",
        ["calibrator", "its parameters", *columns.values()],
        best_of_columns(rows, 2),
        "One modality of every instance is corrupted, or one removed. Bold is the highest mean of a column.",
    )


def sentiment(results: Document) -> Table:
    """Return the metrics of sentiment regression per method, clean; no rows where labels are classes."""
    rows = []
    for label in labels_of(results) if "mae" in results["runs"][0]["clean"] else []:
        runs = [run["clean"] for run in results["runs"] if label_of(run) == label]
        cells = []
        for key in SENTIMENT.values():
            scale, digits = (1, 3) if key in ("mae", "correlation") else (100, 1)
            cells.append(spread((run[key] for run in runs), digits, scale=scale))
        rows.append([Cell(shown(label)), *cells])
    caption = "Sentiment, clean; accuracy elsewhere is Has0: on which side of 0"
    return Table("sentiment", caption, ["calibrator", *SENTIMENT], rows).without_spread()


def detection(results: Document) -> Table:
    """Return how well each method's reliability finds the corrupted modality; no rows without a reliability."""
    kinds = list(results["runs"][0]["corruption"])
    rows = []
    for label in labels_of(results) if kinds else []:
        runs = [run["detection_auroc"] for run in results["runs"] if label_of(run) == label]
        values = np.array([[[run[kind][what] for what in ("which", "whether")] for kind in kinds] for run in runs])
        if None not in values:
            means = values.astype(float).mean(0)
            cells = [Cell(f"{which:.2f} / {whether:.2f}", which) for which, whether in means]
            rows.append([Cell(shown(label)), *cells])
    note = (
        "Area under the ROC curve of the reliability: which modality of an instance is corrupted, and whether one is. "
        "0.5 is chance, 1 is perfect."
    )
    head = "which modality / whether one: AUROC"
    return Table("detection", "Finding the corrupted modality", [head, *kinds], rows, note)


def comparisons(results: Document, wanted: Callable[[str], bool] | None = None, *, short: bool = False) -> Table:
    """Return paired differences with intervals and p-values.

    Args:
        results: results.json.
        wanted: which conditions; None for all.
        short: name the method of comparison and the corruption alone, for a terminal.
    """
    found = [one for one in results["comparisons"] if wanted is None or wanted(one["condition"])]
    rows = [
        [
            shown(one["to"]) if short else f"{shown(one['of'])} - {shown(one['to'])}",
            one["condition"].removeprefix("corruption.") if short else one["condition"],
            Cell(f"{100 * one['difference']:+.1f}", 100 * one["difference"], strong=one["p_holm"] < SIGNIFICANT),
            Cell(" to ".join(f"{100 * end:+.1f}" for end in one["ci95"]), 100 * one["ci95"][0]),
            Cell(p_text(one["p_holm"]), one["p_holm"]),
            Cell(p_text(one["p_wilcoxon"]), one["p_wilcoxon"]),
        ]
        for one in found
    ]
    head = [
        "to" if short else "difference",
        "condition",
        "points",
        "95 % interval",
        "p (bootstrap, Holm)",
        "p (Wilcoxon)",
    ]
    caption = f"Paired differences in accuracy, {shown(found[0]['of'])} minus each" if found else ""
    note = f"Paired over seeds and test instances; bold is significant after Holm's correction (p < {SIGNIFICANT})."
    return Table("comparisons", caption, head, rows, note)


def brief(results: Document) -> str:
    """Return scores, detection and main differences of one result in Markdown, for a README or a model card."""
    head = (
        f"`{results['benchmark']}`, {results['fusion']} fusion, accuracy in percent, mean ± std over "
        f"{seeds_of(results['runs'])} seeds:\n"
    )
    return "\n".join([head, *result_tables(results)])


def result_tables(results: Document) -> list[str]:
    """Return scores, detection and main differences as Markdown, without empty tables."""
    main = comparisons(results, lambda condition: condition in MAIN)
    texts = [markdown(scores(results)), markdown(detection(results)), markdown(main, strong=False)]
    return [text for text in texts if text]


def terminal_tables(results: Document) -> list[Table]:
    """Return the tables that `concordant run` prints, each narrow enough for 80 columns where modalities are few."""
    whole = scores(results)
    apart = [name for name in whole.columns if name.startswith("without ")]
    found = [
        replace(whole, caption=f"{whole.caption}\nclean, and with one modality of every instance corrupted").pick(
            lambda name: name != "its parameters" and name not in apart
        ),
        sentiment(results),
        detection(results),
        replace(whole, caption="accuracy in % with one modality removed").pick(
            ["calibrator", *apart, "its parameters"]
        ),
        comparisons(results, lambda condition: not condition.startswith("removal."), short=True),
    ]
    return [table for table in found if table.rows]


@dataclass(frozen=True)
class Compared:
    """Scores and differences of one run, or of one row of a grid.

    Args:
        name: of the run.
        benchmark: of the run.
        fusion: of the run, or the row of the grid.
        clean: label -> accuracy in [0, 1] per seed.
        corrupted: label -> the mean over the quick corruptions per seed; empty without them.
        comparisons: as in results.json.
        corruption: corruption.json, or None.
    """

    name: str
    benchmark: str
    fusion: str
    clean: Mapping[str, Sequence[float]]
    corrupted: Mapping[str, Sequence[float]]
    comparisons: Sequence[Document]
    corruption: Document | None


def of_results(name: str, results: Document, corruption: Document | None) -> Compared:
    """Return the scores and differences of a run."""
    quick = bool(results["runs"][0]["corruption"])
    clean = {label: values_of(results, label, "clean") for label in labels_of(results)}
    corrupted = {label: values_of(results, label, "corruption.mean") if quick else [] for label in clean}
    comparisons = results["comparisons"]
    return Compared(name, results["benchmark"], results["fusion"], clean, corrupted, comparisons, corruption)


def of_grid(name: str, grid: Document, corruptions: Mapping[str, Document | None]) -> list[Compared]:
    """Return the scores and differences of each row of a grid."""
    found = []
    for row in grid["rows"]:
        clean, corrupted = ({label: one[condition] for label, one in row["scores"].items()} for condition in MAIN)
        corruption = corruptions.get(row["row"])
        found.append(Compared(name, grid["benchmark"], row["row"], clean, corrupted, row["comparisons"], corruption))
    return found


def joint(compared: Sequence[Compared]) -> Table:
    """Return one table over several runs, a row per run and method; sweeps of severity only where one was made."""
    swept = any(one.corruption is not None for one in compared)
    head = ["run", "benchmark", "fusion", "calibrator", "clean", "quick corruption"]
    head += ["all corruptions", "corruption error"] if swept else []
    note = (
        "Accuracy in %, mean ± standard deviation over seeds; bold is the best of a run. Ours minus it: the paired "
        "difference in points under the quick corruption of one modality, with its corrected p-value."
    )
    if swept:
        note += (
            " All corruptions: over all kinds and severities. Corruption error: relative to the twin's; at 1 there "
            "are as many errors."
        )
    rows = [row for one in compared for row in _joint_rows(one, swept=swept)]
    return Table("joint", "All runs together", [*head, "ours minus it", "p (Holm)"], rows, note)


def _joint_rows(one: Compared, *, swept: bool) -> list[list[Cell]]:
    stressed = by_label(one.corruption["runs"]) if one.corruption is not None else {}
    against = {entry["to"]: entry for entry in one.comparisons if entry["condition"] == "corruption.mean"}
    columns = [marked([spread(scores[label]) for label in one.clean]) for scores in (one.clean, one.corrupted)]
    rows = []
    for place, label in enumerate(one.clean):
        runs, entry = stressed.get(label, []), against.get(label)
        row = [Cell(text) for text in (one.name, one.benchmark, one.fusion, shown(label))]
        row += [column[place] for column in columns]
        if swept:
            row.append(spread(run["mean"] for run in runs))
            row.append(spread((run["mean_corruption_error"] for run in runs), 3, scale=1))
        row.append(number(None if entry is None else entry["difference"], sign=True))
        row.append(Cell("-") if entry is None else Cell(p_text(entry["p_holm"]), entry["p_holm"]))
        rows.append(row)
    return rows
