"""The training step of a `MultimodalModel`: from a batch to its loss.

The encoders run once per batch; the features go on twice, clean and perturbed, and the loss is the mean over both.
Shapes: outputs (R, C), or (R, 1) for real targets, where R is B, or 2B with perturbed copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.calibration import Perturbation, repeat_targets
from concordant.calibration.distributed import Ranks
from concordant.data.split import LabelKind
from concordant.errors import ConcordantError
from concordant.modalities import values_are_known
from concordant.training.loop import Callback, TrainingState, diverged, what_is_not_finite
from concordant.training.methods import TrainingMethod
from concordant.training.model import MultimodalModel

# Maps outputs (R, C), targets (R,) and the weight of each row (R,), None = 1, to the mean loss, a scalar.
Loss = Callable[..., Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of (R, C) outputs."""
    return _mean(F.cross_entropy, outputs, targets, weights)


def absolute_error(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean absolute error of (R, 1) outputs: the loss of sentiment regression in the MMSA benchmark."""
    return _mean(F.l1_loss, outputs[:, 0], targets, weights)


def squared_error(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared error of (R, 1) outputs."""
    return _mean(F.mse_loss, outputs[:, 0], targets, weights)


def _mean(loss: Callable[..., Tensor], outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return loss(outputs, targets)
    return (loss(outputs, targets, reduction="none") * weights).mean()


LOSSES: dict[LabelKind, Loss] = {"class": cross_entropy, "real": absolute_error}


class TrainingStep(nn.Module):
    """Forward pass and loss; a module, since Fabric wraps one.

    Args:
        model: in training mode.
        loss: of the task.
        perturbation: of the second copy of the features; None = no second copy.
        method: weighs the task's loss; None = leaves it as it is.
        state: counts the steps; None = a new one.
        learning_rate: the highest, for the error of a diverged run.
        callbacks: `forward` of each is called.

    Attributes:
        ranks: the processes that share the batches; None = one process.
        counts: rows of the batch at hand per process.
        value: the last loss, detached; with several processes each has its share of the sum.
    """

    def __init__(
        self,
        model: MultimodalModel,
        loss: Loss,
        *,
        perturbation: Perturbation | None,
        state: TrainingState | None = None,
        learning_rate: float = math.inf,
        method: TrainingMethod | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.method = TrainingMethod(model, seed=0) if method is None else method
        self.perturbation = perturbation
        self.loss = loss
        self.callbacks = callbacks
        self.state = TrainingState() if state is None else state
        self.learning_rate = learning_rate
        self.ranks: Ranks | None = None
        self.counts: tuple[int, ...] = ()
        self.value = torch.zeros(())

    def forward(
        self,
        inputs: dict[str, Tensor],
        masks: dict[str, Tensor],
        present: dict[str, Tensor],
        targets: Tensor,
        draws: torch.Generator | None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss: the task's over both copies, weighed by the method, the calibrator's and the fusion's.

        Each of several processes returns a loss whose gradients, averaged, are those of the whole batch.

        Args:
            inputs: modality -> (B, ...).
            masks: modality -> bool (B, T).
            present: modality -> bool (B,).
            targets: (B,).
            draws: the source of perturbations.
            weights: of each instance (B,), 1 on average; None = 1.

        Raises:
            ConcordantError: features are not finite; in one process on a CPU, the loss is not.
        """
        ranks = self.ranks
        if ranks is not None:
            ranks.rows = self.counts
        self.model.calibrator.ranks = ranks
        try:
            out = self.model(inputs, masks, present, labels=targets, perturbation=self.perturbation, generator=draws)
        except ConcordantError as error:  # finite inputs, but features that are not
            raise diverged(self.state.step + 1, self.learning_rate, str(error)) from None
        finally:
            self.model.calibrator.ranks = None
        for callback in self.callbacks:
            callback.forward(self.state.step + 1, out, targets)
        share = 1.0 if ranks is None else len(targets) / sum(self.counts)
        if self.perturbation is not None:
            targets = repeat_targets(targets)
            weights = None if weights is None else repeat_targets(weights)
        calibrator: Tensor = out.calibration.auxiliary_loss
        fusion: Tensor = self.model.fusion.auxiliary_loss(targets)
        if ranks is None or not ranks.whole:
            task = self.method.loss(out, targets, self.loss(out.logits, targets, weights))
            loss = task + (calibrator + fusion)
            if ranks is None and loss.device.type == "cpu" and values_are_known() and not loss.isfinite():
                parts = {"the calibrator's loss": calibrator, "the fusion's loss": fusion, "the task's loss": task}
                why = what_is_not_finite(out.logits, out.calibration.perturbed, losses=parts)
                raise diverged(self.state.step + 1, self.learning_rate, why)
            self.value = share * loss.detach()
            return loss if ranks is None else ranks.size * share * loss
        # Every process has the loss of all rows, with gradients for its own; of the fusion's own loss it has its share.
        logits, known = ranks.gather(out.logits, targets)
        loss = self.method.loss(out, targets, self.loss(logits, known)) + calibrator
        self.value = loss.detach() / ranks.size + share * fusion.detach()
        return ranks.size * (loss + share * fusion)
