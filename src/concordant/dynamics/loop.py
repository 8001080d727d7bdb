"""Training dynamics of any PyTorch training loop: the numbers of `concordant run --dynamics`, from your own loop.

Nothing is traced or patched: the loop wraps its backward pass and update in the recorder's `step`.
Shapes: features (B, ...); reliability (B, M); gates (B, D).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from concordant.dynamics.gradients import gradient_cosines
from concordant.dynamics.recorder import (
    DEFAULT_EVERY,
    Record,
    Records,
    check_every,
    modulation,
    trainable,
    update_ratios,
)
from concordant.errors import UsageError


class LoopRecorder(Records):
    """Record gradients, conflict, updates, reliability and losses of a training loop of your own.

    Args:
        parts: name -> component whose update-to-weight ratio is recorded; those without parameters are left out.
        every: steps from one recorded step to the next; the loss is kept at every step.

    Attributes:
        records: all numbers so far.

    Raises:
        UsageError: `every` is below 1.

    >>> import torch
    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
    >>> recorder = LoopRecorder({"model": model}, every=1)
    >>> for _ in range(3):
    ...     features = {"sensor": torch.ones(4, 2).requires_grad_() * 1}
    ...     loss = model(features["sensor"]).square().mean()
    ...     with recorder.step(loss, features=features):
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    >>> [(one["quantity"], one["of"], one["step"]) for one in recorder.series()]
    [('loss', '', [1, 2, 3]), ('gradient_norm', 'sensor', [1, 2, 3]), ('update_ratio', 'model', [1, 2, 3])]
    """

    def __init__(self, parts: Mapping[str, nn.Module], *, every: int = DEFAULT_EVERY) -> None:
        super().__init__()
        check_every(every)
        self.parts = trainable(parts)
        self.every = every
        self._step = 0

    @contextmanager
    def step(
        self,
        loss: Tensor,
        *,
        task_loss: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        losses: Mapping[str, Tensor] | None = None,
        shared: Sequence[Tensor] | None = None,
        calibration: Any = None,  # noqa: ANN401 - a Calibration, or an object with its fields
    ) -> Iterator[None]:
        """Record one step; the block does the backward pass and the optimiser's update.

        Args:
            loss: of the step, a scalar.
            task_loss: the part of it that models have in common, without auxiliary losses; a scalar.
            features: modality -> a tensor of this step's graph, at which the gradient's norm is recorded.
            losses: modality -> the loss with that modality alone, for the conflict of their gradients.
            shared: the parameters on which the gradients are compared; needed with `losses`.
            calibration: the output of a calibrator, for the quantiles of reliability and gates.

        Raises:
            UsageError: `losses` without `shared`, or a loss that is not a scalar.
        """
        given = {"loss": loss} if task_loss is None else {"loss": loss, "task_loss": task_loss}
        for name, value in given.items():
            if value.numel() != 1:
                raise UsageError(f"{name} must be a scalar; found the shape {tuple(value.shape)}")
        if losses is not None and shared is None:
            raise UsageError("losses need shared: the parameters on which the modalities' gradients are compared")
        self._step += 1
        for name, value in given.items():
            self._keep(name, "", float(value.detach()))
        if (self._step - 1) % self.every:
            yield
            return
        watched = {name: x for name, x in (features or {}).items() if x.requires_grad}
        for x in watched.values():
            x.retain_grad()
        if losses is not None and shared is not None:
            for (one, other), cosine in gradient_cosines(losses, shared).items():
                self._keep("conflict", f"{one}|{other}", cosine)
        if calibration is not None:
            self._record(modulation(calibration))
        before = {name: [p.detach().clone() for p in own] for name, own in self.parts.items()}
        yield
        for name in features or {}:
            gradient = watched[name].grad if name in watched else None
            self._keep("gradient_norm", name, None if gradient is None else float(gradient.float().norm()))
        self._record(update_ratios(before, self.parts))

    def evaluated(
        self,
        *,
        validation_loss: float | None = None,
        validation_score: float | None = None,
        probes: Mapping[str, float | None] | None = None,
    ) -> None:
        """Record an evaluation after the last step.

        Args:
            validation_loss: of the task.
            validation_score: higher is better.
            probes: modality -> accuracy of a linear probe on its features
                (`concordant.visualisation.projection.probe` computes one).
        """
        for quantity, value in (("validation_loss", validation_loss), ("validation_score", validation_score)):
            if value is not None:
                self._keep(quantity, "", value)
        for name, value in (probes or {}).items():
            self._keep("probe", name, value)

    def _record(self, values: Mapping[tuple[str, str], Tensor]) -> None:
        for (quantity, of), value in values.items():
            self._keep(quantity, of, float(value))

    def _keep(self, quantity: str, of: str, value: float | None) -> None:
        self.records.append(Record(self._step, quantity, of, math.nan if value is None else value))
