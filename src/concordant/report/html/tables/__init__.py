"""The tables of the report, one file a family of documents."""

from concordant.report.html.tables.base import Cell, Table
from concordant.report.html.tables.insight import checks, distrusted, separation, stability
from concordant.report.html.tables.joint import joint, of_grid, of_results
from concordant.report.html.tables.scores import comparisons, detection, grid_scores, scores
from concordant.report.html.tables.stress import (
    corruption_detection,
    corruption_kinds,
    corruption_summary,
    covered,
    removal,
)

__all__ = [
    "Cell",
    "Table",
    "checks",
    "comparisons",
    "corruption_detection",
    "corruption_kinds",
    "corruption_summary",
    "covered",
    "detection",
    "distrusted",
    "grid_scores",
    "joint",
    "of_grid",
    "of_results",
    "removal",
    "scores",
    "separation",
    "stability",
]
