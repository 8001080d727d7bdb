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

from concordant import seeding
from concordant.calibration import Perturbation
from concordant.data.split import AnySplit, LabelKind, Split, Task
from concordant.errors import ConcordantError
from concordant.training.batches import Tensors, to_tensors
from concordant.training.config import Config, Variant
from concordant.training.loop import evaluation_steps
from concordant.training.model import MultimodalModel, build_model
from concordant.training.selection import CheckpointSelector, snapshot
from concordant.training.step import LOSSES
from concordant.training.train import Trained
from concordant.training.validation import validation_score
from concordant.training.vectorised.bank import Bank
from concordant.training.vectorised.draws import Draws
from concordant.training.vectorised.stack import Stack
from concordant.training.vectorised.step import RECORDING, Step


@dataclass
class _Run:
    """What is one seed's own."""

    seed: int
    model: MultimodalModel
    valid: Tensors
    kind: LabelKind
    best: CheckpointSelector
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False
    diverged: bool = False


def train_together(
    tasks: Sequence[Task],
    config: Config,
    variant: Variant,
    seeds: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, Trained]:
    """Train all seeds of a variant at once.

    Args:
        tasks: the split of each seed, in memory; batches of all seeds have one shape.
        config: the experiment, without a training method of its own.
        variant: the calibrator, and whether training perturbs.
        seeds: one a task.
        device: where, "cpu" or "cuda"; the models stay there.
        progress: called with the step and the number of steps at every evaluation.

    Returns:
        seed -> its trained run; `seconds` is the pass's share. A seed whose training diverged is left out: a single
        run of it says where.

    Raises:
        ConcordantError: the pass cannot be made, and says why.
    """
    with seeding.in_order(device):
        return _train(tasks, config, variant, seeds, torch.device(device), progress)


def _train(
    tasks: Sequence[Task],
    config: Config,
    variant: Variant,
    seeds: Sequence[int],
    device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> dict[int, Trained]:
    start = time.perf_counter()
    recipe, settings = config.recipe, Perturbation() if variant.perturbed else None
    runs = [_start(task, config, variant, seed, device) for task, seed in zip(tasks, seeds, strict=True)]
    parts = [to_tensors(_in_memory(task.train)).to(device) for task in tasks]
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
        [seeding.generator(seed, "dropout", device=device) for seed in seeds],
        [seeding.generator(seed, "perturbations", device=device) for seed in seeds],
        device=device,
    )
    bank = Bank(parts, seeds, recipe.batch)
    inside = list(runs)
    total, count = torch.zeros(len(runs), device=device), 0
    for step in range(1, recipe.steps + 1):
        losses, gradients = step_of(stack.parameters, stack.others, bank.next(), draws.next())
        stack.step(gradients)
        total, count = total + losses, count + 1
        if step not in evaluation_steps(recipe.steps, recipe.evaluations):
            continue
        for place, (run, mean) in enumerate(zip(inside, (total / count).tolist(), strict=True)):
            if not run.stopped:
                stack.put(place, run.model)
                _evaluate(run, step, mean, settings)
        total, count = torch.zeros_like(total), 0
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


def _start(task: Task, config: Config, variant: Variant, seed: int, device: torch.device) -> _Run:
    model = build_model(task, config, variant, seed).to(device)
    best = CheckpointSelector(config.recipe.patience)
    return _Run(seed, model, to_tensors(_in_memory(task.valid)).to(device), task.kind, best)


def _finished(run: _Run, seconds: float) -> Trained:
    run.best.restore(run.model)
    return Trained(run.model, run.history, run.best.step, seconds)


def _in_memory(part: AnySplit) -> Split:
    if not isinstance(part, Split):
        raise ConcordantError("a vectorised pass needs its training and validation parts in memory")
    return part


def _evaluate(run: _Run, step: int, mean: float, settings: Perturbation | None) -> None:
    """Score one seed on its validation part, as a single run does."""
    run.diverged = not math.isfinite(mean)
    if not run.diverged:
        try:
            score, spread = validation_score(run.model.eval(), run.valid, settings, run.seed, kind=run.kind)
        except ConcordantError:  # features that are not finite
            run.diverged = True
        else:
            run.history.append({"step": step, "loss": mean, "validation": score})
            run.best.offer(score, spread, step, lambda: snapshot(run.model))
    run.stopped = run.diverged or run.best.exhausted
