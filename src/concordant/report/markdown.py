"""Results as a page of Markdown tables: scores, comparisons, detection, and what they were computed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from concordant.errors import ConcordantError
from concordant.report.table import (
    Results,
    detection_of,
    label_of,
    labels_of,
    mean_and_std,
    p_text,
    shown,
    values_of,
)

START = "<!-- results: made by studies/experiments.py -->"
END = "<!-- /results -->"

HEAD = """# Results

Made by `make results-experiments` (`python -m studies.experiments`); the numbers are those of the JSON files
beside this page.
Accuracy in percent, mean ± standard deviation over seeds. One random modality of every test instance is corrupted;
"mean" is over the four corruptions. Differences are paired, with a 95 % interval and a p-value from a hierarchical
bootstrap over seeds and test instances (whole groups where instances are grouped), Holm-corrected over all comparisons
of the benchmark, removals included; Wilcoxon's signed-rank test over seeds stands beside it from 8 seeds up.
"""


def page(results: Mapping[str, Results], references: Mapping[str, str] | None = None) -> str:
    """Return a page with one section for each named result.

    Args:
        results: name -> what its results.json holds.
        references: benchmark -> a paragraph on what others reach there.
    """
    known = references if references is not None else {}
    return "\n".join([HEAD, *(section(name, one, known.get(one["benchmark"])) for name, one in results.items())])


def fill(text: str, block: str, *, start: str = START) -> str:
    """Return a document with what stands between its two results marks replaced.

    Args:
        text: the document.
        block: what shall stand there.
        start: the first mark, which names the script.

    Raises:
        ConcordantError: the marks are not there.
    """
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ConcordantError(f"the document has no lines {start!r} and {END!r}, between which results are written")
    return f"{before}{start}\n\n{block}\n{END}{after}"


def brief(results: Results) -> str:
    """Return scores and comparisons of one result, for a README."""
    seeds = len({run["seed"] for run in results["runs"]})
    head = (
        f"`{results['benchmark']}`, {results['fusion']} fusion, accuracy in percent, mean ± std over {seeds} seeds:\n"
    )
    return "\n".join(part for part in (head, _scores(results), _detection(results), _comparisons(results)) if part)


def section(name: str, results: Results, reference: str | None = None) -> str:
    """Return the tables of one result under its name, and what others reach there."""
    config = results["config"]
    seeds = len({run["seed"] for run in results["runs"]})
    recipe = ", ".join(f"{key} {value}" for key, value in config["recipe"].items())
    tools = ", ".join(f"{key} {value}" for key, value in results["versions"].items())
    machine = ", ".join(f"{key}: {value}" for key, value in results["hardware"].items())
    parts = [
        f"## {name}\n",
        f"{results['benchmark']}, protocol {config['protocol']}, modalities {', '.join(config['modalities'])}, "
        f"fusion {results['fusion']}, {seeds} seeds.\n",
        f"**{results['remark']}**\n" if "remark" in results else "",
        _scores(results),
        _detection(results),
        _comparisons(results),
        f"Elsewhere: {reference}\n" if reference is not None else "",
        f"Recipe: {recipe}. Versions: {tools}. Hardware: {machine}.\n",
    ]
    return "\n".join(part for part in parts if part)


def _scores(results: Results) -> str:
    first = results["runs"][0]
    conditions = ["clean", *(f"corruption.{kind}" for kind in first["corruption"]), "corruption.mean"]
    conditions += [f"removal.{name}" for name in first["removal"]]
    head = ["clean", *first["corruption"], "mean", *(f"without {name}" for name in first["removal"])]
    rows = []
    for label in labels_of(results):
        best = [_best(results, condition) == label for condition in conditions]
        cells = [mean_and_std(values_of(results, label, condition)) for condition in conditions]
        parameters = next(run["parameters"] for run in results["runs"] if label_of(run) == label)
        marked = [f"**{cell}**" if top else cell for cell, top in zip(cells, best, strict=True)]
        rows.append([shown(label), f"{parameters:,}", *marked])
    return _table(["calibrator", "its parameters", *head], rows)


def _best(results: Results, condition: str) -> str:
    """Return the method with the highest mean."""
    return max(labels_of(results), key=lambda label: float(np.mean(values_of(results, label, condition))))


def _detection(results: Results) -> str:
    kinds = list(results["runs"][0]["corruption"])
    rows = [
        [label, *(f"{which:.2f} / {whether:.2f}" for which, whether in found)]
        for label in labels_of(results)
        if (found := detection_of(results, label)) is not None
    ]
    return _table(["which modality / whether one: AUROC", *kinds], rows) if rows else ""


def _comparisons(results: Results) -> str:
    rows = [
        [
            f"{entry['of']} - {shown(entry['to'])}",
            entry["condition"],
            f"{100 * entry['difference']:+.1f}",
            f"{100 * entry['ci95'][0]:+.1f} to {100 * entry['ci95'][1]:+.1f}",
            p_text(entry["p_holm"]),
            p_text(entry["p_wilcoxon"]),
        ]
        for entry in results["comparisons"]
        if entry["condition"] in ("clean", "corruption.mean")
    ]
    head = ["difference", "condition", "points", "95 % interval", "p (bootstrap, Holm)", "p (Wilcoxon)"]
    return _table(head, rows) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
