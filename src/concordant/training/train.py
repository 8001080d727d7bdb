"""Training of one run of `concordant run`, in one process, or on Lightning Fabric in several.

Several processes share each batch, and each has the loss and the gradients of the whole batch. Checkpoint selection
and early stopping use the validation split alone (validation.py): accuracy (for real labels minus the mean absolute
error) on clean features and, where training perturbs, on perturbed ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from concordant import seeding
from concordant.calibration import Perturbation
from concordant.calibration.distributed import connected
from concordant.data.split import Task
from concordant.training.batches import AnyTensors, Clock, Tensors, endless_rows, open_tensors, rows_of, split_batch
from concordant.training.checkpoint import Checkpoint, RunState
from concordant.training.config import Config, Variant
from concordant.training.devices import Devices, OneDevice
from concordant.training.loop import Callback, TrainingState, fit, one_cycle
from concordant.training.methods import METHODS, TrainingMethod
from concordant.training.model import MultimodalModel, build_model
from concordant.training.selection import CheckpointSelector
from concordant.training.step import LOSSES, TrainingStep
from concordant.training.validation import validation_score

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def _fixed(model: MultimodalModel, split: AnyTensors) -> AnyTensors:
    """Return a split with what is computed without weights, if it is in memory."""
    return model.prepared(split) if isinstance(split, Tensors) else split


@dataclass(frozen=True)
class Trained:
    """A trained run.

    Args:
        model: the selected state, in evaluation mode.
        history: one entry per evaluation: step, mean training loss since the last one, validation score.
        best_step: the step after which the selected state was reached.
        seconds: wall-clock time of training.
        loading_share: how much of it was spent waiting for data, in [0, 1].
    """

    model: MultimodalModel
    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    seconds: float = 0.0
    loading_share: float = 0.0


class _Balancing(Callback):
    """Call a training method."""

    def __init__(self, method: TrainingMethod, steps: int) -> None:
        self._method, self._steps = method, steps

    def start(self, model: Any, train: AnyTensors, valid: AnyTensors) -> None:  # noqa: ANN401
        self._train, self._valid = train, valid

    def before_update(self, step: int) -> None:
        self._method.modulate(step / self._steps)

    def evaluated(self, step: int, entry: dict[str, float]) -> None:
        self._method.observe(self._train, self._valid)


class _Reached(Callback):
    """Pass on every step."""

    def __init__(self, progress: Callable[[int, int], None], steps: int) -> None:
        self._progress, self._steps = progress, steps

    def after_step(self, step: int) -> None:
        self._progress(step, self._steps)


def train(
    task: Task,
    config: Config,
    variant: Variant,
    seed: int,
    *,
    fabric: Fabric | OneDevice | None = None,
    devices: Devices | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
    observer: Callback | None = None,
) -> Trained:
    """Train one run.

    Args:
        task: one split of the benchmark.
        config: the experiment.
        variant: the calibrator, and whether training perturbs.
        seed: of weights, batches and perturbations.
        fabric: where to train; None = as `devices` says.
        devices: how batches are shared by the processes of `fabric`; None = one device.
        checkpoint: file and frequency of checkpoints, from which an interrupted run is resumed; None = none.
        progress: called with the step and the number of steps after every step.
        observer: records the training without changing it; None = none.

    Raises:
        ConcordantError: features or loss are no longer finite.
        DataError: the checkpoint cannot be read.
        UsageError: as for `Devices.check`.
    """
    start = time.perf_counter()
    recipe = config.of(variant).recipe.on_rows(len(task.train))
    perturbation = Perturbation() if variant.perturbed else None
    devices = Devices() if devices is None else devices
    fabric = fabric if fabric is not None else devices.connect()
    size = min(recipe.batch, len(task.train))
    devices.check(size, method=config.method, observed=observer is not None)
    model = build_model(task, config, variant, seed)
    method = METHODS[config.method](model, seed=seed)
    state, callbacks = TrainingState(), [] if observer is None else [observer]
    inner = TrainingStep(
        model.train(),
        LOSSES[task.kind],
        perturbation=perturbation,
        state=state,
        learning_rate=recipe.learning_rate,
        method=method,
        callbacks=tuple(callbacks),
    )
    training_step = fabric.setup(inner)
    # Only now: a strategy may have put other parameters in place of the model's.
    plain, schedule = one_cycle(
        [*model.parameters(), *method.parameters()],
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        steps=recipe.steps,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
    )
    optimizer = fabric.setup_optimizers(plain)
    data, valid = (_fixed(model, open_tensors(split).to(fabric.device)) for split in (task.train, task.valid))
    rank = fabric.global_rank
    chunks = split_batch(size, chunks=devices.accumulate, rank=rank, size=fabric.world_size)
    own = ("perturbations",) if rank == 0 or devices.across == "gather" else ("perturbations", rank)
    draws = seeding.generator(seed, *own, device=fabric.device)
    selector, clock = CheckpointSelector(recipe.patience), Clock()
    dropout = seeding.Stream(seed, "dropout", *(() if rank == 0 else (rank,)), device=fabric.device)
    run = RunState(
        checkpoint, state, model, method, plain, schedule, draws, dropout, fabric, selector, recipe.steps, start
    )
    with seeding.in_order(fabric.device), connected(fabric.world_size, whole=devices.across == "gather") as ranks:
        inner.ranks = method.ranks = run.ranks = ranks
        run.resume()
        order = islice(endless_rows(len(data), recipe.batch, seeding.generator(seed, "batches")), state.step, None)
        batches = data.batches(rows_of(order, chunks), clock)

        def step(batch: Iterator[Tensors]) -> Tensor:
            losses = []
            for number, (chunk, part) in enumerate(zip(chunks, batch, strict=True), 1):
                inner.counts = chunk.counts
                # Gradients stay in each process while more chunks of the batch are to come.
                more = number < len(chunks)
                quiet = fabric.no_backward_sync(training_step, enabled=more) if fabric.world_size > 1 else nullcontext()
                with quiet:
                    loss = training_step(part.inputs, part.masks, part.present, part.labels, draws)
                    fabric.backward(loss * chunk.weight)
                losses.append(inner.value * chunk.weight)
            return torch.stack(losses).sum()

        def evaluate() -> tuple[float, float]:
            if ranks is not None:  # batch normalisation has averages of its own in every process
                ranks.copy_first(*model.buffers())
            score, error = validation_score(model, valid, perturbation, seed, kind=task.kind, ranks=ranks, clock=clock)
            return score, error if recipe.selection == "one-error" else 0.0

        callbacks.insert(0, _Balancing(method, recipe.steps))
        if progress is not None:
            callbacks.append(_Reached(progress, recipe.steps))
        callbacks.append(run)
        for callback in callbacks:
            callback.start(model, data, valid)
        fit(
            model,
            step,
            iter(lambda: islice(batches, len(chunks)), None),
            optimizer,
            schedule,
            steps=recipe.steps,
            evaluations=recipe.evaluations,
            evaluate=evaluate,
            selector=selector,
            state=state,
            callbacks=callbacks,
            stream=dropout,
            reduce=float if ranks is None else lambda total: ranks.total(total)[0],
        )
        batches.close()
    inner.ranks = method.ranks = None
    if devices.sharded:
        model = build_model(task, config, variant, seed)
    selector.restore(model)
    end = time.perf_counter()
    return Trained(model, state.history, selector.step, end - run.began, clock.seconds / (end - start))
