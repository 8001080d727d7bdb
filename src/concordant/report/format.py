"""Names, numbers and lists as the tables, figures and sentences show them; means over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from concordant.statistics.comparisons import METRIC, OURS

DIGITS = 4
SIGNIFICANT = 0.05  # p-values below it, after Holm's correction
Document = Mapping[str, Any]


def label_of(run: Document) -> str:
    """Return the label of a run's method, as `comparisons` in results.json has it."""
    if "label" in run:
        return str(run["label"])
    return "none+perturbed" if run["calibrator"] == "none" and run["perturbed_training"] else str(run["calibrator"])


def by_label(runs: Sequence[Document]) -> dict[str, list[Document]]:
    """Return label -> its runs, one per seed, in the order of the document."""
    found: dict[str, list[Document]] = {}
    for run in runs:
        found.setdefault(label_of(run), []).append(run)
    return found


def lines_of(results: Document) -> list[Document]:
    """Return the baselines and the runs of results.json, one per line of its tables and seed."""
    return [*results.get("baselines", []), *results["runs"]]


def labels_of(results: Document) -> list[str]:
    """Return the methods' labels in the order of the runs."""
    return list(by_label(results["runs"]))


def shown(label: str) -> str:
    """Return a label as a reader sees it.

    >>> shown("none+perturbed"), shown("context"), shown("gmu")
    ('none, perturbed', 'Concordant', 'gmu')
    """
    names = {"none": "none, clean", "none+perturbed": "none, perturbed", OURS: "Concordant"}
    return names.get(label, label)


def condition_name(condition: str) -> str:
    """Return a condition as a reader sees it.

    >>> condition_name("corruption.mean"), condition_name("corruption.noise"), condition_name("removal.a")
    ('mean of corruptions', 'noise', 'without a')
    """
    if condition == "corruption.mean":
        return "mean of corruptions"
    return condition.removeprefix("corruption.").replace("removal.", "without ")


def values_of(results: Document, label: str, condition: str) -> list[float]:
    """Return one accuracy in [0, 1] per seed; conditions are named as in `comparisons`; none if a seed has no score."""
    runs = by_label(lines_of(results)).get(label, [])
    if condition == "clean":
        return [run["clean"][METRIC] for run in runs]
    if condition == "corruption.mean":
        return [float(np.mean([scores[METRIC] for scores in run["corruption"].values()])) for run in runs]
    kind, name = condition.split(".", 1)
    return [run[kind][name][METRIC] for run in runs] if all(name in run[kind] for run in runs) else []


def p_text(value: float | None) -> str:
    """Return a p-value with three digits; a dash for None.

    >>> p_text(0.0004), p_text(0.0312), p_text(None)
    ('<0.001', '0.031', '-')
    """
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def difference_text(entry: Document) -> str:
    """Return a paired difference with its corrected p-value.

    >>> difference_text({"difference": 0.02, "p_holm": 0.0004})
    '+2.0 points, p <0.001'
    """
    return f"{100 * entry['difference']:+.1f} points, p {p_text(entry['p_holm'])}"


def outcome(entry: Document) -> str:
    """Return "+" for a comparison that is significantly better, "-" for significantly worse, else nothing."""
    return "" if entry["p_holm"] >= SIGNIFICANT or not entry["difference"] else "+" if entry["difference"] > 0 else "-"


def rounded(value: Any, digits: int = DIGITS) -> Any:  # noqa: ANN401 - plain JSON in, plain JSON out
    """Return plain values with every number rounded to significant digits, and None for infinite values and NaN.

    >>> rounded({"x": [0.123456, 2.0, float("nan"), 7]})
    {'x': [0.1235, 2, None, 7]}
    """
    if isinstance(value, Mapping):
        return {key: rounded(one, digits) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one, digits) for one in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the finite values, or None."""
    return statistics.fmean(known) if (known := _known(values)) else None


def std(values: Iterable[float | None]) -> float | None:
    """Return the standard deviation of a sample; None for fewer than two finite values."""
    return statistics.stdev(known) if len(known := _known(values)) > 1 else None


def by_column(
    of: Callable[[Iterable[float | None]], float | None], rows: Iterable[Sequence[Any]]
) -> list[float | None]:
    """Return the mean or the standard deviation of every column; rows are cut to the shortest.

    >>> by_column(mean, [[1.0, None], [3.0, 4.0, 5.0]])
    [2.0, 4.0]
    """
    return [of(column) for column in zip(*rows, strict=False)]


def percent(values: Iterable[float | None]) -> list[float | None]:
    """Return shares as percentages."""
    return [None if value is None else 100 * value for value in values]


def seeds_of(runs: Sequence[Document]) -> int:
    """Return the number of seeds."""
    return len({run["seed"] for run in runs})


def metric_of(document: Document) -> str:
    """Return the name of an analysis' metric.

    >>> metric_of({"metric": "balanced_accuracy"})
    'balanced accuracy'
    """
    return str(document["metric"]).replace("_", " ")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Return words as an enumeration, with semicolons if words contain commas.

    >>> listed(["a"]), listed(["a", "b", "c"]), listed(["none, clean", "b", "c"])
    ('a', 'a, b and c', 'none, clean; b; and c')
    """
    if len(words) == 1:
        return words[0]
    if any(", " in word for word in words):
        return f"{'; '.join(words[:-1])}; and {words[-1]}"
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _known(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]
