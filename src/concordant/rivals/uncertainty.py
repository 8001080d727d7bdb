"""Dynamic fusion by confidence (QMF): each modality is weighed by the confidence of its own classifier.

Zhang et al., "Provable Dynamic Fusion for Low-Quality Multimodal Data", ICML 2023: one classifier per modality learns
the task. Its energy, the logarithm of the sum of exponentials of its logits, is the confidence, and a ranking loss ties
it to the quality of the predictions. The paper weighs logits; here a fusion of any kind follows, so the features are
weighed, by the confidence relative to the highest, which is 1 before training. Ranking uses the loss in the batch; the
history of each instance, as in the paper, is not available to a layer.
Shapes: summaries (B, S_m) -> logits (B, M, C) -> confidence (B, M) -> reliability (B, M) in (0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.calibration.base import SharedOptions, linear, zero_linear
from concordant.calibration.modulation import shift_from_reliability
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import checks
from concordant.rivals.base import Rival, register, summary_of, ungated

LEAST = 1e-3  # confidence


@register(
    "uncertainty",
    "weighed by the confidence of each modality's own classifier (QMF)",
    "Zhang et al., ICML 2023",
)
class ConfidenceWeights(Rival):
    """Scale each modality by the confidence of its own classifier.

    Args: as for `Rival`, with
        classes: number of classes, C; 2 or more.
        task_weight: of the classifiers' losses; 1 as published.
        rank_weight: of the ranking loss; 0.1 as published.
        temperature: of the energy; its logits are divided by it.

    Raises:
        UsageError: fewer than two classes, a weight below 0, or a temperature outside of [1e-6, 1e6].
    """

    needs_classes = True

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        classes: int,
        task_weight: float = 1.0,
        rank_weight: float = 0.1,
        temperature: float = 1.0,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(sizes, **options)
        with checks() as check:
            self.classes = classes = check.integer("classes", classes, 2)
            self.task_weight = check.number("task_weight", task_weight)
            self.rank_weight = check.number("rank_weight", rank_weight)
            self.temperature = check.number("temperature", temperature, 1e-6, 1e6, ends="[]")
        self.heads = nn.ModuleDict({name: zero_linear(self.summary_size(name), classes) for name in self.names})

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return each modality's logits, and the shift that its relative confidence makes."""
        logits = torch.stack(
            [linear(self.heads[n], summary_of(self, summaries, n)) for n in self.names], 1
        )  # (B, M, C)
        # Detached: the classifiers are trained by their own losses alone.
        energy = confidence(logits, self.temperature).detach()
        shift = shift_from_reliability(share_of_best(energy, summaries.present))
        return ungated(shift, self.sizes, unimodal=logits)

    def own_loss(
        self, modulation: Modulation, present: Tensor, labels: Tensor | None, perturbed: Tensor | None = None
    ) -> Tensor | None:
        """Return the classifiers' losses and the ranking loss; None without labels."""
        if labels is None or modulation.unimodal is None:
            return None
        total = modulation.unimodal.new_zeros(())
        for index in range(len(self.names)):
            logits, here = modulation.unimodal[:, index], present[:, index]
            losses = F.cross_entropy(logits, labels, reduction="none")
            mean = torch.where(here, losses, 0).sum() / here.sum().clamp(min=1)
            ranked = ranking_loss(confidence(logits, self.temperature), losses.detach(), here)
            total = total + self.task_weight * mean + self.rank_weight * ranked
        return total


def confidence(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the negative energy of logits (..., C): T log sum exp(logits / T)."""
    return temperature * torch.logsumexp(logits / temperature, -1)


def share_of_best(confidences: Tensor, present: Tensor) -> Tensor:
    """Return confidences (B, M) relative to the highest of the present modalities, in (0, 1]; 1 where absent.

    As in the paper they weigh directly; negative ones, from logits that are all negative, become the smallest weight.
    """
    positive = confidences.clamp(min=LEAST)
    best = torch.where(present, positive, LEAST).amax(1, keepdim=True)
    return torch.where(present, positive / best, 1)


def ranking_loss(scores: Tensor, losses: Tensor, here: Tensor) -> Tensor:
    """Return how far neighbours in the batch are from being ranked by their loss, a scalar.

    Of two instances the one with the smaller loss should be more confident, by as much as the probabilities of
    the true class differ (Moon et al., "Confidence-Aware Learning for Deep Neural Networks", ICML 2020, which
    QMF takes up).

    Args:
        scores: confidences (B,).
        losses: cross-entropies (B,), without gradient.
        here: bool (B,), False at instances to ignore.
    """
    right = torch.exp(-losses)
    gap = right - right.roll(1)
    miss = F.relu(gap.abs() - gap.sign() * (scores - scores.roll(1)))
    both = here & here.roll(1)
    return torch.where(both, miss, 0).sum() / both.sum().clamp(min=1)
