"""The whole of `concord run`: paired training, the stress test of every run, statistics, results on disk.

A run that is finished is never repeated: the same command on the same folder goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from concord.analysis.bootstrap import Outcomes
from concord.analysis.comparisons import Correct, compare
from concord.analysis.data_checks import check_task
from concord.analysis.dynamics import check_able, check_observable, collect_dynamics, train_observed
from concord.analysis.predictions import as_table, read_tables, write_table
from concord.analysis.stress import agree, stress
from concord.data.benchmarks import BENCHMARKS, folder_of, prepare
from concord.errors import ConcordError, UsageError
from concord.experiment.config import Config, Variant
from concord.experiment.folder import ExperimentFolder
from concord.experiment.model import check_encoders, check_labels
from concord.experiment.paired import Job, default_jobs, run_all
from concord.experiment.surroundings import digests, hardware, versions
from concord.experiment.training import train
from concord.files import write_atomically, write_json

SCHEMA = "concord.results/1"
Progress = Callable[[int, int, str], None]


def study(
    config: Config,
    out: Path,
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    dynamics: int | None = None,
) -> dict[str, Any]:
    """Run a paired experiment, or go on with one, and return what results.json holds.

    Args:
        config: the experiment.
        out: its folder.
        data: the data folder; None = the one that CONCORD_DATA names, or ../shared/data.
        jobs: runs that go at once; None = one a core.
        progress: called with the finished runs, all runs, and a line about the last one.
        dynamics: observe every so many steps of training, into analyses/dynamics.json; None = do not.

    Raises:
        UsageError: the folder belongs to another configuration, `jobs` or `dynamics` is not positive, or finished
            runs were not observed as `dynamics` says.
        DataError: the data are absent or cannot be used; nothing has been trained then.
        ConcordError: some runs failed; the others are kept.
    """
    return study_all({"": (config, out)}, data=data, jobs=jobs, progress=progress, dynamics=dynamics)[""]


def study_all(
    experiments: Mapping[str, tuple[Config, Path]],
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    dynamics: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Run several paired experiments as one pool of runs; return what each results.json holds, by name.

    Args:
        experiments: name, which stands in the lines of progress -> the experiment and its folder.
        data: the data folder; None = the one that CONCORD_DATA names, or ../shared/data.
        jobs: runs that go at once; None = one a core.
        progress: called with the finished runs, all runs, and a line about the last one.
        dynamics: observe every so many steps of training, into analyses/dynamics.json; None = do not.

    Raises: as for `study`.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be 1 or more, the runs that go at once; found {jobs}")
    if dynamics is not None:
        check_able(dynamics)
    sources = {name: _source(config, data) for name, (config, _) in experiments.items()}
    checks: dict[str, dict[str, Any]] = {}
    for name, (config, _) in experiments.items():
        # Faults of the data show here, before a folder is taken.
        task = prepare_of(config, sources[name], seed=0)
        check_encoders(task, config)
        check_labels(task, config)
        checks[name] = check_task(task, f"{config.benchmark}, {config.protocol}, seed 0")
    folders = {name: ExperimentFolder(out) for name, (_, out) in experiments.items()}
    for name, (config, _) in experiments.items():
        folders[name].claim(config, digests(sources[name], BENCHMARKS[config.benchmark].files))
        if dynamics is not None:
            check_observable(config, folders[name], dynamics)
    with ExitStack() as locks:
        whose: dict[Path, str] = {}
        todo: list[Job] = []
        total = 0
        for name, (config, _) in experiments.items():
            locks.enter_context(folders[name].locked())
            mine = _unfinished(config, folders[name], sources[name], dynamics)
            runs = config.seeds * len(config.variants)
            folders[name].note(f"{len(mine)} of {runs} runs to do")
            whose |= {job.folder: name for job in mine}
            todo += mine
            total += runs
        count = total - len(todo)
        if progress is not None:
            progress(count, total, "")

        def done(job: Job, entry: dict[str, Any]) -> None:
            nonlocal count
            count += 1
            name = whose[job.folder]
            line = f"{job.variant.label}, seed {job.seed}"
            folders[name].note(f"{line}: {entry['train_seconds']:.1f} s of training")
            if progress is not None:
                progress(count, total, f"{name}: {line}" if name else line)

        failures = run_all(todo, run_one, processes=jobs if jobs is not None else default_jobs(), done=done)
        for job, failure in failures:
            folders[whose[job.folder]].note(f"failed: {failure}")
        if failures:
            job, failure = failures[0]
            log = experiments[whose[job.folder]][1] / "log.txt"
            raise ConcordError(f"{len(failures)} of {total} runs failed: {failure}; all are in {log}")
        found = {}
        for name, (config, _) in experiments.items():
            found[name] = collect(config, folders[name])
            write_json(folders[name].results, found[name])
            write_json(folders[name].path / "analyses" / "check.json", checks[name])
            if dynamics is not None:
                write_json(folders[name].path / "analyses" / "dynamics.json", collect_dynamics(folders[name].path))
            folders[name].note("results written")
    return found


def _source(config: Config, data: Path | str | None) -> Path | None:
    """Return the data folder of an experiment, or None where nothing is read."""
    return folder_of(config.benchmark, data)


def run_one(job: Job) -> dict[str, Any]:
    """Train and stress one run and write its files; what a worker process does."""
    task = prepare_of(job.config, job.data, seed=job.seed)
    if job.dynamics is None:
        trained = train(task, job.config, job.variant, job.seed)
    else:
        trained = train_observed(task, job)
    stressed = stress(trained.model, task, job.seed)
    entry = {
        "calibrator": job.variant.calibrator,
        "perturbed_training": job.variant.perturbed,
        "seed": job.seed,
        "parameters": sum(p.numel() for p in trained.model.calibrator.parameters()),
        "model_parameters": sum(p.numel() for p in trained.model.parameters()),
        **stressed.scores,
        "best_step": trained.best_step,
        "train_seconds": trained.seconds,
    }
    write_table(job.folder / "predictions.parquet", as_table(stressed, task.test, job.variant, job.seed))
    write_weights(job.folder / "weights.safetensors", trained.model.state_dict(), job)
    write_json(job.folder / "history.json", {"evaluations": trained.history})
    write_json(job.folder / "run.json", entry)  # last: it says that the run is whole
    return entry


def prepare_of(config: Config, data: Path | None, *, seed: int) -> Any:  # noqa: ANN401
    """Return the split of one seed of an experiment."""
    return prepare(config.benchmark, data=data, seed=seed, modalities=config.modalities, protocol=config.protocol)


def write_weights(path: Path, state: dict[str, Any], job: Job) -> None:
    """Write a state dictionary as safetensors, atomically, with the run's name beside it."""
    from safetensors.torch import save_file

    about = {"label": job.variant.label, "seed": str(job.seed), "config": job.config.model_dump_json()}
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(path, lambda temporary: save_file(plain, temporary, metadata=about))


