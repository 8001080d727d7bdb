"""Execution plan of an experiment: which runs share a vectorised pass (many_seeds.py), and which are trained alone.

The rule looks at the configuration and the sizes of the data, never at the clock, so one command always trains in one
way. Each variant's way is printed with its reason before training begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from torch import nn

from concordant.benchmarks.catalogue import prepare
from concordant.data.split import Split, Task
from concordant.errors import UsageError
from concordant.training.devices import Devices
from concordant.training.model import build_model
from concordant.training.processes import Job

VECTORISE = ("auto", "on", "off")
# Device -> multiplications of the largest encoder's first layer in a step, above which a pass does not pay: operators
# that are large keep a processor busy with one seed. Measured: cpu up to 1 million (handwritten) it pays, from
# 5 million (av-digits) it does not; cuda at 20 million (utd-mhad) it is 6 times as fast, and the bound is a guess.
LARGEST = {"cpu": 2_000_000, "cuda": 100_000_000}
# Modules that torch.func.vmap has no rules for.
_UNMAPPED = (
    ((nn.RNNBase, nn.RNNCellBase), "recurrent layers"),
    ((nn.modules.batchnorm._BatchNorm,), "batch normalisation"),
)


@dataclass(frozen=True)
class Pass:
    """Runs of one variant that are trained together.

    Args:
        jobs: the runs; they differ in seed and folder alone.
    """

    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """The variant and its seeds, for the log."""
        return f"{self.jobs[0].variant.label}, seeds {', '.join(str(job.seed) for job in self.jobs)}"


Unit = Job | Pass  # of work, for one worker process


def check_vectorise(value: str) -> None:
    """Raise UsageError unless the option is "auto", "on" or "off"."""
    if value not in VECTORISE:
        raise UsageError(f"vectorise must be one of {', '.join(VECTORISE)}; found {value!r}")


def plan(
    jobs: Sequence[Job], prepared: Callable[[Job], Task], *, vectorise: str, processes: int, prefix: str = ""
) -> tuple[list[Unit], list[str]]:
    """Return the units of work of an experiment, passes first, and one line per way of training.

    Passes are split until there are as many as processes, as far as the number of seeds allows.

    Args:
        jobs: the unfinished runs of one experiment.
        prepared: from a run to its split; called for one run per variant.
        vectorise: "auto", "on" or "off".
        processes: number of worker processes.
        prefix: stands before each line.

    Raises:
        UsageError: `vectorise` is "on", and a variant cannot be trained in one pass; with the reason.
    """
    variants: dict[str, list[Job]] = {}
    for job in jobs:
        variants.setdefault(job.variant.label, []).append(job)
    reasons = {label: _reason(mine, prepared, vectorise) for label, mine in variants.items()}
    refused = [f"{label}: {reason}" for label, reason in reasons.items() if vectorise == "on" and reason is not None]
    if refused:
        raise UsageError(
            f"{prefix}--vectorise on cannot be had ({'; '.join(refused)}); use --vectorise auto, which trains what "
            "cannot share a pass run by run"
        )
    together = [label for label, reason in reasons.items() if reason is None]
    cuts = -(-processes // len(together)) if together else 1
    passes: list[Unit] = []
    for label in together:
        mine = variants[label]
        size = max(2, -(-len(mine) // cuts))
        passes += [Pass(tuple(mine[start : start + size])) for start in range(0, len(mine), size)]
    single: list[Unit] = [job for job in jobs if job.variant.label not in together]
    ways: dict[str, list[str]] = {}
    for label, reason in reasons.items():
        count = len(variants[label])
        if count > 1 or vectorise != "auto":
            way = "in one vectorised pass" if reason is None else f"one after another: {reason}"
            ways.setdefault(f"{count} seeds {way}", []).append(label)
    return [*passes, *single], [f"{prefix}{', '.join(labels)}: {way}" for way, labels in ways.items()]


def _reason(jobs: Sequence[Job], prepared: Callable[[Job], Task], vectorise: str) -> str | None:
    """Return why the runs of a variant are trained one after another; None = they share a pass."""
    job, device = jobs[0], jobs[0].devices.kind
    config = job.config.of(job.variant)
    if vectorise == "off":
        return "--vectorise off"
    if len(jobs) < 2:
        return "there is one seed to train"
    if device not in LARGEST:
        return f"training is on {device}, and random numbers are drawn seed by seed on {' and '.join(LARGEST)} alone"
    if job.dynamics is not None:
        return "training is observed (--dynamics)"
    if replace(job.devices, accelerator="auto") != Devices() or job.checkpoint_every is not None:
        return "runs have devices or checkpoints of their own"
    if config.method != "none":
        return f"the training method {config.method} needs a loop of its own"
    task = prepared(job)
    if not isinstance(task.train, Split) or not isinstance(task.valid, Split):
        return "the data are not in memory"
    layers = list(build_model(task, config, job.variant, 0).modules())
    for kinds, what in _UNMAPPED:
        if any(isinstance(layer, kinds) for layer in layers):
            return f"{config.fusion if config.encoders == 'small' else 'the model'} has {what}"
    values = max(math.prod(task.train.shapes[name]) for name in config.modalities)
    work = values * min(config.recipe.batch, len(task.train)) * config.recipe.width
    if vectorise == "auto" and work > LARGEST[device]:
        return (
            f"batches are large enough by themselves ({work / 1e6:.1f} million multiplications in the largest "
            f"encoder's first layer, above {LARGEST[device] / 1e6:.0f})"
        )
    return None


@lru_cache(maxsize=1)
def splits_of(
    benchmark: str, protocol: str, modalities: tuple[str, ...], data: Path | None, seeds: tuple[int, ...]
) -> dict[int, Task]:
    """Return seed -> its split; the last result is kept, since the variants of an experiment share splits."""
    return {seed: prepare(benchmark, data=data, seed=seed, modalities=modalities, protocol=protocol) for seed in seeds}
