"""Training of one run, on Lightning Fabric: one loop, the same for every calibrator.

The encoders run once a batch; the features go on twice, untouched and perturbed, and the loss is the mean
over both. Which state is kept, and when to stop, is read off the validation part alone: its accuracy
untouched and, where training perturbs, perturbed as well.
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
from concord.data.part import Task
from concord.errors import ConcordError
from concord.experiment.batches import Tensors, endless_rows, to_tensors
from concord.experiment.config import Config, Recipe, Variant
from concord.experiment.methods import METHODS, TrainingMethod
from concord.experiment.model import MultimodalModel, build_model

if TYPE_CHECKING:
    from lightning_fabric import Fabric

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
) -> Trained:
    """Train one run.

    Args:
        task: one split of the benchmark.
        config: the experiment.
        variant: the calibrator, and whether training perturbs.
        seed: of weights, batches and perturbations.
        fabric: where to train; None = one device, chosen by Fabric.
        progress: called with the step and the number of steps at every evaluation.

    Raises:
        ConcordError: features or loss are no longer finite.
    """
    start = time.perf_counter()
    recipe, settings = config.recipe, Perturbation() if variant.perturbed else None
    fabric = fabric if fabric is not None else _one_device()
    model = build_model(task, config, variant, seed)
    method = METHODS[config.method].build(model, seed=seed)
    parameters = [*model.parameters(), *method.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    training_step, optimizer = fabric.setup(_TrainingStep(model.train(), method, settings), optimizer)
    data, valid = to_tensors(task.train).to(fabric.device), to_tensors(task.valid).to(fabric.device)
    order = endless_rows(len(data), recipe.batch, seeding.generator(seed, "batches"))
    draws = seeding.generator(seed, "perturbations", device=fabric.device)
    best = _Best(model, len(valid))
    total, count, history = torch.zeros((), device=fabric.device), 0, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeding.derive_seed(seed, "dropout"))
        for step in range(1, recipe.steps + 1):
            batch = data.take(next(order).to(fabric.device))
            try:
                loss = training_step(batch.inputs, batch.masks, batch.present, batch.labels, draws)
            except ConcordError as error:  # finite inputs, but features that are not
                raise ConcordError(
                    f"training diverged at step {step}; choose a lower learning_rate ({error})"
                ) from None
            optimizer.zero_grad()
            fabric.backward(loss)
            method.modulate(step / recipe.steps)
            optimizer.step()
            schedule.step()
            total, count = total + loss.detach(), count + 1
            if step in _evaluation_steps(recipe):
                mean = float(total) / count
                if not math.isfinite(mean):
                    raise ConcordError(
                        f"training diverged at step {step}; choose a lower learning_rate (the loss is {mean})"
                    )
                score = validation_score(model.eval(), valid, settings, seed)
                method.observe(data, valid)
                model.train()
                history.append({"step": step, "loss": mean, "validation": score})
                total, count = torch.zeros_like(total), 0
                best.offer(score, step)
                if progress is not None:
                    progress(step, recipe.steps)
                if best.stale >= recipe.patience:
                    break
    return Trained(best.restore(), history, best.step, time.perf_counter() - start)


def validation_score(model: MultimodalModel, valid: Tensors, settings: Perturbation | None, seed: int) -> float:
    """Return validation accuracy, in [0, 1]: untouched, or the mean of untouched and perturbed copies.

    The perturbations are the same at every call with the same seed, whatever the model.
    """
    draws = seeding.generator(seed, "validation", device=valid.labels.device)
    clean = hurt = 0.0
    copies = VALIDATION_COPIES if settings is not None else 1
    with torch.no_grad():
        for _ in range(copies):
            for batch in valid.chunks(_EVALUATION_BATCH):
                logits = model(batch.inputs, batch.masks, batch.present, perturbation=settings, generator=draws).logits
                right = (logits.argmax(1) == batch.labels.repeat(len(logits) // len(batch))).float()
                clean += float(right[: len(batch)].sum())
                hurt += float(right[len(batch) :].sum())
    clean, hurt = clean / (copies * len(valid)), hurt / (copies * len(valid))
    return clean if settings is None else (clean + hurt) / 2


class _TrainingStep(torch.nn.Module):
    """From a batch to its loss: what Fabric wraps, which passes on tensors but no frozen dataclasses."""

    def __init__(self, model: MultimodalModel, method: TrainingMethod, settings: Perturbation | None) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.settings = settings

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
        targets = labels if self.settings is None else repeat_targets(labels)
        loss: Tensor = self.method.loss(out, targets, F.cross_entropy(out.logits, targets))
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

    def __init__(self, model: MultimodalModel, instances: int) -> None:
        self.model, self.instances = model, instances
        self.best, self.step, self.stale = -1.0, 0, 0
        self.state: dict[str, Tensor] = {}

    def offer(self, score: float, step: int) -> None:
        self.best = max(self.best, score)
        if score >= self.best - math.sqrt(self.best * (1 - self.best) / self.instances):
            self.stale, self.step = 0, step
            self.state = copy.deepcopy(self.model.state_dict())
        else:
            self.stale += 1

    def restore(self) -> MultimodalModel:
        self.model.load_state_dict(self.state)
        return self.model.eval()


def _one_device() -> Fabric:
    """Return a Fabric on one device; it says nothing on the terminal."""
    import logging

    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(accelerator="auto", devices=1)
