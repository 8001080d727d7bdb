"""Training of many seeds of one variant in one vectorised pass: to each seed what a single run gives it, but rounding.

Weights, order of batches, perturbations, dropout masks, validation, the best state and the early stop are each
seed's own; the step of the learning-rate schedule is the same for all. Seeds that have stopped stay in the pass until
leaving them out saves more than recording the step anew costs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from concord import seeding
from concord.calibration import Perturbation
from concord.data.part import Part, Task
from concord.errors import ConcordError
from concord.experiment.batches import to_tensors
from concord.experiment.config import Config, Variant
from concord.experiment.model import MultimodalModel, build_model
from concord.experiment.training import LOSSES, Trained, _evaluation_steps, validation_score
from concord.experiment.vectorised.bank import Bank
from concord.experiment.vectorised.draws import Draws
from concord.experiment.vectorised.kept import Kept
from concord.experiment.vectorised.stack import Stack
from concord.experiment.vectorised.step import RECORDING, Step


@dataclass
class _Run:
    """What is one seed's own."""

    seed: int
    model: MultimodalModel
    task: Task
    best: Kept = field(default_factory=Kept)
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False
    diverged: bool = False


def train_together(
    tasks: Sequence[Task],
    config: Config,
    variant: Variant,
    seeds: Sequence[int],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, Trained]:
    """Train all seeds of a variant at once.

    Args:
        tasks: the split of each seed, in memory; batches of all seeds have one shape.
        config: the experiment, without a training method of its own.
        variant: the calibrator, and whether training perturbs.
        seeds: one a task.
        progress: called with the step and the number of steps at every evaluation.

    Returns:
        seed -> its trained run; `seconds` is the pass's share. A seed whose training diverged is left out: a single
        run of it says where.

    Raises:
        ConcordError: the pass cannot be made, and says why.
    """
    start = time.perf_counter()
    recipe, settings = config.recipe, Perturbation() if variant.perturbed else None
    runs = [_start(task, config, variant, seed) for task, seed in zip(tasks, seeds, strict=True)]
    parts = [to_tensors(_in_memory(task)) for task in tasks]
    size = min(recipe.batch, len(parts[0]))
    step_of = Step(runs[0].model, settings, LOSSES[tasks[0].kind], parts[0].take(slice(size)))
    stack = Stack(
        [run.model for run in runs],
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        steps=recipe.steps,
    )
    draws = Draws(
        step_of.draws,
        [seeding.generator(seed, "dropout") for seed in seeds],
        [seeding.generator(seed, "perturbations") for seed in seeds],
    )
    bank = Bank(parts, seeds, recipe.batch)
    inside = list(runs)
    total, count = torch.zeros(len(runs)), 0
    for step in range(1, recipe.steps + 1):
        losses, gradients = step_of(stack.parameters, stack.others, bank.next(), draws.next())
        stack.step(gradients)
        total, count = total + losses, count + 1
        if step not in _evaluation_steps(recipe):
            continue
        for place, run in enumerate(inside):
            if not run.stopped:
                stack.put(place, run.model)
                _evaluate(run, step, float(total[place]) / count, settings, recipe.patience)
        total, count = torch.zeros(len(inside)), 0
        if progress is not None:
            progress(step, recipe.steps)
        left = [place for place, run in enumerate(inside) if not run.stopped]
        if not left:
            break
        if (len(inside) - len(left)) * (recipe.steps - step) > RECORDING * len(inside):
            inside = [inside[place] for place in left]
            total = total[: len(inside)]
            for held in (stack, draws, bank):
                held.keep(left)
            step_of.forget()
    seconds = (time.perf_counter() - start) / len(runs)
    return {run.seed: _finished(run, seconds) for run in runs if not run.diverged}


def _start(task: Task, config: Config, variant: Variant, seed: int) -> _Run:
    return _Run(seed, build_model(task, config, variant, seed), task)


def _copied(model: MultimodalModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _finished(run: _Run, seconds: float) -> Trained:
    run.model.load_state_dict(run.best.state)
    return Trained(run.model.eval(), run.history, run.best.step, seconds)


def _in_memory(task: Task) -> Part:
    if not isinstance(task.train, Part):
        raise ConcordError("a vectorised pass needs its training parts in memory")
    return task.train


def _evaluate(run: _Run, step: int, mean: float, settings: Perturbation | None, patience: int) -> None:
    """Score one seed on its validation part, as a single run does."""
    run.diverged = not math.isfinite(mean)
    if not run.diverged:
        if not isinstance(run.task.valid, Part):
            raise ConcordError("a vectorised pass needs its validation parts in memory")
        try:
            score, spread = validation_score(
                run.model.eval(), to_tensors(run.task.valid), settings, run.seed, kind=run.task.kind
            )
        except ConcordError:  # features that are not finite
            run.diverged = True
        else:
            run.history.append({"step": step, "loss": mean, "validation": score})
            run.best.offer(score, spread, step, lambda: _copied(run.model))
    run.stopped = run.diverged or run.best.stale >= patience
