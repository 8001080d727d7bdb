"""AECF: softmax weights over modalities at a target entropy, with a masking probability that depends on their entropy.

Chlon et al., "Adaptive Entropy-Gated Contrastive Fusion", arXiv 2505.15417: a gate weighs the modalities of each
instance; a loss keeps the entropy of the weights near a target; in training a modality is masked more often when the
entropy is low (the curriculum), and the weights are shared among the rest. In the paper the weights make one fused
vector; here they scale the features before any fusion, relative to the largest weight, which is 1 before training. The
paper's contrastive calibration term over subsets is omitted.
Shapes: summaries (B, S_m) -> scores (B, M) -> weights (B, M) -> reliability (B, M) in (0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.calibration.base import SharedOptions, linear, zero_linear
from concordant.calibration.modulation import shift_from_reliability
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import checks
from concordant.rivals.base import Rival, keep_one, register, relative_weights, summary_of, ungated


@register("aecf", "softmax weights at a target entropy, with curriculum masking", "Chlon et al., arXiv 2505.15417")
class EntropyGate(Rival):
    """Weigh modalities by a softmax over scores of their summaries.

    Args: as for `Rival`, with
        hidden: width of each modality's hidden layer, 32 as the comparison size.
        mask: largest probability that a modality is masked in training; 0.15 as published.
        target: of the entropy, as a share of the largest possible; 0.7 as published.
        entropy_weight: of the loss on the entropy; 0.1.

    Raises:
        UsageError: arguments out of range.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        hidden: int = 32,
        mask: float = 0.15,
        target: float = 0.7,
        entropy_weight: float = 0.1,
        seed: int | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(sizes, **options)
        with checks() as check:
            hidden = check.integer("hidden", hidden, 1)
            self.mask = check.number("mask", mask, 0, 1, ends="[]")
            self.target = check.number("target", target, 0, 1, ends="[]")
            self.entropy_weight = check.number("entropy_weight", entropy_weight)
        base = seeding.chosen(seed)
        self.squeeze, self.score = nn.ModuleDict(), nn.ModuleDict()
        for name in self.names:
            with seeding.scope(base, "calibrator", "aecf", name):
                self.squeeze[name] = nn.Linear(self.summary_size(name), hidden)
                self.score[name] = zero_linear(hidden, 1)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return relative weights as shifts, and in training which modalities the curriculum keeps."""
        scores = []
        for name in self.names:
            hidden = F.gelu(linear(self.squeeze[name], summary_of(self, summaries, name)))
            scores.append(linear(self.score[name], hidden).squeeze(1))
        raw, present = torch.stack(scores, 1), summaries.present
        kept = None
        if self.training and self.mask:
            weights = softmax_over(raw.detach(), present)
            sure = 1 - relative_entropy(weights, present)
            draws = torch.rand(present.shape, device=raw.device)
            kept = keep_one(draws >= self.mask * sure.unsqueeze(1), present, weights)
        shift = shift_from_reliability(relative_weights(raw, present if kept is None else present & kept))
        # `unimodal` carries the scores to the loss, as predictions of one class.
        return ungated(shift, self.sizes, unimodal=raw.unsqueeze(2), kept=kept)

    def own_loss(
        self, modulation: Modulation, present: Tensor, labels: Tensor | None, perturbed: Tensor | None = None
    ) -> Tensor | None:
        """Return the squared distance of the entropy from its target, over instances with two modalities or more."""
        if modulation.unimodal is None or not self.entropy_weight:
            return None
        scores = modulation.unimodal.squeeze(2)
        miss = (relative_entropy(softmax_over(scores, present), present) - self.target).square()
        several = present.sum(1) > 1
        return self.entropy_weight * torch.where(several, miss, 0).sum() / several.sum().clamp(min=1)


def softmax_over(scores: Tensor, present: Tensor) -> Tensor:
    """Return softmax weights (B, M) over the present modalities, 0 for the rest."""
    weights = torch.where(present, relative_weights(scores, present), 0)
    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def relative_entropy(weights: Tensor, present: Tensor) -> Tensor:
    """Return the entropy (B,) of weights as a share of the largest possible; 1 with fewer than two modalities."""
    # The logarithm of 1 instead of 0, whose gradient is infinite.
    entropy = -(weights * torch.where(weights > 0, weights, 1).log()).sum(1)
    count = present.sum(1)
    return torch.where(count > 1, entropy / torch.log(count.clamp(min=2).to(entropy.dtype)), 1)
