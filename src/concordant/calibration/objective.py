"""The auxiliary losses: recognise perturbed modalities, and bring agreeing ones together.

Both look at perturbations that training itself inflicts, and need no labels; class labels, where there are
three or more, give the second one more positives.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST_CLASSES = 3  # from here on the classes of a batch make better positives for the contrastive loss than pairs do
TEMPERATURE = 0.1


def clean_loss(logits: Tensor, perturbed: Tensor, present: Tensor) -> Tensor:
    """Return the binary cross-entropy of sigmoid(logits) against "this modality is clean".

    Args:
        logits: reliability logits (B, M).
        perturbed: bool (B, M).
        present: bool (B, M); absent modalities, and instances with a single one, are left out.
    """
    counted = present & (present.sum(1, keepdim=True) > 1)
    losses = F.binary_cross_entropy_with_logits(logits, (~perturbed).to(logits.dtype), reduction="none")
    return torch.where(counted, losses, 0).sum() / counted.sum().clamp(min=1)


def agreement_loss(embeddings: Tensor, clean: Tensor, present: Tensor, labels: Tensor | None) -> Tensor:
    """Return the contrastive loss over all pairs of modalities, both directions, within the batch.

    It is -[logsumexp(positives) - logsumexp(all)] of cosine / temperature: an instance's embedding in one modality
    should be nearer to its embedding in another than to those of the other instances there.

    Args:
        embeddings: unit vectors (B, M, K).
        clean: bool (B,), the instances without any perturbation; only these take part. A partly perturbed instance
            stays out, since beside a clean copy of it the copy would be its negative.
        present: bool (B, M).
        labels: class indices (B,): all clean instances of a class are each other's positives. None, or fewer than
            three classes in the batch: the positive is the instance's own pair.

    Returns:
        The mean over pairs, directions and instances; 0 where no pair has two instances.
    """
    own = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    positives = own
    if labels is not None:
        positives = labels.unsqueeze(0) == labels.unsqueeze(1)  # (B, B)
        classes = (~torch.tril(positives, -1).any(1)).sum()  # as many as rows without an equal one before them
        positives = torch.where(classes < FEWEST_CLASSES, own, positives)
    pairs = list(combinations(range(embeddings.shape[1]), 2))
    z, rows = embeddings.unbind(1), (present & clean.unsqueeze(1)).unbind(1)
    one, other = (torch.stack([z[pair[side]] for pair in pairs]) for side in (0, 1))  # (P, B, K)
    both = torch.stack([rows[a] & rows[b] for a, b in pairs])  # (P, B), clean with both modalities
    # No cosine exceeds 1: with 1 subtracted the sums of exponentials stay in range.
    near = torch.baddbmm(one.new_full((1, 1, 1), -1 / TEMPERATURE), one, other.mT, alpha=1 / TEMPERATURE)  # (P, B, B)
    likeness = near.exp().masked_fill(~(both.unsqueeze(1) & both.unsqueeze(2)), 0)
    ours = likeness * positives
    usable = both & (both.sum(1, keepdim=True) > 1)
    # Rows that do not count get a sum of 1 before the logarithm, which would spoil the gradient at 0.
    every, mine = (torch.where(usable, one.sum(1) * one.sum(2), 1).log() for one in (likeness, ours))
    return 0.5 * (every - mine).sum() / usable.sum().clamp(min=1)
