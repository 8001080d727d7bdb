"""Tables of results.json: scores, sentiment metrics, detection, paired differences; one table over several runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from concordant.report.format import (
    SIGNIFICANT,
    Document,
    by_label,
    labels_of,
    lines_of,
    p_text,
    plural,
    seeds_of,
    shown,
    values_of,
)
from concordant.report.record import Cell, Table, best_of_columns, markdown, marked, number, spread
from concordant.report.tables.verdict import verdict_table
from concordant.statistics.comparisons import FAMILIES, MAIN

SENTIMENT = {
    "Has0": "has0_accuracy",
    "Non0": "non0_accuracy",
    "Non0 F1": "non0_f1_weighted",
    "Acc-7": "accuracy7",
    "Acc-5": "accuracy5",
    "MAE": "mae",
    "correlation": "correlation",
}


def accuracy(results: Document) -> Table:
    """Return accuracies per baseline and method: clean, under each corruption, their mean, without each modality."""
    first = results["runs"][0]
    kinds = list(first["corruption"])
    columns = {"clean": "clean", **{f"corruption.{kind}": kind for kind in kinds}}
    columns |= {"corruption.mean": "mean"} if kinds else {}
    columns |= {f"removal.{name}": f"without {name}" for name in first["removal"]}
    rows = []
    for label, runs in by_label(lines_of(results)).items():
        count = runs[0]["parameters"]
        cells = [spread(values_of(results, label, condition)) for condition in columns]
        rows.append([Cell(shown(label)), Cell(f"{count:,}", count), *cells])
    return Table(
        "scores",
        f"{results['benchmark']} · {results['fusion']} · accuracy %, "
        f"mean ± std over {plural(seeds_of(results['runs']), 'seed')}",
        ["calibrator", "its parameters", *columns.values()],
        best_of_columns(rows, 2),
        f"One modality of every instance is corrupted, or one removed. Bold is the highest mean of a column."
        f"{_chosen(results)}",
    )


def _chosen(results: Document) -> str:
    """Return which modality was the best single one, as a sentence; nothing without baselines."""
    names = [str(one["modality"]) for one in results.get("baselines", []) if "modality" in one]
    if not names:
        return ""
    counts = [f"{name} under {names.count(name)}" for name in dict.fromkeys(names)]
    return (
        f" The best single modality is chosen on validation data, seed by seed ({', '.join(counts)} of "
        f"{plural(len(names), 'seed')}); late fusion is the mean of one linear model per modality."
    )


def sentiment(results: Document) -> Table:
    """Return the metrics of sentiment regression per method, clean; no rows where labels are classes."""
    rows = []
    for label, runs in by_label(lines_of(results)).items() if "mae" in results["runs"][0]["clean"] else ():
        cells = []
        for key in SENTIMENT.values():
            scale, digits = (1, 3) if key in ("mae", "correlation") else (100, 1)
            cells.append(spread((run["clean"][key] for run in runs), digits, scale=scale))
        rows.append([Cell(shown(label)), *cells])
    caption = "Sentiment, clean; accuracy elsewhere is Has0: on which side of 0"
    return Table("sentiment", caption, ["calibrator", *SENTIMENT], rows).without_spread()


def detection(results: Document) -> Table:
    """Return how well each method's reliability finds the corrupted modality; no rows without a reliability."""
    kinds = list(results["runs"][0]["corruption"])
    rows = []
    for label, runs in by_label(results["runs"]).items():
        areas = [[run["detection_auroc"][kind] for kind in kinds] for run in runs]
        values = np.array([[[one["which"], one["whether"]] for one in row] for row in areas])
        if kinds and None not in values:
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
        short: name the method of comparison and the corruption alone, with a star at primary endpoints, for a terminal.
    """
    found = [one for one in results["comparisons"] if wanted is None or wanted(one["condition"])]
    rows = [
        [
            *(
                [shown(one["to"]), one["condition"].removeprefix("corruption.") + " *" * (one["family"] == FAMILIES[0])]
                if short
                else [f"{shown(one['of'])} - {shown(one['to'])}", one["condition"], one["family"]]
            ),
            Cell(f"{100 * one['difference']:+.1f}", 100 * one["difference"], strong=one["p_holm"] < SIGNIFICANT),
            Cell(" to ".join(f"{100 * end:+.1f}" for end in one["ci95"]), 100 * one["ci95"][0]),
            Cell(p_text(one["p_holm"]), one["p_holm"]),
            Cell(p_text(one["p_wilcoxon"]), one["p_wilcoxon"]),
        ]
        for one in found
    ]
    first = ["to", "condition"] if short else ["difference", "condition", "endpoint"]
    head = [*first, "points", "95 % interval", "p (bootstrap, Holm)", "p (Wilcoxon)"]
    caption = f"Paired differences in accuracy, {shown(found[0]['of'])} minus each" if found else ""
    caption += "\n* primary endpoints, corrected by themselves; all others are secondary" if short and found else ""
    note = (
        f"Paired over seeds and test instances; bold is significant after Holm's correction (p < {SIGNIFICANT}), which "
        "is over the primary endpoints (the twins, clean and in the mean over corruptions) and over the secondary ones."
    )
    return Table("comparisons", caption, head, rows, note)


def brief(results: Document) -> str:
    """Return verdict, scores, detection and main differences of one result in Markdown, for a model card."""
    head = (
        f"`{results['benchmark']}`, {results['fusion']} fusion, accuracy in percent, mean ± std over "
        f"{seeds_of(results['runs'])} seeds:\n"
    )
    return "\n".join([head, *filter(None, [markdown(verdict_table(results))]), *result_tables(results)])


def result_tables(results: Document) -> list[str]:
    """Return scores, detection and main differences as Markdown, without empty tables."""
    main = comparisons(results, lambda condition: condition in MAIN)
    texts = [markdown(accuracy(results)), markdown(detection(results)), markdown(main, strong=False)]
    return [text for text in texts if text]


def terminal_tables(results: Document) -> list[Table]:
    """Return the tables that `concordant run` prints, each narrow enough for 80 columns where modalities are few."""
    whole = accuracy(results)
    apart = [name for name in whole.columns if name.startswith("without ")]
    clean = replace(whole, caption=f"{whole.caption}\nclean, and with one modality of every instance corrupted")
    removed = replace(whole, caption="accuracy in % with one modality removed")
    found = [
        clean.pick(lambda name: name != "its parameters" and name not in apart),
        sentiment(results),
        detection(results),
        removed.pick(["calibrator", *apart, "its parameters"]),
        comparisons(results, lambda condition: not condition.startswith("removal."), short=True),
    ]
    return [table for table in found if table.rows]


def as_row(results: Document) -> Document:
    """Return a run in the form of a grid's row: scores per method and main condition, and comparisons."""
    corrupted = bool(results["runs"][0]["corruption"])
    scores = {
        label: {one: values_of(results, label, one) if corrupted or one == "clean" else [] for one in MAIN}
        for label in labels_of(results)
    }
    return {"row": results["fusion"], "scores": scores, "comparisons": results["comparisons"]}


