"""Linear probes of the encoders: how well the pooled features of one modality predict the label.

Ridge regression onto the classes in closed form, equal to scikit-learn's RidgeClassifier on standardised columns
(alpha = 1); real labels are split by the side of 0.
Shapes: pooled features (N, D); labels (N,).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from concordant.fusion.base import masked_mean
from concordant.modalities import gather, to_positions
from concordant.training.batches import Tensors

if TYPE_CHECKING:
    from concordant.training.batches import AnyTensors
    from concordant.training.model import MultimodalModel

ROWS = 512  # of each split, at most, for a probe
STRENGTH = 1.0  # of the ridge, on standardised columns


def ridge_probe(train: Tensor, train_labels: Tensor, valid: Tensor, valid_labels: Tensor) -> float | None:
    """Return the accuracy on `valid` (V, D) of a ridge classifier of `train` (N, D); None for one class, or no rows."""
    if not len(train) or not len(valid):
        return None
    # In double precision on the CPU: a small problem, and some accelerators have no doubles.
    train, valid = train.detach().cpu().double(), valid.detach().cpu().double()
    classes, index = torch.unique(train_labels.detach().cpu(), return_inverse=True)
    if len(classes) < 2:
        return None
    mean, std = train.mean(0), train.std(0, unbiased=False)
    std = torch.where(std > 0, std, 1)
    x, held = (train - mean) / std, (valid - mean) / std
    targets = 2 * F.one_hot(index, len(classes)).double() - 1  # (N, C)
    offset = targets.mean(0)
    ridge = x.T @ x + STRENGTH * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(ridge, x.T @ (targets - offset))  # (D, C)
    predicted = classes[(held @ weights + offset).argmax(1)]
    return float((predicted == valid_labels.detach().cpu()).double().mean())


def pooled(model: MultimodalModel, batch: Tensors) -> tuple[dict[str, Tensor], Tensor]:
    """Return modality -> its encoder's features averaged over valid positions (B, D), and presence bool (B, M)."""
    features: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    sizes: dict[str, int] = {}
    layouts: dict[str, str] = {}
    with torch.no_grad():
        for name, encoder in model.encoders.items():
            sizes[name], layouts[name] = encoder.size, encoder.feature_layout  # type: ignore[assignment]
            features[name], mask = encoder(batch.inputs[name], batch.masks.get(name), batch.present.get(name))
            if mask is not None:
                masks[name] = mask
        given = gather(
            features,
            sizes=sizes,
            layouts=layouts,
            masks=masks,
            present={name: here for name, here in batch.present.items() if name in features},
        )
        means = {}
        for name, x in given.features.items():
            flat = to_positions(x, given.layouts[name])
            means[name] = masked_mean(flat, given.masks.get(name), given.column(name)).float()
    return means, given.present


def probes(model: MultimodalModel, train: AnyTensors, valid: AnyTensors) -> dict[str, float | None]:
    """Return modality -> the validation accuracy of a probe of its encoder, over the instances that have it.

    At most 512 instances of each split are used, evenly spaced. The model is in evaluation mode.
    """
    seen, held = evenly(train, ROWS), evenly(valid, ROWS)
    seen_features, seen_here = pooled(model, seen)
    held_features, held_here = pooled(model, held)
    found = {}
    for index, name in enumerate(model.encoders):
        rows, others = seen_here[:, index], held_here[:, index]
        found[name] = ridge_probe(
            seen_features[name][rows],
            sides(seen.labels[rows]),
            held_features[name][others],
            sides(held.labels[others]),
        )
    return found


def evenly(split: AnyTensors, most: int) -> Tensors:
    """Return at most `most` instances, evenly spaced, since a split may be sorted by class."""
    return split.take(slice(None, None, max(1, -(-len(split) // most))))


def sides(labels: Tensor) -> Tensor:
    """Return class indices as they are; for real labels, whether they are 0 or more."""
    return (labels >= 0).long() if labels.is_floating_point() else labels
