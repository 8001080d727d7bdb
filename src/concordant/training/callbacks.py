"""What may look on while a run is trained; training itself knows of nothing more than this.

An observer must leave no trace: it draws from no shared generator, changes no gradient, weight, running statistic or
training mode. The weights are then the same, bit for bit, with it and without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from concordant.training.batches import AnyTensors
    from concordant.training.model import MultimodalModel, Output


class Observer(Protocol):
    """Is told of every step's loss, sees the steps that it wants from the inside, and every evaluation."""

    def loss(self, step: int, loss: Tensor) -> None:
        """Take a step's loss, a detached scalar that may still be on its way on an accelerator."""

    def wants(self, step: int) -> bool:
        """Say whether to see this step from the inside; steps count from 1."""

    def prepare(self, out: Output, labels: Tensor) -> None:
        """Look at a wanted step's forward pass, before the backward one.

        Args:
            out: what the model gave; of 2B rows where training perturbs, the first B untouched.
            labels: (B,).
        """

    def before_step(self, step: int, out: Output, model: MultimodalModel) -> None:
        """Look at the gradients of a wanted step, before the optimiser uses them; `out` as it was prepared."""

    def after_step(self, step: int, model: MultimodalModel) -> None:
        """Look at the weights behind the optimiser's step."""

    def evaluated(self, step: int, model: MultimodalModel, score: float, train: AnyTensors, valid: AnyTensors) -> None:
        """Look at the model at an evaluation, in evaluation mode.

        Args:
            step: the steps done so far.
            model: in evaluation mode.
            score: the validation score by which states are chosen.
            train: the training part.
            valid: the validation part.
        """
