"""Training of one run, on Lightning Fabric: one loop, the same for every calibrator.

The encoders run once a batch; the features go on twice, untouched and perturbed, and the loss is the mean
over both. Which state is kept, and when to stop, is read off the validation part alone: its accuracy (of real
labels, the mean absolute error) untouched and, where training perturbs, perturbed as well.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from concord import seeding
from concord.calibration import Perturbation, repeat_targets
from concord.data.part import LabelKind, Task
from concord.errors import ConcordError
from concord.experiment.batches import AnyTensors, endless_rows, open_tensors
from concord.experiment.config import Config, Recipe, Variant
from concord.experiment.methods import METHODS, TrainingMethod
from concord.experiment.model import MultimodalModel, Output, build_model

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers import Logger

    from concord.experiment.observing import Observer

VALIDATION_COPIES = 2  # perturbed copies of the validation part: one alone is a noisy judge
_EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Trained:
    """A trained run.

    Args:
        model: the state that validation chose, in evaluation mode.
        history: one entry an evaluation: step, mean training loss since the last one, validation score.
        best_step: the step after which the kept state was reached.
        seconds: wall-clock time of training.
    """

    model: MultimodalModel
    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    seconds: float = 0.0


def train(
    task: Task,
    config: Config,
    variant: Variant,
    seed: int,
    *,
    fabric: Fabric | None = None,
    progress: Callable[[int, int], None] | None = None,
    observer: Observer | None = None,
) -> Trained:
    """Train one run.

    Args:
        task: one split of the benchmark.
        config: the experiment.
        variant: the calibrator, and whether training perturbs.
        seed: of weights, batches and perturbations.
        fabric: where to train; None = one device, chosen by Fabric.
        progress: called with the step and the number of steps at every evaluation.
        observer: looks on, and changes nothing; None = nobody.

    Raises:
        ConcordError: features or loss are no longer finite.
    """
    start = time.perf_counter()
    recipe, settings = config.of(variant).recipe, Perturbation() if variant.perturbed else None
    fabric = fabric if fabric is not None else one_device()
    model = build_model(task, config, variant, seed)
    method = METHODS[config.method].build(model, seed=seed)
    parameters = [*model.parameters(), *method.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    loss_of = LOSSES[task.kind]
    inner = _TrainingStep(model.train(), method, settings, loss_of)
    training_step, optimizer = fabric.setup(inner, optimizer)
    data, valid = open_tensors(task.train).to(fabric.device), open_tensors(task.valid).to(fabric.device)
    order = endless_rows(len(data), recipe.batch, seeding.generator(seed, "batches"))
    draws = seeding.generator(seed, "perturbations", device=fabric.device)
    best = _Best(model)
    total, count, history = torch.zeros((), device=fabric.device), 0, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeding.derive_seed(seed, "dropout"))
        for step in range(1, recipe.steps + 1):
            batch = data.take(next(order).to(fabric.device))
            watching = observer if observer is not None and observer.wants(step) else None
            inner.watching = watching
            try:
                loss = training_step(batch.inputs, batch.masks, batch.present, batch.labels, draws)
            except ConcordError as error:  # finite inputs, but features that are not
                raise ConcordError(
                    f"training diverged at step {step}; choose a lower learning_rate ({error})"
                ) from None
            optimizer.zero_grad()
            fabric.backward(loss)
            method.modulate(step / recipe.steps)
            if watching is not None and inner.seen is not None:
                watching.before_step(step, inner.seen, model)
                inner.seen = None  # it holds the step's graph
            optimizer.step()
            schedule.step()
            if watching is not None:
                watching.after_step(step, model)
            if observer is not None:
                observer.loss(step, loss.detach())
            total, count = total + loss.detach(), count + 1
            if step in _evaluation_steps(recipe):
                mean = float(total) / count
                if not math.isfinite(mean):
                    raise ConcordError(
                        f"training diverged at step {step}; choose a lower learning_rate (the loss is {mean})"
                    )
                score, spread = validation_score(model.eval(), valid, settings, seed, kind=task.kind)
                method.observe(data, valid)
                if observer is not None:
                    observer.evaluated(step, model, score, data, valid)
                model.train()
                history.append({"step": step, "loss": mean, "validation": score})
                total, count = torch.zeros_like(total), 0
                best.offer(score, spread, step)
                if progress is not None:
                    progress(step, recipe.steps)
                if best.stale >= recipe.patience:
                    break
    return Trained(best.restore(), history, best.step, time.perf_counter() - start)


def validation_score(
    model: MultimodalModel,
    valid: AnyTensors,
    settings: Perturbation | None,
    seed: int,
    *,
    kind: LabelKind = "class",
) -> tuple[float, float]:
    """Return the validation score, the higher the better, and its standard error.

    The score is accuracy, in [0, 1], or for real labels minus the mean absolute error: untouched, or the mean of
    untouched and perturbed copies. The perturbations are the same at every call with the same seed.
    """
    draws = seeding.generator(seed, "validation", device=valid.labels.device)
    copies = VALIDATION_COPIES if settings is not None else 1
    sums = {"clean": 0.0, "hurt": 0.0, "squares": 0.0}
    with torch.no_grad():
        for _ in range(copies):
            for batch in valid.chunks(_EVALUATION_BATCH):
                logits = model(batch.inputs, batch.masks, batch.present, perturbation=settings, generator=draws).logits
                labels = batch.labels.repeat(len(logits) // len(batch))
                if kind == "class":
                    values = (logits.argmax(1) == labels).float()
                else:
                    values = -(logits[:, 0].float() - labels).abs()
                sums["clean"] += float(values[: len(batch)].sum())
                sums["hurt"] += float(values[len(batch) :].sum())
                sums["squares"] += float((values**2).sum()) / (len(logits) // len(batch))
    count = copies * len(valid)
    clean, hurt = sums["clean"] / count, sums["hurt"] / count
    score = clean if settings is None else (clean + hurt) / 2
    # Copies of an instance are no further evidence, so the error is that of the instances alone.
    spread = score * (1 - score) if kind == "class" else max(0.0, sums["squares"] / count - score**2)
    return score, math.sqrt(spread / len(valid))


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

    def forward(
        self,
        inputs: dict[str, Tensor],
        masks: dict[str, Tensor],
        present: dict[str, Tensor],
        labels: Tensor,
        draws: torch.Generator,
    ) -> Tensor:
        """Return the loss: the task's, over both copies, as the method weighs it; the calibrator's; the fusion's."""
        out = self.model(inputs, masks, present, labels=labels, perturbation=self.settings, generator=draws)
        if self.watching is not None:
            self.watching.prepare(out, labels)
            self.seen = out
        targets = labels if self.settings is None else repeat_targets(labels)
        loss: Tensor = self.method.loss(out, targets, self.loss(out.logits, targets))
        own: Tensor = out.calibration.auxiliary_loss + self.model.fusion.auxiliary_loss(targets)
        return loss + own


