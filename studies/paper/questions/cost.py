"""(i) What does each method cost? Parameters, and the time of a training step on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studies.paper.comparing import Row, place_of
from studies.paper.outcomes import CellOutcomes
from studies.paper.table import Table

PARAMETERS, ALL_PARAMETERS = "parameters", "parameters of the whole model"
STEP, RELATIVE = "ms a step", "times the twin"


def cost(cells: Sequence[CellOutcomes], timings: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the table of parameters and times.

    Args:
        cells: all cells.
        timings: name of a cell -> what `studies.paper.timing.time_cell` found.
    """
    scores: list[Row] = []
    for cell in cells:
        timed = timings[cell.cell.name]["methods"]
        for label in cell.labels:
            run = next(iter(cell.runs[label].values())).extra
            values = {
                PARAMETERS: run["parameters"],
                ALL_PARAMETERS: run["model_parameters"],
                STEP: timed[label]["median_ms"],
                RELATIVE: timed[label]["relative"],
            }
            for condition, value in values.items():
                scores.append({**place_of(cell), "condition": condition, "label": label, "mean": value, "std": None})
    return Table(
        "cost",
        "(i) What does it cost?",
        "Parameters of the calibrator alone and of the whole model; a training step (median, one thread, methods in "
        "turn) and its ratio to that of the uncalibrated twin under the same perturbations.",
        scores,
        unit="",
        compares=False,
    )
