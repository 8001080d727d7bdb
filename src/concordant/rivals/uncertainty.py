"""Dynamic fusion by confidence (QMF): each modality weighs as much as its own classifier is sure.

Zhang et al., "Provable Dynamic Fusion for Low-Quality Multimodal Data", ICML 2023: a classifier a modality,
whose energy, the logarithm of the sum of exponentials of its logits, is the confidence; each learns the task;
and a ranking loss makes confidence follow how well a modality predicts. There logits are weighed; here, before
a fusion of any kind, the features are, each by its confidence relative to the most confident one's, so that
untrained all pass as they are. Ranking is by the loss in the batch: an instance's history, which the paper
ranks by, is not known to a layer.
Shapes: summaries (B, S_m) -> logits (B, M, C) -> confidence (B, M) -> reliability (B, M) in (0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.calibration.base import linear, zero_linear
from concordant.calibration.modulation import shift_from_reliability
from concordant.calibration.perturbation import Perturbation
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import UsageError
from concordant.rivals.untaught import Untaught

LEAST = 1e-3  # confidence


class ConfidenceWeights(Untaught):
    """Scale each modality by the confidence of its own classifier.

    Args: as for `Untaught`, with
        classes: number of classes, C; 2 or more.
        task_weight: of the classifiers' losses; 1 as published.
        rank_weight: of the ranking loss; 0.1 as published.
        temperature: of the energy; its logits are divided by it.

    Raises:
        UsageError: fewer than two classes, a weight below 0, or a temperature that is not positive.
    """

    needs_classes = True

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        classes: int,
        layouts: str | Mapping[str, str] = "auto",
        task_weight: float = 1.0,
        rank_weight: float = 0.1,
        temperature: float = 1.0,
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(sizes, layouts=layouts, nonfinite=nonfinite, perturbation=perturbation, dropout=dropout)
        faults = [] if classes >= 2 else [f"classes must be 2 or more; found {classes}"]
        for name, value in (("task_weight", task_weight), ("rank_weight", rank_weight)):
            if not value >= 0:
                faults.append(f"{name} must not be negative; found {value}")
        if not temperature > 0:
            faults.append(f"temperature must be positive; found {temperature}")
        if faults:
            raise UsageError("; ".join(faults))
        self.task_weight, self.rank_weight, self.temperature = task_weight, rank_weight, temperature
        self.heads = nn.ModuleDict({name: zero_linear(self.summary_size(name), classes) for name in self.names})

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return each modality's logits, and the shift that its relative confidence makes."""
        logits = []
        for name in self.names:
            vector = F.dropout(summaries.vectors[name], self.dropout, self.training)
            logits.append(linear(self.heads[name], vector))  # type: ignore[arg-type]
        opinions = torch.stack(logits, 1)  # (B, M, C)
        # The weights follow the confidence without teaching it: the classifiers learn from their own losses.
        energy = confidence(opinions, self.temperature).detach()
        shift = shift_from_reliability(share_of_best(energy, summaries.present))
        ones = {name: shift.new_ones(shift.shape[0], size) for name, size in self.sizes.items()}
        return Modulation(shift, ones, unimodal=opinions)

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

    They weigh as they are, like the paper's; what is below 0, from logits that are all negative, counts as the
    least there is.
    """
    positive = confidences.clamp(min=LEAST)
    best = torch.where(present, positive, LEAST).amax(1, keepdim=True)
    return torch.where(present, positive / best, 1)


def relative_weights(scores: Tensor, present: Tensor) -> Tensor:
    """Return exp(score) relative to the highest of the present modalities, (B, M) in (0, 1]; 1 where absent.

    These are softmax weights up to a factor that all modalities of an instance share.
    """
    best = torch.where(present, scores, -torch.inf).amax(1, keepdim=True)
    # 0 where absent, before the exponential: what overflows there would spoil the gradient.
    behind = torch.where(present, scores - torch.where(best.isfinite(), best, 0), 0)
    return torch.exp(behind)


def ranking_loss(scores: Tensor, losses: Tensor, here: Tensor) -> Tensor:
    """Return how far neighbours in the batch are from being ranked by their loss, a scalar.

    Of two instances the one with the smaller loss should be more confident, by as much as the probabilities of
    the true class differ (Moon et al., "Confidence-Aware Learning for Deep Neural Networks", ICML 2020, which
    QMF takes up).

    Args:
        scores: confidences (B,).
        losses: cross-entropies (B,); no gradient goes through them.
        here: bool (B,), False at instances that do not count.
    """
    right = torch.exp(-losses)
    gap = right - right.roll(1)
    miss = F.relu(gap.abs() - gap.sign() * (scores - scores.roll(1)))
    both = here & here.roll(1)
    return torch.where(both, miss, 0).sum() / both.sum().clamp(min=1)