def joint(rows: Sequence[tuple[str, str, Document, Document | None]]) -> Table:
    """Return one table over several runs, a line per run and method; sweeps of severity only where one was made.

    Args:
        rows: name of the run, benchmark, row of a grid (or `as_row`), and corruption.json.
    """
    swept = any(corruption is not None for *_, corruption in rows)
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
    lines = []
    for name, benchmark, row, corruption in rows:
        stressed = by_label(corruption["runs"]) if corruption is not None else {}
        against = {entry["to"]: entry for entry in row["comparisons"] if entry["condition"] == "corruption.mean"}
        columns = [marked([spread(scores[one]) for scores in row["scores"].values()]) for one in MAIN]
        for label, *cells in zip(row["scores"], *columns, strict=True):
            if swept:
                runs = stressed.get(label, [])
                cells.append(spread(run["mean"] for run in runs))
                cells.append(spread((run["mean_corruption_error"] for run in runs), 3, scale=1))
            entry = against.get(label)
            cells.append(number(None if entry is None else entry["difference"], sign=True))
            cells.append(Cell("-") if entry is None else Cell(p_text(entry["p_holm"]), entry["p_holm"]))
            lines.append([*map(Cell, (name, benchmark, row["row"], shown(label))), *cells])
    return Table("joint", "All runs together", [*head, "ours minus it", "p (Holm)"], lines, note)