def _evaluation_steps(recipe: Recipe) -> set[int]:
    """Return the steps after which validation is scored; the last step is always one."""
    return {round(recipe.steps * k / recipe.evaluations) for k in range(1, recipe.evaluations + 1)} - {0}


class _Best:
    """Keeps the latest state whose validation score lies within one standard error of the best so far.

    Validation parts are small, so the very best score is often luck; the schedule settles a later state more
    (the one-standard-error rule, Breiman et al., Classification and Regression Trees, 1984).
    """

    def __init__(self, model: MultimodalModel) -> None:
        self.model = model
        self.best, self.error, self.step, self.stale = -math.inf, 0.0, 0, 0
        self.state: dict[str, Tensor] = {}

    def offer(self, score: float, error: float, step: int) -> None:
        if score > self.best:
            self.best, self.error = score, error
        if score >= self.best - self.error:
            self.stale, self.step = 0, step
            self.state = copy.deepcopy(self.model.state_dict())
        else:
            self.stale += 1

    def restore(self) -> MultimodalModel:
        self.model.load_state_dict(self.state)
        return self.model.eval()


def one_device(*loggers: Logger) -> Fabric:
    """Return a Fabric on one device, with loggers if any; it says nothing on the terminal."""
    import logging

    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(accelerator="auto", devices=1, loggers=list(loggers))
