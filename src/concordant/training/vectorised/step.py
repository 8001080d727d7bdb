"""One training step of all seeds: forward and backward under vmap, recorded once and played at every step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from concordant.calibration import Perturbation, repeat_targets
from concordant.training.batches import Tensors
from concordant.training.model import MultimodalModel
from concordant.training.step import Loss
from concordant.training.vectorised.capture import capture
from concordant.training.vectorised.draws import Draw, Replay, watch
from concordant.training.vectorised.graphed import graphed

Named = Mapping[str, Tensor]
RECORDING = 15  # steps of all seeds, that recording one costs about as much as


class LossOf(nn.Module):
    """From a batch to the loss that a single run trains by.

    Args:
        model: in training mode.
        settings: of the perturbations, or None.
        loss: the task's.
    """

    def __init__(self, model: MultimodalModel, settings: Perturbation | None, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.loss = loss

    def forward(
        self, inputs: Named, masks: Named, present: Named, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the loss, a scalar: the task's over both copies, the calibrator's, the fusion's."""
        out = self.model(inputs, masks, present, labels=labels, perturbation=self.settings, generator=generator)
        targets = labels if self.settings is None else repeat_targets(labels)
        loss = self.loss(out.logits, targets)
        own: Tensor = out.calibration.auxiliary_loss + self.model.fusion.auxiliary_loss(targets)
        return loss + own


class Step:
    """The step of all seeds.

    Args:
        model: of one of them, on the device of the batch; it is copied, and only its structure counts.
        settings: of the perturbations, or None.
        loss: the task's.
        batch: one of any seed, (B, ...).

    Attributes:
        draws: what a step draws, of one seed.
    """

    def __init__(self, model: MultimodalModel, settings: Perturbation | None, loss: Loss, batch: Tensors) -> None:
        self._loss = LossOf(copy.deepcopy(model).train(), settings, loss)
        device = batch.labels.device
        self._generator = torch.Generator(device)  # stands for each seed's; nothing is drawn from it when played
        once = copy.deepcopy(self._loss)
        self.draws: list[Draw] = watch(
            lambda: once(batch.inputs, batch.masks, batch.present, batch.labels, self._generator), device
        )
        self._play: Callable[..., Any] | None = None
        self._used: list[int] = []

    def losses(self, parameters: Named, others: Named, batch: Tensors, made: Sequence[Tensor]) -> Tensor:
        """Return the loss of every seed, (S,), by vmap as it is; running statistics are written to."""

        def one(p: Named, o: Named, inputs: Named, masks: Named, present: Named, y: Tensor, d: Sequence[Tensor]) -> Any:  # noqa: ANN401
            named = {f"model.{name}": value for name, value in (*p.items(), *o.items())}
            with Replay(self.draws, d):
                return functional_call(self._loss, named, (inputs, masks, present, y, self._generator))

        run = torch.vmap(one, randomness="error")
        given = (dict(parameters), dict(others), batch.inputs, batch.masks, batch.present, batch.labels, list(made))
        # Of the kernels of attention vmap can follow the plain one alone.
        with sdpa_kernel(SDPBackend.MATH):
            found: Tensor = run(*given)
        return found

    def __call__(
        self, parameters: Named, others: Named, batch: Tensors, made: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Return the loss of every seed, (S,), and the gradients of all parameters, stacked like them.

        Args:
            parameters: name -> (S, ...).
            others: buffers by name, (S, ...), which are written to.
            batch: of every seed, (S, B, ...).
            made: the step's draws, (S, ...) each.

        Parameters, buffers and draws are the same tensors at every call until `forget`; what is returned is
        overwritten by the next call.
        """
        if self._play is None:
            self._play = self._ready(parameters, dict(others), batch, list(made))
        with torch.inference_mode():  # the least that calling an operator can cost
            loss, found = self._play((batch.inputs, batch.masks, batch.present, batch.labels))
        gradients: list[Tensor | None] = [None] * len(parameters)
        for place, gradient in zip(self._used, found, strict=True):
            gradients[place] = gradient
        return loss, gradients

    def forget(self) -> None:
        """Record anew at the next call, for another number of seeds."""
        self._play = None

    def _ready(self, parameters: Named, others: Named, batch: Tensors, made: Sequence[Tensor]) -> Callable[..., Any]:
        """Record the step; return it as a function of the batch, on a GPU as a CUDA graph."""
        played = self._record(parameters, others, batch, made)

        def play(steady: Any, written: Any, batch: Any) -> Any:  # noqa: ANN401 - nested tensors
            return played(steady[0], written, *batch, steady[1])

        steady = (list(parameters.values()), made)
        if batch.labels.is_cuda:
            return graphed(play, steady, others, (batch.inputs, batch.masks, batch.present, batch.labels))
        return partial(play, steady, others)

    def _record(self, parameters: Named, others: Named, batch: Tensors, made: Sequence[Tensor]) -> Any:  # noqa: ANN401
        names = list(parameters)

        def whole(
            values: list[Tensor], o: Named, inputs: Named, masks: Named, present: Named, y: Tensor, d: Sequence[Tensor]
        ) -> tuple[Tensor, list[Tensor]]:
            p = dict(zip(names, values, strict=True))
            loss = self.losses(p, o, Tensors(dict(inputs), y, dict(masks), dict(present)), d)
            found = torch.autograd.grad(loss.sum(), values, allow_unused=True)
            self._used = [place for place, one in enumerate(found) if one is not None]
            return loss.detach(), [one.contiguous() for one in found if one is not None]

        written = {name: value.clone() for name, value in others.items()}
        values = [value.detach().clone().requires_grad_() for value in parameters.values()]
        return capture(whole, values, written, batch.inputs, batch.masks, batch.present, batch.labels, list(made))
