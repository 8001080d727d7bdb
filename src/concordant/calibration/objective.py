"""The auxiliary losses: say which modality was perturbed, and bring agreeing modalities together.

Both look only at what the calibrator itself inflicted, so they need no labels; class labels, where there
are three or more, give the second one more positives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from concordant.calibration.contrast import closeness, contrast, sides
from concordant.calibration.tracing import values_are_known

FEWEST_CLASSES = 3  # from here on the classes of a batch make better positives for the contrastive loss than pairs do


def clean_loss(logits: Tensor, perturbed: Tensor, present: Tensor, *, everywhere: bool = False) -> Tensor:
    """Return the binary cross-entropy of sigmoid(logits) against "this modality is untouched".

    Args:
        logits: reliability logits (B, M).
        perturbed: bool (B, M), True where a perturbation hit.
        present: bool (B, M); absent modalities, and instances with a single one, are left out.
        everywhere: `present` is known to be True throughout, of two modalities or more and of some instance, and need
            not be looked at.
    """
    untouched = (~perturbed).to(logits.dtype)
    if everywhere:
        return F.binary_cross_entropy_with_logits(logits, untouched)
    counted = present & (present.sum(1, keepdim=True) > 1)
    losses = F.binary_cross_entropy_with_logits(logits, untouched, reduction="none")
    return torch.where(counted, losses, 0).sum() / counted.sum().clamp(min=1)


def agreement_loss(
    embeddings: Tensor,
    untouched: Tensor,
    present: Tensor,
    labels: Tensor | None,
    *,
    most: int | None = None,
    everywhere: bool = False,
) -> Tensor:
    """Return the contrastive loss over all pairs of modalities, both directions, within the batch.

    Args:
        embeddings: unit vectors (B, M, K).
        untouched: bool (B,), the instances no perturbation hit; only these take part. An instance whose
            copy was hit elsewhere would meet itself as a negative, so half-perturbed ones stay out.
        present: bool (B, M).
        labels: class indices (B,): all untouched instances of the same class are positives, the loss is
            -[logsumexp(positives) - logsumexp(all)]. None, or fewer than three classes in the batch: the
            positive is the instance's own pair.
        most: the first so many rows are untouched, and none that counts behind them, as in a batch of copies; spares
            work, and is believed where code may not look at values. None = anywhere.
        everywhere: `present` is known to be True throughout, and need not be looked at.

    Returns:
        The mean over pairs, directions and instances; 0 where no pair has two instances.
    """
    if most is not None:
        embeddings, present, untouched = embeddings[:most], present[:most], untouched[:most]
        labels = None if labels is None else labels[:most]
    if labels is not None and values_are_known() and len(torch.unique(labels)) < FEWEST_CLASSES:
        labels = None
    if values_are_known():
        if not bool(untouched.all()):  # leave out early what counts nowhere
            embeddings, present = embeddings[untouched], present[untouched]
            labels = None if labels is None else labels[untouched]
            untouched = untouched[untouched]
        whole = everywhere or bool(present.all())
    else:
        whole = everywhere and most is not None
    same = None if labels is None else _positives(labels)
    if whole and len(embeddings) > 1:
        return contrast(embeddings, same)
    return _of_those_that_count(embeddings, untouched, present, same)


def _positives(labels: Tensor) -> Tensor:
    """Return bool (B, B), which instances are of one class; each its own where these are too few classes."""
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    if values_are_known():  # they were counted
        return same
    # As many classes as rows without an equal one before them.
    few = (~torch.tril(same, -1).any(1)).sum() < FEWEST_CLASSES
    return torch.where(few, torch.eye(len(labels), dtype=torch.bool, device=labels.device), same)


def _of_those_that_count(embeddings: Tensor, untouched: Tensor, present: Tensor, same: Tensor | None) -> Tensor:
    """Return the loss over the instances of each pair that are untouched and have both modalities."""
    one, other = sides((present & untouched.unsqueeze(1)).unsqueeze(2))
    rows = (one & other).squeeze(2)  # (P, B)
    both = rows.unsqueeze(1) & rows.unsqueeze(2)  # (P, B, B)
    likeness = torch.where(both, closeness(*sides(embeddings)).exp(), 0)
    if same is None:
        same = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    ours = likeness * same
    usable = rows & (rows.sum(1, keepdim=True) > 1)
    # Rows that do not count get a sum of 1 before the logarithm, which would spoil the gradient at 0.
    sums = [torch.where(usable, part.sum(axis), 1) for part in (likeness, ours) for axis in (1, 2)]
    losses = torch.log(sums[0] * sums[1]) - torch.log(sums[2] * sums[3])
    return 0.5 * losses.sum() / usable.sum().clamp(min=1)
