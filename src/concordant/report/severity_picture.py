"""Severity curves as one picture: a panel a kind of corruption, a line a method, the oracle dashed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from concordant.files import write_atomically
from concordant.report.colours import COLOURS
from concordant.report.table import shown

COLUMNS = 5


def draw_severity(document: Mapping[str, Any], path: Path) -> None:
    """Write the severity curves of a corruption document; the format comes from the path's suffix (png, svg or pdf).

    Lines are means over seeds, bands one standard deviation to either side; 0 is untouched.
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
            told = [100 * np.array(one["kinds"][kind]["scores"]) for one in document["oracle"]]
            if told:
                axes.plot(range(1, 6), np.mean(told, 0), "--", color="black", lw=0.9, label="oracle")
            axes.set_title(kind, loc="left", fontsize=8)
        for axes in list(grid.flat)[len(kinds) :]:
            axes.set_visible(False)
        grid[0, 0].set_xticks(range(6))
        figure.supylabel(f"{document['metric']}, %", fontsize=8)
        figure.supxlabel("severity", fontsize=8)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
        write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))


def curves_of(document: Mapping[str, Any], label: str, kind: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the scores of a method in percent, one row a seed: untouched, then at the five severities."""
    runs = [run for run in document["runs"] if run["label"] == label]
    return 100 * np.array([[run["clean"], *run["kinds"][kind]["scores"]] for run in runs], dtype=np.float64)
