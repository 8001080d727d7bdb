"""The result as tables for a terminal: scores, comparisons, detection.

Scores are percentages of test instances; what is computed is in results.json, here it is only set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from concordant.statistics.comparisons import METRIC

if TYPE_CHECKING:
    from rich.table import Table

Results = Mapping[str, Any]


def label_of(run: Mapping[str, Any]) -> str:
    """Return the name of a run's method, as `comparisons` names it."""
    return "none+perturbed" if run["calibrator"] == "none" and run["perturbed_training"] else str(run["calibrator"])


def labels_of(results: Results) -> list[str]:
    """Return the methods in the order of the runs."""
    return list(dict.fromkeys(label_of(run) for run in results["runs"]))


def values_of(results: Results, label: str, condition: str) -> list[float]:
    """Return one accuracy in [0, 1] a seed; the condition is named as in `comparisons`."""
    runs = [run for run in results["runs"] if label_of(run) == label]
    if condition == "clean":
        return [run["clean"][METRIC] for run in runs]
    if condition == "corruption.mean":
        return [float(np.mean([scores[METRIC] for scores in run["corruption"].values()])) for run in runs]
    kind, name = condition.split(".", 1)
    return [run[kind][name][METRIC] for run in runs]


def mean_and_std(values: Sequence[float]) -> str:
    """Return "mean ± std" in percent, the standard deviation of a sample; the mean alone for one value.

    >>> mean_and_std([0.5, 0.75])
    '62.5 ± 17.7'
    """
    mean = 100 * float(np.mean(values))
    return f"{mean:.1f}" if len(values) < 2 else f"{mean:.1f} ± {100 * float(np.std(values, ddof=1)):.1f}"


def p_text(value: float | None) -> str:
    """Return a p-value as one writes it; a dash where there is none.

    >>> p_text(0.0004), p_text(0.0312), p_text(None)
    ('<0.001', '0.031', '-')
    """
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def score_table(results: Results) -> Table:
    """Return accuracies by method: clean, and with one modality of every instance corrupted."""
    kinds = list(results["runs"][0]["corruption"])
    seeds = len({run["seed"] for run in results["runs"]})
    table = _table(
        f"{results['benchmark']} · {results['fusion']} · accuracy %, mean ± std over {seeds} "
        f"seed{'s' if seeds > 1 else ''}\nclean, and with one modality of every instance corrupted"
    )
    wanted = ["clean", *(f"corruption.{kind}" for kind in kinds), "corruption.mean"]
    return _filled(table, results, wanted, ["clean", *kinds, "mean"])


def sentiment_table(results: Results) -> Table | None:
    """Return the metrics of sentiment regression by method, clean; None where labels are classes."""
    columns = {
        "Has0": "has0_accuracy",
        "Non0": "non0_accuracy",
        "Non0 F1": "non0_f1_weighted",
        "Acc-7": "accuracy7",
        "Acc-5": "accuracy5",
        "MAE": "mae",
        "correlation": "correlation",
    }
    if "mae" not in results["runs"][0]["clean"]:
        return None
    table = _table("sentiment, clean, mean over seeds; accuracy above is Has0: which side of 0")
    table.add_column("calibrator")
    for heading in columns:
        table.add_column(heading, justify="right")
    for label in labels_of(results):
        cells = []
        for key in columns.values():
            found = [run["clean"][key] for run in results["runs"] if label_of(run) == label]
            known = [value for value in found if value is not None]
            scale, digits = (1, 3) if key in ("mae", "correlation") else (100, 1)
            cells.append(f"{scale * float(np.mean(known)):.{digits}f}" if known else "-")
        table.add_row(shown(label), *cells, style="bold" if label == "context" else None)
    return table


def removal_table(results: Results) -> Table:
    """Return accuracies by method with each modality removed, and the parameters of each calibrator."""
    names = list(results["runs"][0]["removal"])
    table = _table("accuracy % with one modality removed; parameters")
    return _filled(table, results, [f"removal.{name}" for name in names], [f"no {n}" for n in names], count=True)


