"""What a training method is: it may add to the loss, change gradients, and look at the parts now and then.

Shapes: logits (R, C) and labels (R,), where R is B, or 2B with perturbed copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from concordant.calibration.distributed import Ranks
    from concordant.training.batches import AnyTensors
    from concordant.training.model import MultimodalModel, Output


class TrainingMethod(nn.Module):
    """Train by the task's loss alone; base of those that do more.

    Its own parameters are trained with the model's, and are no part of the model afterwards.

    Args:
        model: what is trained.
        seed: of the run; whatever the method draws comes from it.
    """

    def __init__(self, model: MultimodalModel, *, seed: int) -> None:
        super().__init__()
        self.seed = seed
        #: The processes that share every batch; None = each batch is whole. Training sets it.
        self.ranks: Ranks | None = None
        # In a tuple, so that the model's parameters do not count as the method's.
        self._model = (model,)

    @property
    def model(self) -> MultimodalModel:
        """What is trained."""
        return self._model[0]

    def loss(self, out: Output, labels: Tensor, task_loss: Tensor) -> Tensor:
        """Return the loss of a batch, without the auxiliary ones of calibrator and fusion."""
        return task_loss

    def modulate(self, progress: float) -> None:
        """Change the gradients between the backward pass and the optimiser's step.

        Args:
            progress: the share of the steps that are done, in [0, 1].
        """

    def observe(self, train: AnyTensors, valid: AnyTensors) -> None:
        """Look at the parts, at each evaluation; the model is in evaluation mode."""


def presence_of(out: Output, name: str, rows: int) -> Tensor:
    """Return bool (R,), True where a row has the modality."""
    return out.calibration.present[:rows, out.calibration.names.index(name)]


def mean_over(values: Tensor, rows: Tensor, ranks: Ranks | None = None) -> Tensor:
    """Return the mean of (R,) over the rows that are True, of all processes where there are several; 0 if none is."""
    if ranks is not None:
        values, rows = ranks.gather(values, rows)
    return torch.where(rows, values, 0).sum() / rows.sum().clamp(min=1)
