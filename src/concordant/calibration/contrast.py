"""The contrast of every pair of modalities over the instances of a batch, where all of them count, and its gradient.

What an instance says in one modality shall be nearer to what it says in another than to what the others say there:
- [logsumexp over positives - logsumexp over all] of cosine / temperature, in both directions. The gradient is written
out: of the matrix of cosines it is the same short expression for every pair, where recording each operation on the way
would cost more than computing it.
Shapes: embeddings (B, M, K), cosines of P pairs of modalities (P, B, B).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from concordant.calibration.indices import index_of
from concordant.calibration.tracing import values_are_known

TEMPERATURE = 0.1


def contrast(embeddings: Tensor, same: Tensor | None = None) -> Tensor:
    """Return the mean of the contrastive losses over pairs, directions and instances, a scalar.

    Args:
        embeddings: unit vectors (B, M, K), two instances or more.
        same: bool (B, B), which instances are each other's positives, True on the diagonal; None = the own pair alone.
    """
    if values_are_known():
        found: Tensor = _Contrast.apply(embeddings, same)  # type: ignore[no-untyped-call]
        return found
    return _plain(embeddings, same)


def closeness(one: Tensor, other: Tensor) -> Tensor:
    """Return (cosine - 1) / temperature of all rows of two sides (P, B, K), (P, B, B).

    As no cosine exceeds 1, nothing has to be subtracted before an exponential for its sums to stay in range.
    """
    return torch.baddbmm(one.new_full((1, 1, 1), -1 / TEMPERATURE), one, other.mT, alpha=1 / TEMPERATURE)


def sides(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two modalities of every pair, (P, B, K) each."""
    columns = index_of(_both, embeddings.shape[1], device=embeddings.device)
    one, other = embeddings.transpose(0, 1).index_select(0, columns).chunk(2)
    return one, other


def _plain(embeddings: Tensor, same: Tensor | None) -> Tensor:
    """Return the loss from operations that every transform knows."""
    near = closeness(*sides(embeddings))
    likeness = near.exp()
    every = (likeness.sum(1) * likeness.sum(2)).log()  # (P, B)
    if same is None:
        return 0.5 * (every - 2 * near.diagonal(dim1=1, dim2=2)).mean()
    ours = likeness * same
    return 0.5 * (every - (ours.sum(1) * ours.sum(2)).log()).mean()


class _Contrast(Function):
    """The same, with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, same: Tensor | None) -> Tensor:  # noqa: ANN401
        one, other = sides(embeddings)
        near = closeness(one, other)
        total = -2 * near.diagonal(dim1=1, dim2=2).sum() if same is None else one.new_zeros(())
        likeness = near.exp_()
        every = torch.stack([likeness.sum(2), likeness.sum(1)])  # (2, P, B)
        total += every.log().sum()
        mine = None
        if same is not None:
            ours = likeness * same
            mine = torch.stack([ours.sum(2), ours.sum(1)])
            total -= mine.log().sum()
        ctx.save_for_backward(embeddings, same, one, other, likeness, every, mine)
        return total * (0.5 / every[0].numel())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        embeddings, same, one, other, likeness, every, mine = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants a gradient of this gradient
            (found,) = torch.autograd.grad(_plain(embeddings, same), embeddings, gradient, create_graph=True)
            return found, None
        rows, columns = every.reciprocal().unbind()
        weight = rows.unsqueeze(2) + columns.unsqueeze(1)  # (P, B, B)
        if mine is not None:
            rows, columns = mine.reciprocal().unbind()
            weight -= (rows.unsqueeze(2) + columns.unsqueeze(1)) * same
        weight *= likeness
        if mine is None:
            weight.diagonal(dim1=1, dim2=2).sub_(2)
        weight *= gradient * (0.5 / (TEMPERATURE * every[0].numel()))
        both = torch.cat([weight @ other, weight.mT @ one])  # (2 P, B, K)
        size, count, width = embeddings.shape
        found = both.new_zeros(count, size, width).index_add_(0, index_of(_both, count, device=both.device), both)
        return found.transpose(0, 1), None


def _both(count: int) -> list[int]:
    """Return the first modality of every pair, then the second of every pair."""
    pairs = list(combinations(range(count), 2))
    return [a for a, _ in pairs] + [b for _, b in pairs]
