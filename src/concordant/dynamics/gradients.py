"""Gradient conflict between modalities: the cosine of the gradients of their losses at the fusion's weights.

Each modality's loss is that of the fusion with this modality alone present; a cosine below 0 means that a step
that serves one modality harms the other (Yu et al., "Gradient Surgery for Multi-Task Learning",
NeurIPS 2020). Weights that only one modality reaches count too, with a gradient of 0 from the others: where a fusion
keeps modalities apart until a linear head, cosines are near 0. Nothing here touches `.grad`, weights, running
statistics, training modes or random streams. Shapes: logits (B, C); L losses give cosines (L, L).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from concordant.errors import UsageError
from concordant.robustness.predict import evaluation_mode

if TYPE_CHECKING:
    from concordant.training.model import MultimodalModel, Output

Loss = Callable[[Tensor, Tensor], Tensor]


def gradient_cosines(losses: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[tuple[str, str], float | None]:
    """Return the cosine of the gradients of each pair of losses, None where a gradient is zero or not finite.

    Args:
        losses: name -> a scalar; one that does not depend on the parameters has a gradient of zero.
        parameters: shared by the losses; those that need no gradient do not count.

    Raises:
        UsageError: a loss is not a scalar.

    >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> losses = {"audio": weight.sum(), "text": -weight.sum(), "vision": weight[0]}
    >>> {pair: round(cosine, 4) for pair, cosine in gradient_cosines(losses, [weight]).items()}
    {('audio', 'text'): -1.0, ('audio', 'vision'): 0.7071, ('text', 'vision'): -0.7071}
    """
    table = cosine_table(losses, parameters).tolist()
    pairs = combinations(enumerate(losses), 2)
    found = {(one, other): table[row][column] for (row, one), (column, other) in pairs}
    return {pair: None if math.isnan(value) else value for pair, value in found.items()}


def cosine_table(losses: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """Return the cosines (L, L) on the device, NaN where a gradient is zero or not finite; as `gradient_cosines`."""
    for name, loss in losses.items():
        if loss.numel() != 1:
            raise UsageError(f"losses[{name!r}] must be a scalar; found the shape {tuple(loss.shape)}")
    if not losses:
        return torch.empty(0, 0)
    learned = [weight for weight in parameters if weight.requires_grad]
    flat = torch.stack([_flat_gradient(loss, learned) for loss in losses.values()])  # (L, P)
    products = flat @ flat.T
    squares = products.diagonal()
    scale = (squares[:, None] * squares[None, :]).sqrt()
    cosines = (products / scale).clamp(-1, 1)
    return torch.where((scale > 0) & scale.isfinite(), cosines, torch.nan)


def modality_losses(model: MultimodalModel, out: Output, labels: Tensor, loss: Loss) -> dict[str, Tensor]:
    """Return modality -> the loss of the fusion given that modality alone, for gradients of the fusion's weights.

    The features are those that the fusion joined, calibrated and detached; the others are absent. The fusion is in
    evaluation mode for this: dropout draws nothing and no running statistic changes. All fusions of `FUSIONS` accept a
    single modality; if a fusion raises, or gives logits that are not finite, the modality is left out, as is one that
    no instance has. For a calibrator that decides in the fusion's place the result is empty.

    Args:
        model: the model of `out`.
        out: of R >= B rows, of which the first B count: the clean ones.
        labels: (B,).
        loss: of logits and labels, a mean over rows.
    """
    calibration, rows = out.calibration, len(labels)
    if calibration.decision is not None:
        return {}
    fusion = model.fusion
    kind = next(fusion.parameters()).dtype  # under mixed precision features may have another
    features = {
        name: x.detach().narrow(fusion.meeting[name].layout.batch, 0, rows).to(kind)
        for name, x in calibration.features.items()
    }
    masks = {name: mask[:rows] for name, mask in out.masks.items()}
    found = {}
    # cuDNN has no gradient of recurrent layers in evaluation mode.
    with evaluation_mode(fusion), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        for index, name in enumerate(calibration.names):
            here = calibration.present[:rows, index]
            if name not in features or not (calibration.all_present or here.any()):
                continue
            alone = {other: here if other == name else torch.zeros_like(here) for other in calibration.names}
            try:
                logits = fusion.join(features, masks, alone).float()
            except torch.OutOfMemoryError:
                raise
            except (IndexError, KeyError, RuntimeError, ValueError):  # this fusion needs the others
                continue
            value = loss(logits, labels) if calibration.all_present else loss(logits[here], labels[here])
            if value.isfinite():
                found[name] = value
    return found


def _flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return one loss's gradient (P,), zeros where it does not depend on a parameter."""
    if not parameters or not loss.requires_grad:
        count = sum(weight.numel() for weight in parameters)
        return torch.zeros(count, device=loss.device)
    # The graph is kept, since losses may share some of it.
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
    return torch.cat([one.flatten() for one in flat]).float()
