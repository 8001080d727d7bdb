"""How long a training step takes with each method, measured in turn on one thread.

Machines are noisy: methods take turns, and ratios are medians of the ratios within a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from concordant import seeding
from concordant.benchmarks.catalogue import folder_of
from concordant.calibration import Perturbation, repeat_targets
from concordant.data.split import Task
from concordant.files import read_json, write_json
from concordant.training.batches import endless_rows, open_tensors
from concordant.training.config import Config, Variant
from concordant.training.model import build_model
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from studies.paper.plan import Experiment

FILE = "timing.json"
TURNS, WARM_UP = 15, 3
TWIN = "none+perturbed"


def time_cell(experiment: Experiment, *, data: Path | str | None = None, turns: int = TURNS) -> dict[str, Any]:
    """Return the time of a step of every method of a cell, and write it beside its runs; measured once.

    Returns:
        "methods": label -> "median_ms", and "relative", the median ratio to the perturbed twin's within a turn.
    """
    path = experiment.folder / FILE
    if path.is_file():
        return read_json(path)
    config = experiment.config
    task = prepare_of(config, folder_of(config.benchmark, data), seed=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            taken = _take_turns({one.label: stepper(task, config, one) for one in config.variants}, turns)
    finally:
        torch.set_num_threads(threads)
    found = {
        "methods": {
            label: {
                "median_ms": float(np.median(times)),
                "relative": float(np.median(times / taken[TWIN])) if TWIN in taken else None,
            }
            for label, times in taken.items()
        },
        "batch": config.recipe.batch,
        "turns": turns,
        "versions": versions(),
        "hardware": hardware(),
    }
    write_json(path, found)
    return found


def stepper(task: Task, config: Config, variant: Variant) -> Callable[[], Tensor]:
    """Return a function that does one step of `concordant.training.loop` and returns its loss."""
    model = build_model(task, config, variant, 0).train()
    recipe, settings = config.of(variant).recipe, Perturbation() if variant.perturbed else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, fused=True)
    data = open_tensors(task.train)
    order = endless_rows(len(data), recipe.batch, seeding.generator(0, "batches"))
    draws = seeding.generator(0, "perturbations")

    def step() -> Tensor:
        batch = data.take(next(order))
        out = model(
            batch.inputs, batch.masks, batch.present, labels=batch.labels, perturbation=settings, generator=draws
        )
        targets = batch.labels if settings is None else repeat_targets(batch.labels)
        loss: Tensor = F.cross_entropy(out.logits, targets) + out.calibration.auxiliary_loss
        loss = loss + model.fusion.auxiliary_loss(targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def _take_turns(steps: dict[str, Callable[[], Tensor]], turns: int) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return milliseconds of every step, (turns,) a method."""
    taken: dict[str, list[float]] = {label: [] for label in steps}
    for turn in range(WARM_UP + turns):
        for label, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= WARM_UP:
                taken[label].append(1000 * (time.perf_counter() - start))
    return {label: np.array(times) for label, times in taken.items()}
