"""The auxiliary losses: say which modality was touched, and bring agreeing modalities together.

Both look only at what the calibrator itself inflicted, so they need no labels; class labels, where there
are three or more, give the second one more positives.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from concord.calibration.tracing import values_are_known

TEMPERATURE = 0.1


def intact_loss(logits: Tensor, touched: Tensor, present: Tensor) -> Tensor:
    """Return the binary cross-entropy of sigmoid(logits) against "this modality is untouched".

    Args:
        logits: reliability logits (B, M).
        touched: bool (B, M), True where a perturbation hit.
        present: bool (B, M); absent modalities, and instances with a single one, are left out.
    """
    counted = present & (present.sum(1, keepdim=True) > 1)
    losses = F.binary_cross_entropy_with_logits(logits, (~touched).to(logits.dtype), reduction="none")
    return torch.where(counted, losses, 0).sum() / counted.sum().clamp(min=1)


def agreement_loss(
    embeddings: Tensor, untouched: Tensor, present: Tensor, labels: Tensor | None, *, most: int | None = None
) -> Tensor:
    """Return the contrastive loss over all pairs of modalities, both directions, within the batch.

    Args:
        embeddings: unit vectors (B, M, K).
        untouched: bool (B,), the instances no perturbation hit; only these take part. An instance whose
            copy was hit elsewhere would meet itself as a negative, so half-touched ones stay out.
        present: bool (B, M).
        labels: class indices (B,): all untouched instances of the same class are positives, the loss is
            -[logsumexp(positives) - logsumexp(all)]. None, or fewer than three classes in the batch: the
            positive is the instance's own pair.
        most: only among the first so many rows can one be untouched; spares work where code may not look at
            values. None = anywhere.

    Returns:
        The mean over pairs, directions and instances; 0 where no pair has two instances.
    """
    many = torch.zeros((), dtype=torch.bool, device=embeddings.device)
    if labels is not None:  # as many classes in the batch as rows without an equal one before them
        same = labels.unsqueeze(0) == labels.unsqueeze(1)
        many = (~torch.tril(same, -1).any(1)).sum() >= 3
    if values_are_known():  # leave out early what counts nowhere: half of a doubled batch
        embeddings, present = embeddings[untouched], present[untouched]
        labels, untouched = None if labels is None else labels[untouched], untouched[untouched]
    elif most is not None:
        embeddings, present, untouched = embeddings[:most], present[:most], untouched[:most]
        labels = None if labels is None else labels[:most]
    first, second = (list(side) for side in zip(*combinations(range(embeddings.shape[1]), 2), strict=True))
    rows = untouched.unsqueeze(0) & (present[:, first] & present[:, second]).T.contiguous()  # (P, B)
    logits = torch.einsum("ipk,jpk->pij", embeddings[:, first], embeddings[:, second]) / TEMPERATURE
    positive = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    if labels is not None:
        positive = torch.where(many, labels.unsqueeze(0) == labels.unsqueeze(1), positive)
    both = rows.unsqueeze(1) & rows.unsqueeze(2)  # (P, B, B)
    usable = rows & (rows.sum(1, keepdim=True) > 1)
    if not values_are_known():
        forth, back = _gaps_of_bounded(logits, both, positive, usable)
    else:
        least = torch.finfo(logits.dtype).min
        every = torch.where(both, logits, least)
        ours = torch.where(both & positive, logits, least)
        forth = torch.logsumexp(every, 2) - torch.logsumexp(ours, 2)
        back = torch.logsumexp(every, 1) - torch.logsumexp(ours, 1)
    return 0.5 * torch.where(usable, forth + back, 0).sum() / usable.sum().clamp(min=1)


def _gaps_of_bounded(logits: Tensor, both: Tensor, positive: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
    """Return logsumexp(all) - logsumexp(positives) in both directions, (P, B) each, from one exponential.

    A cosine bounds every logit, so that no maximum has to be found first: the smallest exponential is exp(-20).
    """
    shares = torch.where(both, torch.exp(logits - 1 / TEMPERATURE), 0)
    ours = torch.where(positive, shares, 0)
    gaps = []
    for axis in (2, 1):
        whole, part = shares.sum(axis), ours.sum(axis)
        # The logarithm of 1 where nothing counts, whose gradient is no NaN.
        gaps.append(torch.where(usable, whole, 1).log() - torch.where(usable, part, 1).log())
    return gaps[0], gaps[1]