def collect(config: Config, folder: ExperimentFolder) -> dict[str, Any]:
    """Join the files of all runs: write predictions.parquet, return what results.json holds."""
    keys = [(variant, seed) for variant in config.variants for seed in range(config.seeds)]
    table = read_tables([folder.run(variant, seed) / "predictions.parquet" for variant, seed in keys])
    write_table(folder.predictions, table)
    labels = [variant.label for variant in config.variants]
    return {
        "schema": SCHEMA,
        "benchmark": config.benchmark,
        "fusion": config.fusion,
        "config": config.model_dump(mode="json"),
        "versions": versions(),
        "hardware": hardware(),
        "runs": [folder.entry(variant, seed) for variant, seed in keys],
        "comparisons": compare(correctness(table), labels),
    }


def correctness(table: Any) -> Correct:  # noqa: ANN401 - pyarrow has no types
    """Return (label, seed) -> condition -> what was right, from a table of predictions."""
    columns = ["calibrator", "perturbed_training", "seed", "condition", "id", "group", "label", "prediction"]
    plain = {name: table.column(name).to_numpy(zero_copy_only=False) for name in columns}
    label = np.array(
        [Variant(c, bool(p)).label for c, p in zip(plain["calibrator"], plain["perturbed_training"], strict=True)]
    )
    right = agree(plain["label"], plain["prediction"]).astype(np.float64)
    found: dict[tuple[str, int], dict[str, Outcomes]] = {}
    starts = np.flatnonzero(np.r_[True, _changes(label) | _changes(plain["seed"]) | _changes(plain["condition"])])
    for start, stop in zip(starts, [*starts[1:], len(right)], strict=True):
        rows = slice(start, stop)
        groups = None if plain["group"][start] is None else plain["group"][rows].astype(np.str_)
        outcomes = Outcomes(right[rows], plain["id"][rows].astype(np.str_), groups)
        found.setdefault((str(label[start]), int(plain["seed"][start])), {})[plain["condition"][start]] = outcomes
    return found


def _changes(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return where a value differs from the one before it, from the second on."""
    return np.asarray(values[1:] != values[:-1], dtype=np.bool_)


def _unfinished(config: Config, folder: ExperimentFolder, data: Path | None, dynamics: int | None) -> Sequence[Job]:
    """Return the runs that are still to be done, seed by seed, so that a stopped experiment has whole seeds."""
    return [
        # Whoever trains a job sees the recipe that was tuned for its variant, in whichever way it trains.
        Job(config.of(variant), variant, seed, folder.run(variant, seed), data, dynamics)
        for seed in range(config.seeds)
        for variant in config.variants
        if not folder.finished(variant, seed)
    ]
