"""What of an experiment is trained in one vectorised pass, and what run by run; said in a line before it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from concordant.benchmarks.catalogue import prepare
from concordant.data.split import Task
from concordant.errors import UsageError
from concordant.training.config import Config
from concordant.training.devices import Devices
from concordant.training.paired import Job
from concordant.training.vectorised.choosing import WISHES, Choice, Wish, choose

Prepare = Callable[[Job], Task]


class Unit(Protocol):
    """What a worker process is given: one run, or a pass of several."""

    @property
    def name(self) -> str:
        """How a line about it begins."""


@dataclass(frozen=True)
class Pass:
    """Runs of one variant that are trained together.

    Args:
        jobs: the runs; they differ in seed and folder alone.
    """

    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """The variant and its seeds."""
        return f"{self.jobs[0].variant.label}, seeds {', '.join(str(job.seed) for job in self.jobs)}"


def check_wish(wish: str) -> Wish:
    """Return what was wished for.

    Raises:
        UsageError: it is none of "auto", "on", "off".
    """
    for known in WISHES:
        if wish == known:
            return known
    raise UsageError(f"vectorise must be one of {', '.join(WISHES)}; found {wish!r}")


def plan(
    jobs: Sequence[Job], prepared: Prepare, *, wish: Wish, processes: int, prefix: str = ""
) -> tuple[list[Unit], list[str]]:
    """Return the work of an experiment, passes first, and lines that say what is trained how.

    There are no fewer passes than processes, as far as seeds go: a pass is cut where it would leave one idle.

    Args:
        jobs: the runs that are to be done, of one experiment.
        prepared: from a run to its split; asked for one run a variant.
        wish: "auto", "on" or "off".
        processes: how many work at once.
        prefix: stands before each line.

    Raises:
        UsageError: `wish` is "on", and a variant cannot be trained in one pass; says why.
    """
    variants: dict[str, list[Job]] = {}
    for job in jobs:
        variants.setdefault(job.variant.label, []).append(job)
    chosen = {label: _choice(mine, prepared, wish) for label, mine in variants.items()}
    refused = [f"{label}: {one.reason}" for label, one in chosen.items() if wish == "on" and not one.together]
    if refused:
        raise UsageError(
            f"{prefix}--vectorise on cannot be had ({'; '.join(refused)}); use --vectorise auto, which trains what "
            "cannot share a pass run by run"
        )
    together = [label for label, one in chosen.items() if one.together]
    cuts = -(-processes // len(together)) if together else 1
    passes: list[Unit] = []
    for label in together:
        mine = variants[label]
        size = max(2, -(-len(mine) // cuts))
        passes += [Pass(tuple(mine[start : start + size])) for start in range(0, len(mine), size)]
    single: list[Unit] = [job for job in jobs if not chosen[job.variant.label].together]
    return [*passes, *single], _lines(variants, chosen, prefix, wish)


def _choice(mine: Sequence[Job], prepared: Prepare, wish: Wish) -> Choice:
    job = mine[0]
    apart = None
    if job.dynamics is not None:
        apart = "training is observed (--dynamics)"
    elif replace(job.devices, accelerator="auto") != Devices() or job.checkpoint_every is not None:
        apart = "runs have devices or checkpoints of their own"
    return choose(
        job.config, job.variant, prepared(job), seeds=len(mine), wish=wish, apart=apart, device=job.devices.kind
    )


def _lines(variants: Mapping[str, Sequence[Job]], chosen: Mapping[str, Choice], prefix: str, wish: Wish) -> list[str]:
    """Return a line for each way of training, with the variants that are trained so."""
    ways: dict[str, list[str]] = {}
    for label, one in chosen.items():
        if len(variants[label]) < 2 and wish == "auto":
            continue  # one run is one run
        way = (
            f"{len(variants[label])} seeds in one vectorised pass"
            if one.together
            else f"{len(variants[label])} seeds one after another: {one.reason}"
        )
        ways.setdefault(way, []).append(label)
    return [f"{prefix}{', '.join(labels)}: {way}" for way, labels in ways.items()]


@lru_cache(maxsize=1)
def tasks_of(config_key: tuple[Any, ...], data: Path | None, seeds: tuple[int, ...]) -> dict[int, Task]:
    """Return the splits of several seeds; those asked for last stay, so that all variants of a process share them.

    Args:
        config_key: what `key_of` returned.
        data: the data folder, or None.
        seeds: of the splits.
    """
    benchmark, protocol, modalities = config_key
    return {seed: prepare(benchmark, data=data, seed=seed, modalities=modalities, protocol=protocol) for seed in seeds}


def key_of(config: Config) -> tuple[str, str, tuple[str, ...]]:
    """Return what of a configuration decides about its splits."""
    return config.benchmark, config.protocol, config.modalities
