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
FEWEST_CLASSES = 3  # in a batch, for its classes to make the positives


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
    if values_are_known():  # leave out early what counts nowhere: half of a doubled batch
        several = labels is not None and len(torch.unique(labels)) >= FEWEST_CLASSES
        embeddings, present = embeddings[untouched], present[untouched]
        labels = labels[untouched] if labels is not None and several else None
        if bool(present.all()) and len(embeddings) > 1:
            return _loss_of_all(embeddings, labels)
        untouched = untouched[untouched]
    elif most is not None:
        embeddings, present, untouched = embeddings[:most], present[:most], untouched[:most]
        labels = None if labels is None else labels[:most]
    first, second = _sides(embeddings.shape[1])
    rows = untouched.unsqueeze(0) & (present[:, first] & present[:, second]).T.contiguous()  # (P, B)
    both = rows.unsqueeze(1) & rows.unsqueeze(2)  # (P, B, B)
    likeness = torch.where(both, _likeness(embeddings), 0)
    positive = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    if labels is not None:
        same = labels.unsqueeze(0) == labels.unsqueeze(1)
        # As many classes as rows without an equal one before them; where values are known they were counted above.
        few = (~torch.tril(same, -1).any(1)).sum() < FEWEST_CLASSES
        positive = same if values_are_known() else torch.where(few, positive, same)
    ours = likeness * positive
    usable = rows & (rows.sum(1, keepdim=True) > 1)
    # Rows that do not count get a sum of 1 before the logarithm, which would spoil the gradient at 0.
    sums = [torch.where(usable, part.sum(axis), 1) for part in (likeness, ours) for axis in (1, 2)]
    losses = torch.log(sums[0] * sums[1]) - torch.log(sums[2] * sums[3])
    return 0.5 * losses.sum() / usable.sum().clamp(min=1)


def _loss_of_all(embeddings: Tensor, labels: Tensor | None) -> Tensor:
    """Return the same where every row counts; without labels the positive is the own pair."""
    likeness = _likeness(embeddings)
    every = torch.log(likeness.sum(1) * likeness.sum(2))  # (P, B)
    if labels is None:
        own = likeness.diagonal(dim1=1, dim2=2)
        return 0.5 * (every - 2 * torch.log(own)).mean()
    ours = likeness * (labels.unsqueeze(0) == labels.unsqueeze(1))
    return 0.5 * (every - torch.log(ours.sum(1) * ours.sum(2))).mean()


def _likeness(embeddings: Tensor) -> Tensor:
    """Return exp((cosine - 1) / temperature) of all rows of each pair of modalities, (P, B, B).

    As no cosine exceeds 1, nothing has to be subtracted first for the sums to stay in range.
    """
    first, second = _sides(embeddings.shape[1])
    sides = embeddings.transpose(0, 1)  # (M, B, K)
    return torch.exp((sides[first] @ sides[second].mT - 1) / TEMPERATURE)


def _sides(count: int) -> tuple[list[int], list[int]]:
    """Return the two columns of every pair of modalities."""
    pairs = list(combinations(range(count), 2))
    return [a for a, _ in pairs], [b for _, b in pairs]
