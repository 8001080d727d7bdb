"""The training loop of `concordant run`, of the estimators and of `fit_plugin`; needs PyTorch alone.

What differs between them is handed in: the step (forward and backward pass of one batch), the batches, the
evaluation, and callbacks (progress, dynamics, checkpoints, training methods).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from concordant.errors import ConcordantError
from concordant.training.selection import CheckpointSelector, snapshot

Batch = TypeVar("Batch")
EVALUATIONS = 10  # evenly spaced; the default of recipes, estimators and `fit_plugin`


class Callback:
    """Base of what is called during training; each hook does nothing unless it is overridden.

    A callback that only observes must leave no trace: it draws from no shared generator and changes no gradient,
    weight, running statistic or mode. The trained weights are then equal bit for bit with it and without.
    """

    def start(self, model: nn.Module, train: Any, valid: Any) -> None:  # noqa: ANN401
        """Take the model and the data of training and validation, before the first step."""

    def forward(self, step: int, out: Any, labels: Tensor) -> None:  # noqa: ANN401
        """Take the output of a forward pass and its labels (B,), before the backward pass.

        With perturbed copies the output has 2B rows, the first B clean.
        """

    def before_update(self, step: int) -> None:
        """Take the gradients, before the optimiser uses them."""

    def after_update(self, step: int, loss: Tensor) -> None:
        """Take the updated weights and the loss, a detached scalar that may still be queued on an accelerator."""

    def evaluated(self, step: int, entry: dict[str, float]) -> None:
        """Take an entry of the history; the model is in evaluation mode."""

    def after_step(self, step: int) -> None:
        """Take the end of a step, after its evaluation if there was one."""


class Report(Callback):
    """Pass each entry of the history on to a function."""

    def __init__(self, call: Callable[[dict[str, float]], None]) -> None:
        self._call = call

    def evaluated(self, step: int, entry: dict[str, float]) -> None:
        """Call the function."""
        self._call(entry)


@dataclass
class TrainingState:
    """Where training stands between two steps.

    Args:
        step: steps done; they count from 1.
        total: sum of the losses since the last evaluation.
        count: number of these losses.
        history: one entry per evaluation: "step", "loss" (mean since the last evaluation) and, where there is a
            validation split, "validation" (its score).
    """

    step: int = 0
    total: float | Tensor = 0.0
    count: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    model: nn.Module,
    step: Callable[[Batch], Tensor],
    batches: Iterator[Batch],
    optimizer: Any,  # noqa: ANN401 - of PyTorch, or as Fabric wraps it
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    *,
    steps: int,
    evaluations: int = EVALUATIONS,
    evaluate: Callable[[], tuple[float, float]] | None = None,
    selector: CheckpointSelector | None = None,
    state: TrainingState | None = None,
    callbacks: Sequence[Callback] = (),
    stream: AbstractContextManager[object] | None = None,
    reduce: Callable[[float | Tensor], float] = float,
) -> TrainingState:
    """Train a model in place; its mode at the end is training.

    Args:
        model: its mode is switched; parameters are those of the optimiser.
        step: runs the forward and the backward pass of a batch; returns the detached loss, a scalar.
        batches: read once per step and never ahead.
        optimizer: zeroed before each step.
        schedule: advanced after each step; None = a constant learning rate.
        steps: number of steps in all, those of `state` included.
        evaluations: how often the mean loss is recorded and `evaluate` is called; the last step is always one.
        evaluate: returns a score (higher is better) and its standard error; None = no validation.
        selector: keeps a state and stops training early; None = neither.
        state: of an interrupted run; None = the start.
        callbacks: called in this order.
        stream: entered for the batch and the passes of each step, whose random numbers it provides; None = PyTorch's
            global generators.
        reduce: sums a loss over processes.

    Raises:
        ConcordantError: the loss is not finite.
    """
    selector = CheckpointSelector() if selector is None else selector
    state = TrainingState() if state is None else state
    stream = nullcontext() if stream is None else stream
    marks = evaluation_steps(steps, evaluations)
    model.train()
    for number in range(state.step + 1, steps + 1):
        if selector.exhausted:
            break
        optimizer.zero_grad()
        with stream:
            loss = step(next(batches))
        # Before the update, which would ruin all weights; a look at an accelerator would wait for it, so only at marks.
        if reduce is float and loss.device.type == "cpu" and not math.isfinite(loss):
            raise diverged(number, _rate(optimizer), f"the loss is {float(loss)}")
        for callback in callbacks:
            callback.before_update(number)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        state.step, state.total, state.count = number, state.total + loss, state.count + 1
        for callback in callbacks:
            callback.after_update(number, loss)
        if number in marks:
            mean = reduce(state.total) / state.count
            if not math.isfinite(mean):
                raise diverged(number, _rate(optimizer), f"the mean loss of the last {state.count} steps is {mean}")
            entry: dict[str, float] = {"step": number, "loss": mean}
            state.total, state.count = 0.0, 0
            model.eval()
            if evaluate is not None:
                score, error = evaluate()
                entry["validation"] = score
                selector.offer(score, error, number, lambda: snapshot(model))
            state.history.append(entry)
            for callback in callbacks:
                callback.evaluated(number, entry)
            model.train()
        for callback in callbacks:
            callback.after_step(number)
    return state


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return the steps after which validation is scored: evenly spaced, the last step always one of them.

    >>> sorted(evaluation_steps(10, 4))
    [2, 5, 8, 10]
    """
    return {round(steps * k / evaluations) for k in range(1, evaluations + 1)} - {0}


