"""Registry of the calibrators, the base class of the rivals, and what several of them compute.

Shapes: shift and weights (B, M); gates (B, D) per modality; presence bool (B, M).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from concordant.calibration.base import Calibrator, SharedOptions
from concordant.calibration.result import Modulation, Summaries
from concordant.registry import Registry

C = TypeVar("C", bound="type[Calibrator]")


class Rival(Calibrator):
    """Base class of the rivals that are trained by losses of their own.

    They see perturbed features in training, but neither the loss on which modality was perturbed nor the contrastive
    loss applies.

    Args:
        sizes: modality -> feature size.
        options: `layouts`, `nonfinite`, `perturbation` and `dropout`, as for `ContextualCalibrator`.

    Attributes:
        decides: the rival decides itself, from each modality alone: it replaces the fusion's head, needs a late fusion,
            and changes features from the start.
    """

    decides = False

    def __init__(self, sizes: Mapping[str, int], **options: Unpack[SharedOptions]) -> None:
        super().__init__(sizes, clean_weight=0.0, agreement_weight=0.0, **options)


@dataclass(frozen=True)
class CalibratorEntry:
    """A calibrator that an experiment can choose.

    Args:
        build: the class; takes the sizes and keyword arguments.
        summary: one line.
        paper: authors, venue and year; "" for our own.
        options: keyword arguments that the class takes under this name.
        unimodal: the class takes the number of classes as `classes` for unimodal predictions, where labels are classes.
        perturbed: training perturbs features; False for an ablation.
        stream: the name of the random stream of the initial weights; "" = the entry's own. An ablation starts from the
            weights of the calibrator that it ablates.
    """

    build: type[Calibrator]
    summary: str
    paper: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    unimodal: bool = False
    perturbed: bool = True
    stream: str = ""

    @property
    def classes(self) -> bool:
        """True if the class needs the number of classes as `classes`."""
        return self.build.needs_classes

    @property
    def late(self) -> bool:
        """True if it decides for each modality alone, and needs a fusion that keeps them apart to the end."""
        return getattr(self.build, "decides", False)

    @property
    def identity(self) -> bool:
        """True if features pass unchanged, bit for bit, before training."""
        return not self.late

    @property
    def fused(self) -> bool:
        """True if it scales the vector before the fusion's head, and takes its width as `fused`."""
        return getattr(self.build, "after_fusion", False)


CALIBRATORS: Registry[CalibratorEntry] = Registry("calibrator")


def register(name: str, summary: str, paper: str = "", *, listed: bool = True, **entry: Any) -> Callable[[C], C]:  # noqa: ANN401
    """Return a decorator that registers a class in `CALIBRATORS`; further arguments are those of `CalibratorEntry`."""

    def enter(build: C) -> C:
        CALIBRATORS.add(name, CalibratorEntry(build, summary, paper, **entry), listed=listed)
        return build

    return enter


def ungated(shift: Tensor, sizes: Mapping[str, int], **found: Tensor | None) -> Modulation:
    """Return a modulation with gates of 1."""
    return Modulation(shift, {name: shift.new_ones(shift.shape[0], size) for name, size in sizes.items()}, **found)


def joined(calibrator: Calibrator, vectors: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """Return all modalities' vectors side by side with dropout, zeros where absent, in the order of sorted names."""
    names = calibrator.names
    rows = [torch.where(present[:, names.index(name), None], vectors[name], 0) for name in sorted(names)]
    return F.dropout(torch.cat(rows, 1), calibrator.dropout, calibrator.training)


def summary_of(calibrator: Calibrator, summaries: Summaries, name: str) -> Tensor:
    """Return one modality's standardised summary (B, S) with dropout."""
    return F.dropout(summaries.vectors[name], calibrator.dropout, calibrator.training)


def relative_weights(scores: Tensor, present: Tensor) -> Tensor:
    """Return exp(score) relative to the highest of the present modalities, (B, M) in (0, 1]; 1 where absent.

    These are softmax weights up to a factor that is common to all modalities of an instance.
    """
    best = torch.where(present, scores, -torch.inf).amax(1, keepdim=True)
    # 0 where absent, before the exponential: an overflow there would spoil the gradient.
    behind = torch.where(present, scores - torch.where(best.isfinite(), best, 0), 0)
    return torch.exp(behind)


def keep_one(kept: Tensor, present: Tensor, preference: Tensor) -> Tensor:
    """Return `kept`, bool (B, M), with at least one present modality: where there is none, the most preferred."""
    none = ~(kept & present).any(1, keepdim=True)
    best = torch.where(present, preference, -torch.inf).argmax(1, keepdim=True)
    return kept | (none & torch.zeros_like(kept).scatter(1, best, value=True))
