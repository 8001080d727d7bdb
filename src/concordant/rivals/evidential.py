"""Evidential decisions: each modality gives evidence for the classes, and the opinions are combined.

Trusted multi-view classification (TMC), Han et al., ICLR 2021: evidence e_m >= 0 makes a Dirichlet distribution
alpha_m = e_m + 1, an opinion with belief b_m = e_m / S_m for each class and uncertainty u_m = C / S_m, where S_m is
the sum of alpha_m; opinions are combined by the reduced Dempster rule. Its conflict-aware form (RCML), Xu et al.,
AAAI 2024, averages the evidence instead and adds a loss on the conflict between opinions. The losses, of each modality
and of the combination, are the evidential cross-entropy and the divergence from the uniform Dirichlet distribution,
whose weight increases slowly (Sensoy et al., NeurIPS 2018).
The decision replaces that of the fusion, which must keep modalities apart to the end: a late one.
Shapes: summaries (B, S_m) -> evidence (B, M, C) -> decision: log alpha, logits (B, C), whose softmax is the mean
of the combined distribution; reliability 1 - u_m, (B, M).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.calibration.base import SharedOptions, linear
from concordant.calibration.modulation import shift_from_reliability
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import checks
from concordant.rivals.base import Rival, register, summary_of, ungated

MOST = 1e6  # evidence for a class: the losses are differences of what grows with it, and would be rounding alone


@register(
    "evidential",
    "opinions of each modality combined by Dempster's rule, in place of the head (TMC)",
    "Han et al., ICLR 2021",
)
class Evidential(Rival):
    """Decide by opinions that the reduced Dempster rule combines (TMC).

    Args: as for `Rival`, with
        classes: number of classes, C; 2 or more.
        annealing: training passes until the divergence has its full weight.

    Raises:
        UsageError: fewer than two classes, or `annealing` below 1.
    """

    needs_classes = True
    decides = True
    conflict_weight = 0.0

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        classes: int,
        annealing: int = 500,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(sizes, **options)
        with checks() as check:
            self.classes = classes = check.integer("classes", classes, 2)
            self.annealing = check.integer("annealing", annealing, 1)
        self.heads = nn.ModuleDict({name: nn.Linear(self.summary_size(name), classes) for name in self.names})
        self.passes: Tensor
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return the evidence of each modality, none where it is absent, and 1 - u_m as a shift."""
        found = []
        for index, name in enumerate(self.names):
            evidence = F.softplus(linear(self.heads[name], summary_of(self, summaries, name))).clamp(max=MOST)
            found.append(torch.where(summaries.present[:, index, None], evidence, 0))
        opinions = torch.stack(found, 1)  # (B, M, C)
        certainty = 1 - uncertainty(opinions)
        shift = shift_from_reliability(torch.where(summaries.present, certainty, 1))
        return ungated(shift, self.sizes, unimodal=opinions, decision=self.combine(opinions, summaries.present))

    def combine(self, evidence: Tensor, present: Tensor) -> Tensor:
        """Return log alpha (B, C) of all modalities together."""
        return dempster(evidence)

    def own_loss(
        self, modulation: Modulation, present: Tensor, labels: Tensor | None, perturbed: Tensor | None = None
    ) -> Tensor | None:
        """Return the evidential losses of all modalities and of their combination; None without labels."""
        if labels is None or modulation.unimodal is None:
            return None
        self.passes += 1
        share = (self.passes / self.annealing).clamp(max=1)  # a tensor, for graphs and vmap
        evidence = modulation.unimodal
        together = self.combine(evidence, present).clamp(max=math.log1p(MOST)).expm1()
        total = evidential_loss(together, labels, present.any(1), share)
        for index in range(len(self.names)):
            total = total + evidential_loss(evidence[:, index], labels, present[:, index], share)
        if self.conflict_weight:
            total = total + self.conflict_weight * conflict(evidence, present).sum() / max(1, len(evidence))
        return total


@register(
    "evidential-conflict",
    "opinions averaged, with a loss on their conflict, in place of the head (RCML)",
    "Xu et al., AAAI 2024",
)
class ConflictEvidential(Evidential):
    """Decide by averaged evidence, with a loss on the conflict between opinions (RCML). Args: as `Evidential`."""

    conflict_weight = 1.0

    def combine(self, evidence: Tensor, present: Tensor) -> Tensor:
        """Return log alpha (B, C) of the mean evidence of the present modalities."""
        return torch.log1p(evidence.sum(1) / present.sum(1, keepdim=True).clamp(min=1))


def uncertainty(evidence: Tensor) -> Tensor:
    """Return u = C / S of evidence (..., C), in (0, 1]."""
    classes = evidence.shape[-1]
    return classes / (evidence.sum(-1) + classes)


def dempster(evidence: Tensor) -> Tensor:
    """Return log alpha (B, C) of the opinion that the reduced Dempster rule makes of evidence (B, M, C).

    TMC, definition 4. Applied to two opinions it multiplies b/u + 1, which is e/C + 1, up to a factor that belief and
    uncertainty share. So the combination of all is alpha = C (prod_m (e_m/C + 1) - 1) + 1, here in logarithms, which
    no number of sure modalities overflows. Without evidence an opinion leaves the others as they are.
    """
    classes = evidence.shape[2]
    product = torch.log1p(evidence / classes).sum(1)  # (B, C), a logarithm of 0 or more
    return product + torch.log1p((1 - classes) * torch.expm1(-product))


def evidential_loss(evidence: Tensor, labels: Tensor, here: Tensor, share: float | Tensor) -> Tensor:
    """Return the evidential cross-entropy plus `share` of the divergence, averaged over rows that are `here`.

    TMC, equations 7 to 9. Shapes: evidence (B, C), labels and here (B,); share in [0, 1].
    """
    alpha = evidence + 1
    true = F.one_hot(labels, evidence.shape[1]).to(alpha.dtype)
    fit = (true * (torch.digamma(alpha.sum(1, keepdim=True)) - torch.digamma(alpha))).sum(1)
    misled = true + (1 - true) * alpha  # without the evidence for the true class
    total = misled.sum(1)
    classes = torch.tensor(float(evidence.shape[1]), device=alpha.device, dtype=alpha.dtype)
    divergence = (
        torch.lgamma(total)
        - torch.lgamma(classes)
        - torch.lgamma(misled).sum(1)
        + ((misled - 1) * (torch.digamma(misled) - torch.digamma(total).unsqueeze(1))).sum(1)
    )
    loss = fit + share * divergence
    return torch.where(here, loss, 0).sum() / here.sum().clamp(min=1)


def conflict(evidence: Tensor, present: Tensor) -> Tensor:
    """Return the mean conflict (B,) over ordered pairs of present modalities, in [0, 1].

    RCML: the distance of the projected probabilities times the certainty of both.
    """
    classes = evidence.shape[2]
    doubt = uncertainty(evidence)  # (B, M)
    projected = (evidence + 1) / (evidence.sum(2, keepdim=True) + classes)  # b + u / C
    distance = (projected.unsqueeze(1) - projected.unsqueeze(2)).abs().sum(3) / 2  # (B, M, M)
    certain = (1 - doubt) * present
    clash = distance * certain.unsqueeze(1) * certain.unsqueeze(2)
    count = present.sum(1)
    return clash.sum((1, 2)) / (count * (count - 1)).clamp(min=1)
