"""The result as one picture: accuracy of every method, clean and under each corruption, with the spread over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from concordant.files import write_atomically
from concordant.report.colours import colour_of
from concordant.report.table import Results, labels_of, shown, values_of


def draw(results: Results, path: Path) -> None:
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
