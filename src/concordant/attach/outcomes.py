"""What a model's outputs are worth: losses and errors of batches, and the labels that a calibrator learns from.

Shapes: logits (B, C), targets (B,), or with further axes; errors (B,).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from concordant import seeding
from concordant.attach import Attached, call_with
from concordant.attach.containers import map_tensors, tensors_of
from concordant.calibration.objective import FEWEST_CLASSES
from concordant.errors import UsageError
from concordant.modalities import as_tensor

Batches = Iterable[tuple[Any, Tensor]]
Loss = Callable[[Any, Tensor], Tensor]


def default_loss(output: Any, targets: Tensor) -> Tensor:  # noqa: ANN401 - whatever a model returns
    """Return the cross-entropy of a model's logits, or for real targets the mean absolute error.

    Raises:
        UsageError: the output has no tensor with one row per target.
    """
    logits = _rows_of(output, targets)
    if logits is None or logits.shape[:1] != targets.shape[:1]:
        found = "no tensor" if logits is None else f"one of shape {tuple(logits.shape)}"
        raise UsageError(
            f"the model's output must be logits, have `logits`, or begin with them, one row for each of the "
            f"{len(targets)} targets; found {found}; give `loss`"
        )
    if targets.is_floating_point():
        return F.l1_loss(_as_numbers(logits, targets), targets)
    wanted = (*logits.shape[:1], *logits.shape[2:])
    if logits.dim() < 2 or targets.shape != wanted:
        raise UsageError(
            f"targets are integers of shape {tuple(targets.shape)}, and the model's output has shape "
            f"{tuple(logits.shape)}; class indices have shape (B, ...) and their logits (B, C, ...)"
        )
    return F.cross_entropy(logits.float(), targets.long())


def _as_numbers(output: Tensor, targets: Tensor) -> Tensor:
    """Return predicted numbers in the shape of the real targets.

    Raises:
        UsageError: there are more or fewer of them.
    """
    if output.numel() != targets.numel():
        raise UsageError(
            f"targets are real numbers of shape {tuple(targets.shape)}, and the model's output has shape "
            f"{tuple(output.shape)}; for classes give class indices as integers, for anything else `loss`"
        )
    return output.float().reshape(targets.shape)


def errors(output: Any, targets: Tensor, loss: Loss | None = None) -> tuple[Tensor, bool]:  # noqa: ANN401
    """Return the error of every row, (B,), and whether it is a real number rather than a share of wrong classes.

    Args:
        output: of the model.
        targets: class indices (B, ...), or real numbers.
        loss: a function of output and targets, whose values for single rows are their errors where targets are not
            classes; None = the absolute error. Beside a loss of your own, logits must be the output or its `logits`.

    Raises:
        UsageError: as for `default_loss`.
    """
    logits = _rows_of(output, targets, certain=loss is not None)
    shapes = logits is not None and logits.dim() > targets.dim() and logits.shape[:1] == targets.shape[:1]
    if logits is not None and shapes and not targets.is_floating_point():
        return (logits.argmax(1) != targets).float().reshape(len(targets), -1).mean(1), False
    if loss is not None:
        rows = [slice(row, row + 1) for row in range(len(targets))]
        found = [loss(map_tensors(output, operator.itemgetter(row)), targets[row]) for row in rows]
        return torch.stack([one.reshape(()).float() for one in found]), True
    default_loss(output, targets)  # refuses what does not fit
    absolute = (_as_numbers(cast(Tensor, logits), targets) - targets).abs()
    return absolute.reshape(len(targets), -1).mean(1), True


def logits_of(output: Any, *, certain: bool = False) -> Tensor | None:  # noqa: ANN401
    """Return the logits in a model's output: itself, its `logits`, or, unless `certain`, its first tensor."""
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    if certain and not isinstance(output, Tensor):
        return None
    return next(iter(tensors_of(output)), None)


def _rows_of(output: Any, targets: Tensor, *, certain: bool = False) -> Tensor | None:  # noqa: ANN401
    """Return the logits in a model's output, with the axis of a batch of one that it may have squeezed away."""
    logits = logits_of(output, certain=certain)
    return logits if logits is None or targets.shape[:1] != (1,) or logits.shape[:1] == (1,) else logits.unsqueeze(0)


def class_labels(targets: Tensor, classes: int | None = None) -> Tensor | None:
    """Return the targets as class indices (B,) for the calibrator's losses; None where they are none.

    With `classes` the calibrator has unimodal predictions, which learn from two classes too; otherwise only the
    contrastive loss reads labels, and needs three.
    """
    if targets.is_floating_point() or targets.dim() != 1 or targets.dtype == torch.bool:
        return None
    if classes is not None:
        return targets if int(targets.min()) >= 0 and int(targets.max()) < classes else None
    return targets if int(targets.max()) >= FEWEST_CLASSES - 1 else None


@torch.no_grad()
def validation_loss(attached: Attached, batches: Batches, loss: Loss, *, seed: int) -> float:
    """Return the mean loss over clean and perturbed features; draws depend on `seed` alone."""
    where = next(attached.parameters()).device
    draws = seeding.generator(seed, "fit_plugin", "validation", device=where)
    total, count = 0.0, 0
    for batch in batches:
        given, goal = moved(batch, where)
        clean = float(loss(call_with(attached, given), goal))
        with attached.perturbed(draws):
            perturbed = float(loss(call_with(attached, given), goal))
        total, count = total + len(goal) * (clean + perturbed) / 2, count + len(goal)
    if not count:
        raise UsageError("validation must give at least one batch; found none")
    return total / count


def moved(batch: tuple[Any, Tensor], device: torch.device) -> tuple[Any, Tensor]:
    """Return inputs and targets on a device; targets may be a NumPy array."""
    inputs, targets = batch
    return map_tensors(inputs, lambda x: x.to(device)), as_tensor(targets).to(device)