def one_cycle(
    parameters: Iterable[Tensor],
    *,
    learning_rate: float,
    weight_decay: float,
    steps: int,
    fused: bool = True,
    optimizer: str = "adamw",
    schedule: str = "one-cycle",
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW with a one-cycle schedule, whose highest learning rate is `learning_rate`.

    Args: as for the fields of `Recipe` of these names, with
        fused: all parameters in one operator.
    """
    kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.Adam
    made = kind(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused or None)
    if schedule == "constant":
        return made, torch.optim.lr_scheduler.ConstantLR(made, factor=1.0)
    return made, torch.optim.lr_scheduler.OneCycleLR(made, learning_rate, total_steps=steps)


def _rate(optimizer: Any) -> float:  # noqa: ANN401 - as in `fit`
    """Return the highest learning rate of an optimiser's schedule."""
    group = optimizer.param_groups[0]
    return float(group.get("max_lr", group["lr"]))


def what_is_not_finite(outputs: Tensor | None, perturbed: Tensor | None = None, *, losses: Mapping[str, Tensor]) -> str:
    """Return the cause of a loss that is not finite, for `diverged`.

    Args:
        outputs: of the model, rows first; None = unknown.
        perturbed: bool (R, M), where features of the same rows were perturbed; None, or other rows = not mentioned.
        losses: name -> part of the loss, in the order in which they are looked at.
    """
    if outputs is not None and outputs.dim() and not outputs.isfinite().all():
        bad = ~outputs.isfinite().reshape(len(outputs), -1).all(1)
        found = f"the model's output is not finite in {int(bad.sum())} of {len(bad)} rows"
        if perturbed is not None and len(perturbed) == len(bad):
            found += f", in {int((bad & perturbed.any(1)).sum())} of them with a perturbed feature"
        return found
    parts = (f"{name} is {float(part.detach())}" for name, part in losses.items() if not part.isfinite())
    return next(parts, "the loss is not finite")


def diverged(step: int, learning_rate: float, why: str) -> ConcordantError:
    """Return the error that ends a diverged run."""
    return ConcordantError(
        f"training diverged at step {step}; choose a lower learning_rate than {learning_rate:g} ({why})"
    )
