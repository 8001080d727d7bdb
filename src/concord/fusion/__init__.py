"""Fusions by name: backbones that join the features of all modalities, each with its own head."""

from __future__ import annotations

from dataclasses import dataclass

from concord.fusion.base import FeatureSpec, Fusion
from concord.fusion.convolutional.concat import ConcatMaps
from concord.fusion.sequence.late import LateDense
from concord.fusion.sequence.transformer import TransformerFusion
from concord.registry import Registry

__all__ = ["FUSIONS", "FeatureSpec", "Fusion", "FusionEntry"]


@dataclass(frozen=True)
class FusionEntry:
    """A fusion that an experiment can choose.

    Args:
        build: its class; takes the feature specs and keyword arguments.
        setting: what it was made for: "vector", "sequence" or "convolutional".
        summary: one line.
    """

    build: type[Fusion]
    setting: str
    summary: str


FUSIONS: Registry[FusionEntry] = Registry("fusion")
FUSIONS.add(
    "lf-dnn",
    FusionEntry(LateDense, "vector", "pooled features side by side, one hidden layer (late fusion)"),
)
FUSIONS.add(
    "transformer",
    FusionEntry(TransformerFusion, "sequence", "one transformer over the steps of all modalities, with masks"),
)
FUSIONS.add(
    "concat",
    FusionEntry(ConcatMaps, "convolutional", "feature maps averaged onto a grid, side by side, one linear layer"),
)
