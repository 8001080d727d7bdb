"""Training of one run, on Lightning Fabric: one loop, the same for every calibrator.

The encoders run once a batch; the features go on twice, untouched and perturbed, and the loss is the mean
over both. Where several processes share the batches, each has the loss and the gradients of the whole batch.
Which state is kept, and when to stop, is read off the validation part alone (validation.py): its accuracy (of
real labels, the mean absolute error) untouched and, where training perturbs, perturbed as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from concordant import seeding
from concordant.calibration import Perturbation, repeat_targets
from concordant.calibration.ranks import Ranks, connected
from concordant.data.split import LabelKind, Task
from concordant.errors import ConcordantError, UsageError
from concordant.training.batches import endless_rows, open_tensors, rows_of, split_batch
from concordant.training.checkpoint import Checkpoint
from concordant.training.config import Config, Recipe, Variant
from concordant.training.devices import Devices
from concordant.training.methods import METHODS, TrainingMethod
from concordant.training.model import MultimodalModel, Output, build_model
from concordant.training.prefetch import Clock
from concordant.training.selection import Best
from concordant.training.state import RunState
from concordant.training.validation import VALIDATION_COPIES, validation_score

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from concordant.training.callbacks import Observer

__all__ = ["LOSSES", "VALIDATION_COPIES", "Trained", "absolute_error", "train", "validation_score"]


@dataclass(frozen=True)
class Trained:
    """A trained run.

    Args:
        model: the state that validation chose, in evaluation mode.
        history: one entry an evaluation: step, mean training loss since the last one, validation score.
        best_step: the step after which the kept state was reached.
        seconds: wall-clock time of training.
        loading_share: how much of it was spent waiting for data, in [0, 1].
    """

    model: MultimodalModel
    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    seconds: float = 0.0
    loading_share: float = 0.0


def train(
    task: Task,
    config: Config,
    variant: Variant,
    seed: int,
    *,
    fabric: Fabric | None = None,
    devices: Devices | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
    observer: Observer | None = None,
) -> Trained:
    """Train one run.

    Args:
        task: one split of the benchmark.
        config: the experiment.
        variant: the calibrator, and whether training perturbs.
        seed: of weights, batches and perturbations.
        fabric: where to train; None = as `devices` says.
        devices: how batches are shared by the processes of `fabric`; None = one device, chosen by Fabric.
        checkpoint: where the state of a run that was stopped lies, and how often one is written; None = nowhere.
        progress: called with the step and the number of steps at every evaluation.
        observer: looks on, and changes nothing; None = nobody.

    Raises:
        ConcordantError: features or loss are no longer finite.
        DataError: the checkpoint cannot be read.
        UsageError: there are fewer instances than processes and parts share a batch, or a run of several is observed.
    """
    start = time.perf_counter()
    recipe, settings = config.of(variant).recipe, Perturbation() if variant.perturbed else None
    devices = Devices() if devices is None else devices
    fabric = fabric if fabric is not None else devices.fabric()
    size = min(recipe.batch, len(task.train))
    _check(size, fabric, devices, config, observed=observer is not None)
    model = build_model(task, config, variant, seed)
    method = METHODS[config.method].build(model, seed=seed)
    inner = _TrainingStep(model.train(), method, settings, LOSSES[task.kind])
    training_step = fabric.setup(inner)
    # Only now: a strategy may have put other parameters in place of the model's.
    parameters = [*model.parameters(), *method.parameters()]
    plain = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(plain, recipe.learning_rate, total_steps=recipe.steps)
    optimizer = fabric.setup_optimizers(plain)
    data, valid = open_tensors(task.train).to(fabric.device), open_tensors(task.valid).to(fabric.device)
    rank = fabric.global_rank
    pieces = split_batch(size, parts=devices.accumulate, rank=rank, size=fabric.world_size)
    own = ("perturbations",) if rank == 0 or devices.across == "gather" else ("perturbations", rank)
    state = RunState(
        model, method, plain, schedule, seeding.generator(seed, *own, device=fabric.device), fabric, Best(model)
    )
    clock = Clock()
    dropout = seeding.stream(seed, "dropout", *(() if rank == 0 else (rank,)), device=fabric.device)
    with dropout, connected(fabric.world_size, whole=devices.across == "gather") as ranks:
        inner.ranks = method.ranks = ranks
        state.resume(checkpoint, ranks)
        order = islice(endless_rows(len(data), recipe.batch, seeding.generator(seed, "batches")), state.step, None)
        batches = data.batches(rows_of(order, pieces), clock)
        for step in range(state.step + 1, recipe.steps + 1):
            if state.best.stale >= recipe.patience:
                break
            watching = observer if observer is not None and observer.wants(step) else None
            inner.watching = watching
            optimizer.zero_grad()
            losses = []
            for number, piece in enumerate(pieces, 1):
                batch, inner.counts = next(batches), piece.counts
                with _unsynchronised(fabric, training_step, number < len(pieces)):
                    try:
                        loss = training_step(batch.inputs, batch.masks, batch.present, batch.labels, state.draws)
                    except ConcordantError as error:  # finite inputs, but features that are not
                        raise ConcordantError(
                            f"training diverged at step {step}; choose a lower learning_rate ({error})"
                        ) from None
                    fabric.backward(loss * piece.weight)
                losses.append(inner.value * piece.weight)
            method.modulate(step / recipe.steps)
            if watching is not None and inner.seen is not None:
                watching.before_step(step, inner.seen, model)
                inner.seen = None  # it holds the step's graph
            optimizer.step()
            schedule.step()
            state.took(step, torch.stack(losses).sum())
            if watching is not None:
                watching.after_step(step, model)
            if observer is not None:
                observer.loss(step, losses[0])
            if step in _evaluation_steps(recipe):
                mean = state.mean_loss(ranks)
                if not math.isfinite(mean):
                    raise ConcordantError(
                        f"training diverged at step {step}; choose a lower learning_rate (the loss is {mean})"
                    )
                if ranks is not None:  # batch normalisation has averages of its own in every process
                    ranks.copy_first(*model.buffers())
                score, spread = validation_score(
                    model.eval(), valid, settings, seed, kind=task.kind, ranks=ranks, clock=clock
                )
                method.observe(data, valid)
                if observer is not None:
                    observer.evaluated(step, model, score, data, valid)
                model.train()
                state.evaluated(mean, score, spread)
                if progress is not None:
                    progress(step, recipe.steps)
            if checkpoint is not None and checkpoint.due(step) and step < recipe.steps:
                state.save(checkpoint, ranks, time.perf_counter() - start)
        batches.close()
    inner.ranks = method.ranks = None
    if devices.sharded:
        model = build_model(task, config, variant, seed)
    model.load_state_dict(state.best.state)
    spent = time.perf_counter() - start
    return Trained(model.eval(), state.history, state.best.step, state.seconds + spent, clock.seconds / spent)


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error of (R, 1) outputs: the loss of sentiment regression in the MMSA benchmark."""
    return F.l1_loss(outputs[:, 0], targets)


Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[LabelKind, Loss] = {"class": F.cross_entropy, "real": absolute_error}


