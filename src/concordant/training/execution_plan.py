"""Execution plan of an experiment: which runs share a vectorised pass (many_seeds.py), and which are trained alone.

The rule looks at the configuration, the sizes of the data and the number of processes, never at the clock or at what is
finished, so an interrupted command resumes as it began. Each variant's way is printed with its reason before training.
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
from concordant.training.checkpoint import checkpointed
from concordant.training.devices import Devices
from concordant.training.model import build_model
from concordant.training.processes import Job

VECTORISE = ("auto", "on", "off")
# Device -> multiplications of the largest encoder's first layer in a step, above which a pass does not pay: operators
# that are large keep a processor busy with one seed. Measured: cpu up to 2.1 million (cremad-features) ten seeds take
# half the time in a pass, from 5 million (av-digits) a pass does not pay; cuda at 20 million (utd-mhad) it is 6 times
# as fast, and the bound is a guess.
LARGEST = {"cpu": 3_000_000, "cuda": 100_000_000}
# Device -> fewest seeds that `auto` trains in one pass. On a CPU (`python -m benchmarks.many_seeds`) two are 0.85
# (digits) to 0.99 (cmu-mosi-utterance) as fast as one after another, three 1.15 to 1.28.
FEWEST = {"cpu": 3, "cuda": 2}
# Modules that torch.func.vmap has no rules for.
_UNMAPPED = (
    ((nn.RNNBase, nn.RNNCellBase), "recurrent layers"),
    ((nn.modules.batchnorm._BatchNorm,), "batch normalisation"),
)


@dataclass(frozen=True)
class Pass:
    """Runs of one variant that are trained together.

    Args:
        jobs: those that are not finished; they differ in seed and folder alone.
        seeds: all that share the pass. Finished ones are trained along, since the others' last digits depend on them.
    """

    jobs: tuple[Job, ...]
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """The variant and its seeds, for the log."""
        return f"{self.jobs[0].variant.label}, seeds {', '.join(map(str, self.seeds))}"


Unit = Job | Pass  # of work, for one worker process


def check_vectorise(value: str) -> None:
    """Raise UsageError unless the option is "auto", "on" or "off"."""
    if value not in VECTORISE:
        raise UsageError(f"vectorise must be one of {', '.join(VECTORISE)}; found {value!r}")


def plan(
    jobs: Sequence[Job], prepared: Callable[[Job], Task], *, vectorise: str, processes: int, prefix: str = ""
) -> tuple[list[Unit], list[str]]:
    """Return the units of work of an experiment, passes first, and one line per way of training.

    Passes are split until there are as many as processes, as far as the number of seeds allows. Those that left a
    checkpoint are resumed as they were.

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
    passes: list[Unit] = []
    single: list[Unit] = []
    ways: dict[str, list[str]] = {}
    refused = []
    for label, mine in variants.items():
        count = mine[0].config.seeds
        kept = [] if vectorise == "off" else checkpointed(mine[0].folder.parent)
        passes += _passes(mine, kept)
        rest = [job for job in mine if not any(job.seed in seeds for seeds in kept)]
        way = "in one vectorised pass, resumed"
        if rest:
            reason = _reason(rest, prepared, vectorise)
            way = "in one vectorised pass" if reason is None else f"one after another: {reason}"
            if reason is None:
                fewest = 2 if vectorise == "on" else FEWEST[rest[0].devices.kind]
                cuts = max(1, min(-(-processes // len(rest[0].config.variants)), count // fewest))
                shares = [range(count * k // cuts, count * (k + 1) // cuts) for k in range(cuts)]
                passes += _passes(rest, [tuple(share) for share in shares])
            else:
                single += rest
                refused.append(f"{label}: {reason}")
        if count > 1 or vectorise != "auto":
            ways.setdefault(f"{count} seeds {way}", []).append(label)
    if vectorise == "on" and refused:
        raise UsageError(
            f"{prefix}--vectorise on is impossible here ({'; '.join(refused)}); use --vectorise auto, which trains "
            "run by run what cannot share a pass"
        )
    single.sort(key=jobs.index)  # seed by seed
    return [*passes, *single], [f"{prefix}{', '.join(labels)}: {way}" for way, labels in ways.items()]


def _passes(jobs: Sequence[Job], groups: Sequence[tuple[int, ...]]) -> list[Pass]:
    """Return a pass for each group of seeds that has some of the jobs."""
    found = [Pass(tuple(job for job in jobs if job.seed in seeds), seeds) for seeds in groups]
    return [one for one in found if one.jobs]


def _reason(jobs: Sequence[Job], prepared: Callable[[Job], Task], vectorise: str) -> str | None:
    """Return why the runs of a variant are trained one after another; None = they share a pass."""
    job, device = jobs[0], jobs[0].devices.kind
    config = job.config.of(job.variant)
    if vectorise == "off":
        return "--vectorise off"
    if config.seeds < 2:
        return "there is one seed to train"
    if vectorise == "auto" and config.seeds < FEWEST.get(device, 2):
        return f"on {device} a pass pays from {FEWEST[device]} seeds on"
    if device not in LARGEST:
        return f"training is on {device}, and random numbers are drawn seed by seed on {' and '.join(LARGEST)} alone"
    if job.dynamics is not None:
        return "training is observed (--dynamics)"
    if replace(job.devices, accelerator="auto") != Devices():
        return "several devices, --precision or --accumulate are for single runs"
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
