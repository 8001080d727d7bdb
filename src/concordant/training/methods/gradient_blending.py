"""Gradient blending: a head a modality beside the joint one, each loss weighted by overfitting and generalisation.

Wang, Tran and Feiszli, "What Makes Training Multi-modal Classification Networks Hard?", CVPR 2020, in the
online form: from one evaluation to the next, a loss that generalises by G (its fall on held-out data) while
overfitting by dO (the growth of the gap between held-out and training loss) gets a weight in proportion to
G / dO^2 (proposition 1). Here all heads are measured as they train together, where the paper trains copies of
them from each snapshot; the validation part is what is held out; and each weight keeps a floor, since a loss
with no weight is not learned any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.fusion.base import masked_mean
from concordant.training.methods.base import TrainingMethod, mean_over, presence_of

if TYPE_CHECKING:
    from concordant.training.batches import AnyTensors
    from concordant.training.model import MultimodalModel, Output

JOINT = "joint"  # prefixed below, so that a modality of that name does no harm
FLOOR = 0.05  # the smallest weight before they are brought to a sum of 1
LEAST_GROWTH = 0.01  # of the gap, in nats: below it is noise
OBSERVED = 1024  # training instances that are scored at an evaluation, at the most
_BATCH = 512


class GradientBlending(TrainingMethod):
    """Blend the joint loss with one loss a modality.

    Args:
        model: what is trained.
        seed: of the run; the heads' initial weights come from it.
    """

    def __init__(self, model: MultimodalModel, *, seed: int) -> None:
        super().__init__(model, seed=seed)
        self.heads = nn.ModuleDict()
        for name, spec in model.fusion.meeting.items():
            with seeding.scope(seed, "gradient-blending", name):
                self.heads[name] = nn.Linear(spec.size, model.fusion.classes)
        keys = [JOINT, *(f"alone.{name}" for name in self.heads)]
        self.weights = dict.fromkeys(keys, 1 / len(keys))
        self._last: dict[str, tuple[float, float]] | None = None

    def loss(self, out: Output, labels: Tensor, task_loss: Tensor) -> Tensor:
        """Return the weighted sum of the joint loss and each modality's own."""
        losses = {JOINT: task_loss, **self.unimodal_losses(out, labels)}
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def unimodal_losses(self, out: Output, labels: Tensor) -> dict[str, Tensor]:
        """Return "alone.<modality>" -> the mean cross-entropy of its head, over the rows that have it."""
        losses = {}
        for name, head in self.heads.items():
            here = presence_of(out, name, len(labels))
            if name in out.calibration.features:
                flat = self.model.fusion.positions(name, out.calibration.features)
                logits = head(masked_mean(flat, out.masks.get(name), here))
                each = F.cross_entropy(logits, labels, reduction="none")
                ranks = self.ranks if self.model.training and self.ranks is not None and self.ranks.whole else None
                losses[f"alone.{name}"] = mean_over(each, here, ranks)
            else:
                losses[f"alone.{name}"] = out.logits.new_zeros(())
        return losses

    def get_extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the heads."""
        return {"weights": self.weights, "last": self._last}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Be as a checkpoint says."""
        self.weights, self._last = state["weights"], state["last"]

    def observe(self, train: AnyTensors, valid: AnyTensors) -> None:
        """Measure all losses on both parts, and weigh them anew."""
        every = -(-len(train) // OBSERVED)  # evenly spaced, since parts may be sorted by class
        seen, held = self._mean_losses(train.take(slice(None, None, every))), self._mean_losses(valid)
        now = {name: (seen[name], held[name]) for name in seen}
        if self._last is not None:
            self.weights = blend(self._last, now, self.weights)
        self._last = now

    def _mean_losses(self, part: AnyTensors) -> dict[str, float]:
        totals: dict[str, float] = dict.fromkeys(self.weights, 0.0)
        with torch.no_grad():
            for batch in part.chunks(_BATCH):
                out = self.model(batch.inputs, batch.masks, batch.present)
                losses = {JOINT: F.cross_entropy(out.logits, batch.labels), **self.unimodal_losses(out, batch.labels)}
                for name, loss in losses.items():
                    totals[name] += float(loss) * len(batch) / len(part)
        return totals


def blend(
    before: Mapping[str, tuple[float, float]],
    after: Mapping[str, tuple[float, float]],
    weights: Mapping[str, float],
) -> dict[str, float]:
    """Return the weight of each loss, with a sum of 1.

    Args:
        before: loss -> (training, held-out) at one evaluation.
        after: the same at the next.
        weights: kept where no loss has generalised since.

    >>> before = {"joint": (2.0, 2.0), "alone.audio": (2.0, 2.0)}
    >>> after = {"joint": (1.0, 1.2), "alone.audio": (1.0, 1.4)}
    >>> {name: round(weight, 3) for name, weight in blend(before, after, {}).items()}
    {'joint': 0.842, 'alone.audio': 0.158}
    """
    raw = {}
    for name, (train, held) in after.items():
        train_before, held_before = before[name]
        gain = max(held_before - held, 0.0)
        growth = max(abs((held - train) - (held_before - train_before)), LEAST_GROWTH)
        raw[name] = gain / growth**2
    total = sum(raw.values())
    if total == 0:
        return dict(weights)
    floored = {name: max(value / total, FLOOR) for name, value in raw.items()}
    return {name: value / sum(floored.values()) for name, value in floored.items()}