class _TrainingStep(torch.nn.Module):
    """From a batch to its loss: what Fabric wraps, which passes on tensors but no frozen dataclasses."""

    def __init__(
        self, model: MultimodalModel, method: TrainingMethod, settings: Perturbation | None, loss: Loss
    ) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.settings = settings
        self.loss = loss
        self.watching: Observer | None = None
        self.seen: Output | None = None
        self.ranks: Ranks | None = None
        self.counts: tuple[int, ...] = ()  # rows of the batch at hand, a process each
        self.value = torch.zeros(())  # of the last loss; of several processes each has a part of the sum

    def forward(
        self,
        inputs: dict[str, Tensor],
        masks: dict[str, Tensor],
        present: dict[str, Tensor],
        labels: Tensor,
        draws: torch.Generator,
    ) -> Tensor:
        """Return the loss: the task's, over both copies, as the method weighs it; the calibrator's; the fusion's.

        Of several processes each returns what gives the gradients of the whole batch when they are averaged.
        """
        ranks = self.ranks
        if ranks is not None:
            ranks.rows = self.counts
        self.model.calibrator.ranks = ranks
        try:
            out = self.model(inputs, masks, present, labels=labels, perturbation=self.settings, generator=draws)
        finally:
            self.model.calibrator.ranks = None
        if self.watching is not None:
            self.watching.prepare(out, labels)
            self.seen = out
        targets = labels if self.settings is None else repeat_targets(labels)
        calibrators: Tensor = out.calibration.auxiliary_loss
        fusions: Tensor = self.model.fusion.auxiliary_loss(targets)
        if ranks is None:
            loss: Tensor = self.method.loss(out, targets, self.loss(out.logits, targets)) + (calibrators + fusions)
            self.value = loss.detach()
            return loss
        share = len(labels) / sum(self.counts)
        if not ranks.whole:
            loss = share * (self.method.loss(out, targets, self.loss(out.logits, targets)) + (calibrators + fusions))
            self.value = loss.detach()
            return ranks.size * loss
        # Every process has the loss of all rows, with gradients for its own, but of a fusion's own loss its share.
        logits, known = ranks.gather(out.logits, targets)
        loss = self.method.loss(out, targets, self.loss(logits, known)) + calibrators
        self.value = loss.detach() / ranks.size + share * fusions.detach()
        return ranks.size * (loss + share * fusions)


def _evaluation_steps(recipe: Recipe) -> set[int]:
    """Return the steps after which validation is scored; the last step is always one."""
    return {round(recipe.steps * k / recipe.evaluations) for k in range(1, recipe.evaluations + 1)} - {0}


def _check(size: int, fabric: Fabric, devices: Devices, config: Config, *, observed: bool) -> None:
    """Refuse what several processes, or several parts of a batch, cannot do."""
    faults = []
    if size < fabric.world_size * devices.accumulate:
        faults.append(
            f"a batch has {size} instances, too few for {fabric.world_size} processes and {devices.accumulate} parts"
        )
    if observed and (fabric.world_size > 1 or devices.accumulate > 1):
        faults.append("training is observed in one process that takes each batch as a whole: devices=1, accumulate=1")
    if devices.sharded and config.method != "none":
        faults.append(f"method {config.method} looks at gradients and features that fsdp keeps in pieces; use ddp")
    if faults:
        raise UsageError("; ".join(faults))


def _unsynchronised(fabric: Fabric, step: Any, more: bool) -> AbstractContextManager[None]:  # noqa: ANN401
    """Keep gradients to each process while more parts of the batch are to come; one process has nobody to ask."""
    if fabric.world_size == 1:
        return nullcontext()
    found: AbstractContextManager[None] = fabric.no_backward_sync(step, enabled=more)
    return found