def _table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    # Without rules between columns the tables fit a terminal of 80 columns.
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0)


def _filled(
    table: Table, results: Results, wanted: Sequence[str], headings: Sequence[str], *, count: bool = False
) -> Table:
    """Add a row a method: its scores under the wanted conditions, and its parameters if they count."""
    table.add_column("calibrator")
    for heading in [*headings, "parameters"] if count else headings:
        table.add_column(heading, justify="right")
    for label in labels_of(results):
        cells = [mean_and_std(values_of(results, label, condition)).replace(" ", "") for condition in wanted]
        if count:
            cells.append(f"{next(run['parameters'] for run in results['runs'] if label_of(run) == label):,}")
        table.add_row(shown(label), *cells, style="bold" if label == "context" else None)
    return table


def comparison_table(results: Results) -> Table:
    """Return paired differences with their intervals and p-values, for the main conditions."""
    ours = results["comparisons"][0]["of"]
    table = _table(f"{ours} minus each, in points; p by bootstrap and over seeds")
    for heading in ("to", "condition", "points", "95 % interval", "p (Holm)", "Wilcoxon"):
        table.add_column(heading, justify="left" if heading in ("to", "condition") else "right")
    for entry in results["comparisons"]:
        if entry["condition"].startswith("removal."):
            continue
        low, high = (100 * end for end in entry["ci95"])
        table.add_row(
            shown(entry["to"]),
            _condition(entry["condition"]),
            f"{100 * entry['difference']:+.1f}",
            f"{low:+.1f} to {high:+.1f}",
            p_text(entry["p_holm"]),
            p_text(entry["p_wilcoxon"]),
            end_section=entry is _last_shown(results["comparisons"], entry["to"]),
        )
    return table


def detection_table(results: Results) -> Table | None:
    """Return how well each calibrator names the corrupted modality; None when none gives a reliability."""
    kinds = list(results["runs"][0]["corruption"])
    table = _table("which modality was hit / whether one was: AUROC")
    table.add_column("calibrator")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for label in labels_of(results):
        found = detection_of(results, label)
        if found is None:
            continue
        cells = [f"{which:.2f} / {whether:.2f}" for which, whether in found]
        table.add_row(label, *cells, style="bold" if label == "context" else None)
    return table if table.row_count else None


def detection_of(results: Results, label: str) -> list[tuple[float, float]] | None:
    """Return the mean AUROC over seeds, which and whether, for each corruption; None without reliability."""
    runs = [run["detection_auroc"] for run in results["runs"] if label_of(run) == label]
    means = []
    for kind in runs[0]:
        values = [[run[kind]["which"], run[kind]["whether"]] for run in runs]
        if any(value is None for pair in values for value in pair):
            return None
        which, whether = np.mean(values, 0)
        means.append((float(which), float(whether)))
    return means


def summary_line(results: Results) -> str:
    """Return the result in a sentence or two, losses said like wins."""
    said = []
    for entry in results["comparisons"]:
        if entry["condition"] in ("clean", "corruption.mean"):
            where = "clean" if entry["condition"] == "clean" else "corrupted (mean)"
            sure = "p" if entry["p_holm"] < 0.05 else "not significant, p"
            said.append(
                f"{where}, {entry['of']} against {shown(entry['to'])}: "
                f"{100 * entry['difference']:+.1f} points ({sure} {p_text(entry['p_holm'])})"
            )
    return "\n".join(said)


def shown(label: str) -> str:
    """Return a method as people read it."""
    return {"none": "none, clean", "none+perturbed": "none, perturbed"}.get(label, label)


def _condition(name: str) -> str:
    """Return a condition as people read it."""
    return "mean" if name == "corruption.mean" else name.removeprefix("corruption.")


def _last_shown(comparisons: Sequence[Mapping[str, Any]], to: str) -> Mapping[str, Any]:
    mine = [c for c in comparisons if c["to"] == to and not c["condition"].startswith("removal.")]
    return mine[-1]
