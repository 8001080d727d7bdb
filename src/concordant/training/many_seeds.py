"""Training of several seeds in one pass: each seed gets the results of its single run, up to rounding.

The models of all seeds are stacked and one training step runs for all of them under `torch.func.vmap`. Operators on
small tensors cost little more for ten seeds than for one. Split, initial weights, order of batches, perturbations,
dropout masks, validation and selection stay per seed. On a GPU the step is a CUDA graph.

Axis letters: S seeds, B instances of a batch.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from concordant import seeding
from concordant.calibration import Perturbation
from concordant.data.split import AnySplit, LabelKind, Split, Task
from concordant.errors import ConcordantError
from concordant.training.batches import Tensors, endless_rows, to_tensors
from concordant.training.checkpoint import Checkpoint, require_history
from concordant.training.config import Config, Recipe, Variant
from concordant.training.draws import Draw, Draws, Streams, plan_draws
from concordant.training.loop import evaluation_steps, one_cycle
from concordant.training.model import MultimodalModel, build_model
from concordant.training.selection import CheckpointSelector, require_alike, snapshot
from concordant.training.step import LOSSES, TrainingStep
from concordant.training.train import Trained
from concordant.training.validation import validation_score

Result = tuple[Tensor, list[Tensor | None]]  # losses (S,) and stacked gradients


@dataclass
class _Run:
    """What belongs to one seed."""

    seed: int
    model: MultimodalModel
    valid: Tensors
    order: Iterator[Tensor]
    streams: Streams
    selector: CheckpointSelector
    history: list[dict[str, float]] = field(default_factory=list)
    finite: bool = True

    def evaluate(self, step: int, loss: float, settings: Perturbation | None, kind: LabelKind, recipe: Recipe) -> None:
        """Score the model on the validation split as a single run does."""
        try:
            score, error = validation_score(self.model.eval(), self.valid, settings, self.seed, kind=kind)
        except ConcordantError:  # features that are not finite
            loss = math.nan
        self.finite = math.isfinite(loss)
        if self.finite:
            self.history.append({"step": step, "loss": loss, "validation": score})
            error = error if recipe.selection == "one-error" else 0.0
            self.selector.offer(score, error, step, lambda: snapshot(self.model))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed pass needs beside the weights."""
        streams = {name: stream.get_state() for name, stream in vars(self.streams).items()}
        return {
            "selector": self.selector.state_dict(),
            "history": self.history,
            "finite": self.finite,
            "streams": streams,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        require_history(saved["history"])
        require_alike(saved["finite"], True, "finite")
        self.selector.load_state_dict(saved["selector"], self.model.state_dict())
        self.history, self.finite = saved["history"], saved["finite"]
        for name, state in saved["streams"].items():
            getattr(self.streams, name).set_state(state)


def train_together(
    tasks: Sequence[Task],
    config: Config,
    variant: Variant,
    seeds: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, Trained]:
    """Train several seeds of a variant in one pass.

    Args:
        tasks: the split of each seed, in memory; training batches of all seeds have one shape (`alike`).
        config: the experiment, with the training method "none".
        variant: the calibrator, and whether training perturbs.
        seeds: one per task.
        device: "cpu" or "cuda"; the models stay there.
        checkpoint: file and frequency of checkpoints, from which an interrupted pass resumes exactly; None = none.
        progress: called with the step and the number of steps after every step.

    Returns:
        seed -> its trained run; `seconds` is an equal share of the pass. A seed whose training diverged is left out:
        its single run raises the error that names the step.

    Raises:
        ConcordantError: the pass cannot be made; the message gives the reason.
        DataError: the checkpoint cannot be read, or does not fit.
    """
    start, device = time.perf_counter(), torch.device(device)
    recipe = config.of(variant).recipe.on_rows(len(tasks[0].train))
    settings = Perturbation() if variant.perturbed else None
    kind = tasks[0].kind
    splits = [to_tensors(_in_memory(task.train)) for task in tasks]
    first = itertools.accumulate((len(split) for split in splits), initial=0)  # of each seed's rows in all of them
    runs = []
    for task, seed, offset in zip(tasks, seeds, first, strict=False):
        model = build_model(task, config, variant, seed).to(device)
        valid = to_tensors(_in_memory(task.valid)).to(device)
        rows = endless_rows(len(task.train), recipe.batch, seeding.generator(seed, "batches"))
        order, selector = map(partial(torch.add, offset), rows), CheckpointSelector(recipe.patience)
        runs.append(_Run(seed, model, valid, order, Streams.of(seed, device), selector))
    loss = TrainingStep(copy.deepcopy(runs[0].model).train(), LOSSES[kind], perturbation=settings)
    marks = evaluation_steps(recipe.steps, recipe.evaluations)
    with seeding.in_order(device):
        stack = _Stack(runs, loss, recipe, _joined(splits).to(device))
        saved, done = None if checkpoint is None else checkpoint.read(), 0
        if checkpoint is not None and saved is not None:
            checkpoint.restore(saved, lambda saved: stack.load(saved, runs))
            start, done = start - saved["seconds"], saved["step"]
            for run in runs:
                run.order = islice(run.order, done, None)
        for step in range(done + 1, recipe.steps + 1):
            if not stack.runs:
                break
            stack.step()
            if progress is not None:
                progress(step, recipe.steps)
            if step in marks:
                for row, mean in enumerate((stack.total / stack.count).tolist()):
                    stack.write(row)
                    stack.runs[row].evaluate(step, mean, settings, kind, recipe)
                stack.keep([row for row, run in enumerate(stack.runs) if run.finite and not run.selector.exhausted])
            if checkpoint is not None and checkpoint.due(step):
                checkpoint.write({"step": step, "seconds": time.perf_counter() - start, **stack.state(runs)})
    seconds = (time.perf_counter() - start) / len(runs)
    found = {}
    for run in runs:
        if run.finite:
            run.selector.restore(run.model)
            found[run.seed] = Trained(run.model, run.history, run.selector.step, seconds)
    return found


def alike(tasks: Mapping[int, Task], recipe: Recipe) -> list[list[int]]:
    """Return the seeds in groups whose training batches have one shape and one number of steps, in order.

    Splits may differ in length and in instances. Where sequences are padded to the longest of a split, that length
    may differ between seeds too, and each length makes a group of its own.

    Args:
        tasks: seed -> its split.
        recipe: of the training.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for seed, task in tasks.items():
        train = task.train
        masks = {name: mask.shape[1:] for name, mask in train.masks.items()} if isinstance(train, Split) else {}
        shapes = tuple(sorted(train.shapes.items())), tuple(sorted(masks.items()))
        size = min(recipe.batch, len(train)), recipe.on_rows(len(train)).steps
        groups.setdefault((*size, str(train.labels.dtype), *shapes), []).append(seed)
    return list(groups.values())


def _in_memory(split: AnySplit) -> Split:
    if not isinstance(split, Split):
        raise ConcordantError("several seeds in one pass need their training and validation splits in memory")
    return split


def _joined(splits: Sequence[Tensors]) -> Tensors:
    """Return the splits of all seeds one after another, so that one look-up gives the batches of all seeds.

    Where only some seeds have a mask or presence of a modality, it is True throughout for the others.
    """

    def joined(kind: str) -> dict[str, Tensor]:
        parts: list[dict[str, Tensor]] = [getattr(split, kind) for split in splits]
        shapes = {name: x.shape[1:] for part in parts for name, x in part.items()}
        full = [{name: torch.ones(len(s), *shape, dtype=torch.bool) for name, shape in shapes.items()} for s in splits]
        return {name: torch.cat([(one | part)[name] for one, part in zip(full, parts, strict=True)]) for name in shapes}

    labels = torch.cat([split.labels for split in splits])
    return Tensors(inputs=joined("inputs"), labels=labels, masks=joined("masks"), present=joined("present"))


class _Stack:
    """The models of several seeds as one model whose parameters and buffers have a first axis of seeds.

    AdamW treats every number by itself and all seeds share one schedule, so stacked parameters are updated as those
    of each single run.

    Args:
        runs: one per seed; their weights are copied.
        loss: from a batch to the loss, a module whose `model` has the structure of the runs' models.
        recipe: of the training.
        data: the training splits of all seeds.
    """

    def __init__(self, runs: Sequence[_Run], loss: nn.Module, recipe: Recipe, data: Tensors) -> None:
        self.runs = list(runs)
        self._loss, self._data = loss, data
        self._parameters, self._buffers = stack_module_state([run.model for run in runs])
        self._trained = [x for x in self._parameters.values() if x.requires_grad]
        self._optimizer, self._schedule = one_cycle(
            self._trained,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            steps=recipe.steps,
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
        )
        self._plan: list[Draw] | None = None
        self._play: Callable[[Tensors], Result] | None = None
        self.total, self.count = torch.zeros(len(runs), device=data.labels.device), 0

    def step(self) -> None:
        """Train one step; add the loss of every seed to `total` (S,).

        Raises:
            ConcordantError: the model cannot take a step of several seeds.
        """
        rows = torch.stack([next(run.order) for run in self.runs])  # (S, B)
        device = self._data.labels.device
        batch = self._data.take(rows.to(device))
        if self._plan is None:
            # Of a copy, since a step changes running statistics.
            watched, one = copy.deepcopy(self._loss), batch.each(itemgetter(0))
            self._plan = plan_draws(lambda: watched(*_arguments(one)), device)
        try:
            if self._play is None:
                self._play = self._recorded(batch) if device.type == "cuda" else self._gradients
            losses, gradients = self._play(batch)
        except RuntimeError as error:
            refused = (
                "CUDA cannot record the step" if device.type == "cuda" else "PyTorch's vmap cannot follow the model"
            )
            raise ConcordantError(f"{refused} ({str(error).strip().splitlines()[0].rstrip('.')})") from error
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._schedule.step()
        self.total, self.count = self.total + losses, self.count + 1

    def write(self, row: int) -> None:
        """Copy the weights and buffers of one seed into its run's model."""
        state = {**self._parameters, **self._buffers}
        # Not strict: buffers that are no part of a state dictionary are the same at every step.
        self.runs[row].model.load_state_dict({name: x[row] for name, x in state.items()}, strict=False)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with the seeds at these rows alone, with sums of losses that begin anew."""
        self.total, self.count = self.total.new_zeros(len(rows)), 0
        if len(rows) == len(self.runs):
            return
        self.runs, index = [self.runs[row] for row in rows], torch.tensor(rows, dtype=torch.long)
        for name, old in self._parameters.items():
            new = self._parameters[name] = old.detach()[index].requires_grad_(old.requires_grad)
            state = self._optimizer.state.pop(old, {})
            if state:
                self._optimizer.state[new] = {key: x[index] if x.shape == old.shape else x for key, x in state.items()}
        self._trained = [x for x in self._parameters.values() if x.requires_grad]
        self._optimizer.param_groups[0]["params"] = self._trained
        self._buffers = {name: x[index] for name, x in self._buffers.items()}
        self._play = None

    def state(self, runs: Sequence[_Run]) -> dict[str, Any]:
        """Return what the next step depends on, and the results so far of all `runs`, those that have left included."""
        return {
            "seeds": [run.seed for run in self.runs],
            "weights": {**self._parameters, **self._buffers},
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "total": self.total,
            "count": self.count,
            "runs": [run.state_dict() for run in runs],
        }

    def load(self, saved: dict[str, Any], runs: Sequence[_Run]) -> None:
        """Restore what `state` returned, in a new stack of the same runs."""
        for run, state in zip(runs, saved["runs"], strict=True):
            run.load_state_dict(state)
        self.keep([row for row, run in enumerate(self.runs) if run.seed in saved["seeds"]])
        now = {**self._parameters, **self._buffers}
        present = {"weights": now, "schedule": self._schedule.state_dict(), "total": self.total, "count": 0}
        for name, value in present.items():
            require_alike(saved[name], value, name)
        groups = self._optimizer.state_dict()["param_groups"]
        require_alike(saved["optimizer"]["param_groups"], groups, "optimizer.param_groups")
        with torch.no_grad():
            for name, x in now.items():
                x.copy_(saved["weights"][name])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._schedule.load_state_dict(saved["schedule"])
        self.total, self.count = saved["total"].to(self.total.device), saved["count"]

    def _gradients(self, batch: Tensors) -> Result:
        """Return losses and gradients of all seeds; buffers are written to."""
        made = [torch.stack([draw(run.streams) for run in self.runs]) for draw in self._plan or ()]

        def loss(state: dict[str, Tensor], batch: dict[str, Any], made: list[Tensor]) -> Tensor:
            with Draws(made):
                found: Tensor = functional_call(self._loss, state, _arguments(Tensors(**batch)), tie_weights=False)
            return found

        state = {f"model.{name}": x for name, x in (*self._parameters.items(), *self._buffers.items())}
        with sdpa_kernel(SDPBackend.MATH):  # the only kernel of attention that vmap has a rule for
            losses: Tensor = torch.vmap(loss, randomness="error")(state, _tensors_in(batch), made)
        found = torch.autograd.grad(losses.sum(), self._trained, allow_unused=True)
        # The fused optimiser reads gradients in the order of memory.
        return losses.detach(), [None if x is None else x.contiguous() for x in found]

    def _recorded(self, batch: Tensors) -> Callable[[Tensors], Result]:
        """Return `_gradients` as a CUDA graph, whose results the next call overwrites.

        A small model's operators compute for less time than the host takes to start them one by one.
        """
        place = batch.each(torch.clone)  # a graph reads where it read while it was recorded
        graph, generators = torch.cuda.CUDAGraph(), [g for run in self.runs for g in vars(run.streams).values()]
        buffers, states = {name: x.clone() for name, x in self._buffers.items()}, [g.get_state() for g in generators]
        for generator in generators:
            graph.register_generator_state(generator)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # once as it is: libraries make their workspaces at the first call
            self._gradients(place)
        torch.cuda.current_stream().wait_stream(side)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        for name, x in buffers.items():
            self._buffers[name].copy_(x)
        with torch.cuda.graph(graph):
            found = self._gradients(place)

        def play(batch: Tensors) -> Result:
            for kept, new in zip(tree_leaves(_tensors_in(place)), tree_leaves(_tensors_in(batch)), strict=True):
                kept.copy_(new)
            graph.replay()
            return found

        return play


def _tensors_in(batch: Tensors) -> dict[str, Any]:
    """Return what a batch has as nested dictionaries of tensors; runs have no weights."""
    return {name: value for name, value in vars(batch).items() if value is not None}


def _arguments(batch: Tensors) -> tuple[object, ...]:
    """Return the arguments of a training step; its generator only marks draws that are not from the global stream."""
    return batch.inputs, batch.masks, batch.present, batch.labels, torch.Generator(batch.labels.device)
