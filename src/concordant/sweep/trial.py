"""Trial of a sweep: one run of an experiment, or one candidate of a search.

A result is written to a temporary place and then renamed, so it exists as a whole or not at all. If another attempt was
faster, its result stays.
"""

from __future__ import annotations

import shutil
import uuid
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from threadpoolctl import threadpool_limits

from concordant.benchmarks.catalogue import BENCHMARKS, folder_of
from concordant.data.split import AnySplit, Task
from concordant.data.stored import StoredSplit
from concordant.errors import ConcordantError, DataError
from concordant.files import write_json
from concordant.study.work import run_one
from concordant.training.config import Config, Value, Variant
from concordant.training.processes import Job
from concordant.training.provenance import digests, hardware, versions
from concordant.training.runs import prepare_of
from concordant.training.train import train

MARK = "sweep.json"  # a worker looks for it to check that it sees the sweep's folder
DONE = "run.json"
ABOUT = "trial.json"  # beside run.json: versions and hardware of the run
TEMPORARY = ".tmp"
digests_of = lru_cache(maxsize=8)(digests)  # trials of one worker read the same data


class Trial(BaseModel):
    """Description of a trial for a worker, sent as JSON.

    Args:
        experiment: name of the experiment.
        config: of the experiment, tuned where it was searched; of a candidate, with the candidate's recipe.
        label: of the variant.
        seed: the run's.
        sweep: the sweep's folder.
        target: of the result: a folder of a run, a JSON file of a candidate.
        data: the data folder or its URL.
        files: name -> expected SHA-256 of the data files.
        cpus: number of threads.
        gpus: share of a GPU.
        candidate: its number in a search; None = it is a run.
        fields: of the candidate's recipe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    config: Config
    label: str
    seed: int
    sweep: Path
    target: Path
    data: str | None
    files: dict[str, str]
    cpus: int = 1
    gpus: float = 0
    candidate: int | None = None
    fields: dict[str, Value] = {}

    @property
    def name(self) -> str:
        """Name in the log and in progress lines."""
        which = f", candidate {self.candidate}" if self.candidate is not None else ""
        return f"{self.experiment}: {self.label}{which}, seed {self.seed}"

    @property
    def variant(self) -> Variant:
        """The calibrator, and whether training perturbs."""
        return next(one for one in self.config.variants if one.label == self.label)

    @property
    def finished(self) -> bool:
        """Whether the result exists."""
        return (self.target / DONE if self.candidate is None else self.target).exists()

    def source(self) -> Path | None:
        """Return the data folder, after checking that its files are those that the sweep was planned with."""
        folder = folder_of(self.config.benchmark, self.data)
        found = digests_of(folder, BENCHMARKS[self.config.benchmark].files)
        other = sorted(name for name, digest in self.files.items() if found.get(name) != digest)
        if other:
            raise DataError(
                f"{', '.join(other)} in {folder} of the worker is another file than where the sweep was started; "
                "see that all machines read the same data"
            )
        return folder


def perform(trial: Trial) -> dict[str, Any]:
    """Run a trial with its number of threads unless it is finished; return its outcome.

    Returns:
        "state": "done", "failed" or "memory" (the worker ran out of memory); the latter two with a sentence under
        "error". A candidate that cannot be trained is "done": the failure is its result.
    """
    if not (trial.sweep / MARK).is_file():
        error = f"the worker does not see {trial.sweep}; name with --out a folder on storage that all machines share"
        return {"state": "failed", "error": error}
    threads = torch.get_num_threads()
    torch.set_num_threads(trial.cpus)
    try:
        if not trial.finished:
            with threadpool_limits(trial.cpus):
                _run(trial) if trial.candidate is None else _search(trial)
    except ConcordantError as error:
        return {"state": "failed", "error": str(error)}
    except (MemoryError, torch.OutOfMemoryError) as error:
        return {"state": "memory", "error": f"out of memory ({error})"}
    finally:
        torch.set_num_threads(threads)
    return {"state": "done"}


def _run(trial: Trial) -> None:
    """Train, test and write one run as `concordant run` does."""
    attempt = trial.target.with_name(f".{trial.target.name}.{uuid.uuid4().hex}{TEMPORARY}")
    try:
        run_one(Job(trial.config, trial.variant, trial.seed, attempt, trial.source()))
        about = {"cpus": trial.cpus, "gpus": trial.gpus, "versions": versions(), "hardware": hardware()}
        write_json(attempt / ABOUT, about)
        _move(attempt, trial.target)
    finally:
        shutil.rmtree(attempt, ignore_errors=True)


def _move(attempt: Path, target: Path) -> None:
    """Rename a finished run, unless another attempt was faster."""
    try:
        attempt.rename(target)  # one step; refused where the target is there
    except OSError as error:
        if not (target / DONE).exists():
            raise DataError(f"{target} cannot be written ({error.strerror}); see that it is writable") from None


def _search(trial: Trial) -> None:
    """Train one candidate without the test split, and write its validation score."""
    found: dict[str, Any] = {
        "label": trial.label,
        "candidate": trial.candidate,
        "seed": trial.seed,
        "recipe": trial.fields,
        "validation": None,
        "error": None,
    }
    task = without_test(prepare_of(trial.config, trial.source(), seed=trial.seed))
    try:
        trained = train(task, trial.config, trial.variant, trial.seed)
    except ConcordantError as error:
        found["error"] = str(error)
    else:
        kept = next(one for one in trained.history if one["step"] == trained.best_step)
        score, step, seconds = kept["validation"], trained.best_step, trained.seconds
        found |= {"validation": score, "best_step": step, "train_seconds": seconds}
    write_json(trial.target, {**found, "versions": versions(), "hardware": hardware()})


def without_test(task: Task) -> Task:
    """Return a task with an empty test split, for a search."""
    nothing = np.arange(0)
    rest: AnySplit = task.test.rows(nothing) if isinstance(task.test, StoredSplit) else task.test.take(nothing)
    return replace(task, test=rest)
