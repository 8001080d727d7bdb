"""Training methods by name: what balances the modalities while they train, beside any calibrator and any fusion."""

from __future__ import annotations

from dataclasses import dataclass

from concordant.registry import Registry
from concordant.training.methods.base import TrainingMethod
from concordant.training.methods.gradient_blending import GradientBlending
from concordant.training.methods.ogm_ge import GradientModulation

__all__ = ["METHODS", "GradientBlending", "GradientModulation", "MethodEntry", "TrainingMethod"]


@dataclass(frozen=True)
class MethodEntry:
    """A training method that an experiment can choose.

    Args:
        build: its class; takes the model, and the seed by keyword.
        summary: one line.
        paper: authors, venue and year of what it implements.
    """

    build: type[TrainingMethod]
    summary: str
    paper: str


METHODS: Registry[MethodEntry] = Registry("method")
METHODS.add("none", MethodEntry(TrainingMethod, "the task's loss and nothing else", ""))
METHODS.add(
    "ogm-ge",
    MethodEntry(
        GradientModulation,
        "slows the encoder of the modality that is ahead, with noise on the gradients",
        "Peng et al., CVPR 2022",
    ),
)
METHODS.add(
    "gradient-blending",
    MethodEntry(
        GradientBlending,
        "a head a modality, each loss weighted by how it generalises and overfits",
        "Wang et al., CVPR 2020",
    ),
)
