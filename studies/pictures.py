"""Two pictures of results: bars of accuracy per condition, and curves of accuracy by severity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from concordant.files import write_atomically
from concordant.report.figures.colours import COLOURS, colour_of
from concordant.report.format import Document, labels_of, shown, values_of

COLUMNS = 5  # panels beside each other


def draw(results: Document, path: Path) -> None:
    """Write a bar chart of a result; the format comes from the path's suffix (png, svg or pdf).

    Bars are means over seeds, lines one standard deviation to either side.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    conditions = ["clean", *(f"corruption.{kind}" for kind in results["runs"][0]["corruption"]), "corruption.mean"]
    labels = labels_of(results)
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(labels)
        for place, label in enumerate(labels):
            values = [100 * np.array(values_of(results, label, condition)) for condition in conditions]
            means = [float(one.mean()) for one in values]
            spread = [float(one.std(ddof=1)) if len(one) > 1 else 0.0 for one in values]
            x = np.arange(len(conditions)) + (place - (len(labels) - 1) / 2) * width
            axes.bar(x, means, 0.92 * width, yerr=spread, color=colour_of(label), label=shown(label))
        names = ["clean", *list(results["runs"][0]["corruption"]), "mean of the four"]
        axes.set_xticks(np.arange(len(conditions)), names)
        low = min(min(values_of(results, label, condition)) for label in labels for condition in conditions)
        axes.set_ylim(max(0.0, 100 * low - 10), 101)
        axes.set_ylabel("accuracy, %")
        seeds = len({run["seed"] for run in results["runs"]})
        axes.set_title(
            f"{results['benchmark']}, {results['fusion']}, {seeds} seeds: one modality of each instance corrupted",
            loc="left",
            fontsize=10,
        )
        axes.legend(frameon=False, ncols=len(labels), loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=9)
        write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=160))


def draw_severity(document: Document, path: Path) -> None:
    """Write the severity curves of a corruption document; the format comes from the path's suffix (png, svg or pdf).

    Lines are means over seeds, bands one standard deviation to either side; severity 0 is clean.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    kinds = [kind["name"] for kind in document["kinds"]]
    labels = list(dict.fromkeys(run["label"] for run in document["runs"]))
    rows = -(-len(kinds) // COLUMNS)
    look = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(look):
        figure = Figure(figsize=(10, 1.75 * rows + 0.7), layout="constrained")
        grid = figure.subplots(rows, min(COLUMNS, len(kinds)), sharex=True, sharey=True, squeeze=False)
        for axes, kind in zip(grid.flat, kinds, strict=False):
            for label in labels:
                curves = curves_of(document, label, kind)
                mean, spread = curves.mean(0), curves.std(0, ddof=1) if len(curves) > 1 else np.zeros(curves.shape[1])
                axes.plot(mean, color=COLOURS.get(label), label=shown(label), lw=1.8 if label == "context" else 1.1)
                axes.fill_between(range(len(mean)), mean - spread, mean + spread, color=COLOURS.get(label), alpha=0.12)
            oracle = [100 * np.array(one["kinds"][kind]["scores"]) for one in document["oracle"]]
            if oracle:
                axes.plot(range(1, 6), np.mean(oracle, 0), "--", color="black", lw=0.9, label="oracle")
            axes.set_title(kind, loc="left", fontsize=8)
        for axes in list(grid.flat)[len(kinds) :]:
            axes.set_visible(False)
        grid[0, 0].set_xticks(range(6))
        figure.supylabel(f"{document['metric']}, %", fontsize=8)
        figure.supxlabel("severity", fontsize=8)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
        write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))


def curves_of(document: Document, label: str, kind: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the scores of a method in percent, one row per seed: clean, then at the five severities."""
    runs = [run for run in document["runs"] if run["label"] == label]
    return 100 * np.array([[run["clean"], *run["kinds"][kind]["scores"]] for run in runs], dtype=np.float64)
