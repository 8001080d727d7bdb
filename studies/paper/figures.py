"""The figures: the lead of ours over every method, the share of the oracle's way, and detection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from concordant.report.figures.colours import colour_of
from concordant.report.format import shown
from concordant.robustness.conditions import CLEAN
from studies.common import picture
from studies.paper.grid import OURS, TWIN
from studies.paper.outcomes import MEAN
from studies.paper.tables import WHAT, Row, Table

SHOWN = (-100.0, 110.0)  # % of the oracle's way
_GREY, _BLACK = "#8f949b", "#15181b"
_BELOW: dict[str, Any] = {"loc": "outside lower center", "ncols": 5, "frameon": False}


def draw_leads(clean: Table, corruption: Table, path: Path, *, note: str = "") -> None:
    """Draw the lead of ours in every cell: clean, over the clean twin; under corruption, over every other method.

    Args:
        clean: table (a).
        corruption: table (b).
        path: of the picture; its suffix is the format.
        note: ends the title.
    """
    places = _places(corruption.rows)
    rows = [row for row in corruption.rows if row["condition"] == MEAN]
    with picture(path, 7.6, 0.28 * len(places) + 1.5) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
        _lead(left, [row for row in clean.rows if row["condition"] == CLEAN and row["to"] == "none"], places, "none")
        markers = cycle("oDv^<>Phd")
        for label in dict.fromkeys(row["to"] for row in rows):
            if label not in (TWIN, "none"):
                mine = [row for row in rows if row["to"] == label]
                y = [places.index(_place(row)) for row in mine]
                x = [100 * row["difference"] for row in mine]
                right.plot(x, y, next(markers), ms=4, color=colour_of(label), label=shown(label), alpha=0.9)
        _lead(right, [row for row in rows if row["to"] == TWIN], places, TWIN)
        for axes, title in ((left, "clean"), (right, "one modality corrupted, mean over kinds")):
            axes.axvline(0, color=_GREY, lw=0.8)
            axes.set_title(title, loc="left", fontsize=8)
            axes.set_xlabel(f"lead of {OURS}, points")
        left.set_yticks(range(len(places)), [", ".join(place) for place in places])
        left.invert_yaxis()
        figure.suptitle(f"Accuracy of {OURS} minus that of each other method{note}", x=0.01, ha="left", fontsize=9)
        handles = {
            text: line for axes in (left, right) for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), **_BELOW)


def draw_shares(oracle: Table, path: Path, *, note: str = "") -> None:
    """Draw the share of the way to the oracle that every method covers, in the first cell of every family.

    A value beyond the axis is cut and written at its end: where the oracle is hardly ahead of its twin, shares are
    ratios of small numbers.
    """
    firsts = _firsts(oracle.scores)
    labels = [label for label in dict.fromkeys(row["label"] for row in oracle.scores) if label not in ("none", TWIN)]
    with picture(path, max(7.6, 1.1 * len(firsts)), 2.9) as figure:  # wide enough that names do not overlap
        axes = figure.subplots()
        width = 0.85 / max(len(labels), 1)  # no label where no oracle is ahead of its twin
        for number, label in enumerate(labels):
            rows = {_place(row): row for row in oracle.scores if row["label"] == label}
            x = [at + (number - (len(labels) - 1) / 2) * width for at, place in enumerate(firsts) if place in rows]
            y = [100 * rows[place]["mean"] for place in firsts if place in rows]
            axes.bar(x, np.clip(y, *SHOWN), 0.94 * width, color=colour_of(label), label=shown(label))
            for place, value in zip(x, y, strict=True):
                if not SHOWN[0] <= value <= SHOWN[1]:
                    above = value > 0
                    look: dict[str, Any] = {"ha": "center", "va": "bottom" if above else "top", "fontsize": 5}
                    offset, at = (0, 2 if above else -2), (place, SHOWN[above])
                    axes.annotate(f"{value:.0f}", at, offset, textcoords="offset points", rotation=90, **look)
        axes.axhline(0, color=_GREY, lw=0.8)
        axes.axhline(100, color=_GREY, lw=0.8, ls="--")
        axes.set_ylim(top=SHOWN[1] + 18)  # room for the values there
        axes.set_xticks(range(len(firsts)), ["\n".join(place) for place in firsts])
        axes.set_ylabel("% of the way")
        title = "From the perturbed twin (0) to the twin that is told what to leave out (100): the first fusion of each"
        axes.set_title(f"{title} family\nThe mean over corruptions{note}", loc="left", fontsize=9)
        if labels:
            figure.legend(**_BELOW)


def draw_detection(detection: Table, path: Path, *, note: str = "") -> None:
    """Draw the areas under the ROC curve of ours at the highest severity, by kind, in the first cells."""
    mine = [(*row["condition"].split("."), row) for row in detection.scores if row["label"] == OURS]
    firsts = _firsts([row for *_, row in mine])
    top = max((int(severity) for _, _, severity, _ in mine), default=0)
    kinds = list(dict.fromkeys(kind for _, kind, _, _ in mine))
    with picture(path, 0.42 * len(kinds) + 2.2, 0.32 * 2 * len(firsts) + 2.4) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        for axes, wanted, title in zip(panels, WHAT, ("which modality was hit", "whether one was hit"), strict=True):
            areas = np.full((len(firsts), len(kinds)), np.nan)
            for what, kind, severity, row in mine:
                if what == wanted and int(severity) == top and _place(row) in firsts:
                    areas[firsts.index(_place(row)), kinds.index(kind)] = row["mean"]
            axes.imshow(areas, vmin=0.5, vmax=1, cmap="Greens", aspect="auto")
            for (y, x), area in np.ndenumerate(areas):
                if not np.isnan(area):
                    colour = "white" if area > 0.85 else "black"
                    axes.text(x, y, f"{100 * area:.0f}", ha="center", va="center", fontsize=6.5, color=colour)
            axes.set_yticks(range(len(firsts)), [", ".join(place) for place in firsts])
            axes.set_title(title, loc="left", fontsize=8)
        panels[1].set_xticks(range(len(kinds)), kinds, rotation=45, ha="right")
        figure.suptitle(f"Detection by {OURS}: AUROC x 100, 50 = a guess{note}", x=0.01, ha="left", fontsize=9)


def _lead(axes: Any, rows: Sequence[Row], places: Sequence[tuple[str, str]], label: str) -> None:  # noqa: ANN401
    """Draw differences with their intervals."""
    y = [places.index(_place(row)) for row in rows]
    x = np.array([100 * row["difference"] for row in rows])
    ends = np.array([[100 * (row["difference"] - row["low"]), 100 * (row["high"] - row["difference"])] for row in rows])
    colour = _BLACK if label == TWIN else colour_of(label)
    axes.errorbar(x, y, xerr=np.maximum(ends.T, 0), fmt="s", ms=4, lw=1.2, color=colour, label=shown(label))


def _places(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(_place(row) for row in rows))


def _place(row: Row) -> tuple[str, str]:
    return str(row["family"]), str(row["fusion"])


def _firsts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the first cell of every family."""
    return list({place[0]: place for place in reversed(_places(rows))}.values())[::-1]
