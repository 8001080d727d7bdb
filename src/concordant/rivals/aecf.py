"""AECF: softmax weights over modalities, held at a target entropy, with a masking that follows their entropy.

Chlon et al., "Adaptive Entropy-Gated Contrastive Fusion", arXiv 2505.15417: a gate weighs the modalities of each
instance; a loss keeps the entropy of the weights near a target; and in training modalities are masked the more
often the surer the gate is (the curriculum), after which the weights are shared among the rest. There weights
make one fused vector; here they scale the features before any fusion, relative to the largest weight, so that
untrained all pass as they are. The paper's contrastive calibration term over subsets is left out.
Shapes: summaries (B, S_m) -> scores (B, M) -> weights (B, M) -> reliability (B, M) in (0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.calibration.base import linear, zero_linear
from concordant.calibration.modulation import shift_from_reliability
from concordant.calibration.perturbation import Perturbation
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import UsageError
from concordant.rivals.modality_dropout import keep_one
from concordant.rivals.uncertainty import relative_weights
from concordant.rivals.untaught import Untaught


class EntropyGate(Untaught):
    """Weigh modalities by a softmax over scores of their summaries.

    Args: as for `Untaught`, with
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
        layouts: str | Mapping[str, str] = "auto",
        hidden: int = 32,
        mask: float = 0.15,
        target: float = 0.7,
        entropy_weight: float = 0.1,
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        dropout: float = 0.1,
        seed: int | None = None,
    ) -> None:
        super().__init__(sizes, layouts=layouts, nonfinite=nonfinite, perturbation=perturbation, dropout=dropout)
        faults = [] if hidden >= 1 else [f"hidden must be 1 or more; found {hidden}"]
        for name, value in (("mask", mask), ("target", target)):
            if not 0 <= value <= 1:
                faults.append(f"{name} must lie in [0, 1]; found {value}")
        if not entropy_weight >= 0:
            faults.append(f"entropy_weight must not be negative; found {entropy_weight}")
        if faults:
            raise UsageError("; ".join(faults))
        self.mask, self.target, self.entropy_weight = mask, target, entropy_weight
        base = int(torch.randint(2**62, ()).item()) if seed is None else seed
        self.squeeze, self.score = nn.ModuleDict(), nn.ModuleDict()
        for name in self.names:
            with seeding.scope(base, "calibrator", "aecf", name):
                self.squeeze[name] = nn.Linear(self.summary_size(name), hidden)
                self.score[name] = zero_linear(hidden, 1)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return relative weights as shifts, and in training what the curriculum keeps."""
        scores = []
        for name in self.names:
            vector = F.dropout(summaries.vectors[name], self.dropout, self.training)
            hidden = F.gelu(linear(self.squeeze[name], vector))  # type: ignore[arg-type]
            scores.append(linear(self.score[name], hidden).squeeze(1))  # type: ignore[arg-type]
        raw, present = torch.stack(scores, 1), summaries.present
        kept = None
        if self.training and self.mask:
            weights = softmax_over(raw.detach(), present)
            sure = 1 - relative_entropy(weights, present)
            draws = torch.rand(present.shape, device=raw.device)
            kept = keep_one(draws >= self.mask * sure.unsqueeze(1), present, weights)
        shift = shift_from_reliability(relative_weights(raw, present if kept is None else present & kept))
        ones = {name: shift.new_ones(shift.shape[0], size) for name, size in self.sizes.items()}
        # The scores travel as opinions of one class, for the loss.
        return Modulation(shift, ones, unimodal=raw.unsqueeze(2), kept=kept)

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
    # The logarithm of 1 instead of 0, which would spoil the gradient.
    entropy = -(weights * torch.where(weights > 0, weights, 1).log()).sum(1)
    count = present.sum(1)
    return torch.where(count > 1, entropy / torch.log(count.clamp(min=2).to(entropy.dtype)), 1)
