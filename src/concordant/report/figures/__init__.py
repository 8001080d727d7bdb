"""The figures of the report, one file per document."""

from concordant.report.figures.base import Choice, Figure
from concordant.report.figures.comparison import accuracy_bars, differences, grid_differences
from concordant.report.figures.dynamics import training_lines
from concordant.report.figures.features import agreement_maps, feature_map, gate_maps
from concordant.report.figures.removal import rate_curve, shapley_bars, subset_dots
from concordant.report.figures.severity import reliability_diagram, severity_curves

__all__ = [
    "Choice",
    "Figure",
    "accuracy_bars",
    "agreement_maps",
    "differences",
    "feature_map",
    "gate_maps",
    "grid_differences",
    "rate_curve",
    "reliability_diagram",
    "severity_curves",
    "shapley_bars",
    "subset_dots",
    "training_lines",
]
