"""The whole of `concordant run`: paired training, the stress test of every run, statistics, results on disk.

A run that is finished is never repeated: the same command on the same folder goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from concordant.benchmarks.catalogue import BENCHMARKS, folder_of
from concordant.data.checking import check_task
from concordant.data.split import Task
from concordant.documents import write_document
from concordant.dynamics.runs import check_able, check_observable, collect_dynamics, train_observed
from concordant.errors import ConcordantError, UsageError
from concordant.files import write_atomically, write_json
from concordant.robustness.answers import agree, as_table, ask, read_tables, run_scores, usual_answer, write_table
from concordant.robustness.conditions import run_conditions
from concordant.statistics.bootstrap import Outcomes
from concordant.statistics.comparisons import Correct, compare
from concordant.training.checkpoint import NAME as CHECKPOINT
from concordant.training.checkpoint import Checkpoint
from concordant.training.config import Config, Variant
from concordant.training.devices import Devices, launched
from concordant.training.execution_plan import Pass, Unit, check_vectorise, plan, splits_of
from concordant.training.model import check_encoders, check_labels
from concordant.training.processes import (
    DistributedRunner,
    Job,
    check_distributed,
    default_jobs,
    run_all,
    run_distributed,
)
from concordant.training.provenance import digests, hardware, versions
from concordant.training.runs import RESULTS, RunFolder, prepare_of
from concordant.training.train import Trained, train

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Progress = Callable[[int, int, str], None]


def study(
    config: Config,
    out: Path,
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    dynamics: int | None = None,
    devices: Devices | None = None,
    checkpoint_every: int | None = None,
    vectorise: str = "auto",
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run a paired experiment, or go on with one, and return what results.json holds.

    Args:
        config: the experiment.
        out: its folder.
        data: the data folder; None = the one that CONCORDANT_DATA names, or ../shared/data.
        jobs: runs that go at once; None = one a core.
        progress: called with the finished runs, all runs, and a line about the last one.
        dynamics: observe every so many steps of training, into analyses/dynamics.json; None = do not.
        devices: where every run is trained; None = on one device. Several take one run after another.
        checkpoint_every: write the state of training every so many steps, so that a run that was killed goes on
            from there; None = do not.
        vectorise: train the seeds of a variant in one pass: "auto" where it pays, "on" or an error, "off" never.
        say: called with lines that tell how what is trained.

    Returns:
        Nothing in a process of torchrun or srun that is not the first: it has trained along, and written nothing.

    Raises:
        UsageError: the folder belongs to another configuration, `jobs` or `dynamics` is not positive, finished
            runs were not observed as `dynamics` says, or `vectorise` is unknown, or "on" where it cannot be.
        DataError: the data are absent or cannot be used; nothing has been trained then.
        ConcordantError: some runs failed; the others are kept.
    """
    how: dict[str, Any] = {"devices": devices, "checkpoint_every": checkpoint_every, "vectorise": vectorise, "say": say}
    found = study_all({"": (config, out)}, data=data, jobs=jobs, progress=progress, dynamics=dynamics, **how)
    return found.get("", {})


def study_all(
    experiments: Mapping[str, tuple[Config, Path]],
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    dynamics: int | None = None,
    devices: Devices | None = None,
    checkpoint_every: int | None = None,
    vectorise: str = "auto",
    say: Callable[[str], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Run several paired experiments as one pool of runs; return what each results.json holds, by name.

    Args:
        experiments: name, which stands in the lines of progress -> the experiment and its folder.
        data: the data folder; None = the one that CONCORDANT_DATA names, or ../shared/data.
        jobs: runs that go at once; None = one a core.
        progress: called with the finished runs, all runs, and a line about the last one.
        dynamics: observe every so many steps of training, into analyses/dynamics.json; None = do not.
        devices: where every run is trained; None = on one device. Several take one run after another.
        checkpoint_every: steps from one checkpoint of a run's training to the next; None = write none.
        vectorise: train the seeds of a variant in one pass: "auto" where it pays, "on" or an error, "off" never.
        say: called with lines that tell how what is trained.

    Returns, raises: as for `study`.
    """
    devices = Devices() if devices is None else devices
    check_distributed(devices, [config for config, _ in experiments.values()], jobs, dynamics, checkpoint_every)
    if launched() is None:
        return _study_all(experiments, data, jobs, progress, dynamics, devices, checkpoint_every, None, vectorise, say)
    crew = DistributedRunner(devices)
    if not crew.first:
        crew.follow(_every_job(experiments, data, devices, checkpoint_every), run_one)
        return {}
    with crew.leading():
        return _study_all(experiments, data, jobs, progress, dynamics, devices, checkpoint_every, crew, vectorise, say)


def _study_all(
    experiments: Mapping[str, tuple[Config, Path]],
    data: Path | str | None,
    jobs: int | None,
    progress: Progress | None,
    dynamics: int | None,
    devices: Devices,
    checkpoint_every: int | None,
    crew: DistributedRunner | None,
    vectorise: str,
    say: Callable[[str], None] | None,
) -> dict[str, dict[str, Any]]:
    """Do what `study_all` does, in the process that writes; `crew` are those that train along, if they are there."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be 1 or more, the runs that go at once; found {jobs}")
    if dynamics is not None:
        check_able(dynamics)
    check_vectorise(vectorise)
    processes = jobs if jobs is not None else default_jobs()
    sources = {name: _source(config, data) for name, (config, _) in experiments.items()}
    checks: dict[str, dict[str, Any]] = {}
    for name, (config, _) in experiments.items():
        # Faults of the data show here, before a folder is taken.
        task = prepare_of(config, sources[name], seed=0)
        check_encoders(task, config)
        check_labels(task, config)
        checks[name] = check_task(task, f"{config.benchmark}, {config.protocol}, seed 0")
    folders = {name: RunFolder(out) for name, (_, out) in experiments.items()}
    for name, (config, _) in experiments.items():
        folders[name].claim(config, digests(sources[name], BENCHMARKS[config.benchmark].files), devices.numerics())
        if dynamics is not None:
            check_observable(config, folders[name], dynamics)
    with ExitStack() as locks:
        whose: dict[Path, str] = {}
        todo: list[Unit] = []
        shared: list[Job] = []  # the same runs, one by one
        total, count = 0, 0
        for name, (config, _) in experiments.items():
            locks.enter_context(folders[name].locked())
            mine = [
                replace(job, dynamics=dynamics, devices=devices, checkpoint_every=checkpoint_every)
                for job in _jobs(config, folders[name], sources[name])
                if not folders[name].finished(job.variant, job.seed)
            ]
            runs = config.seeds * len(config.variants)
            folders[name].note(f"{len(mine)} of {runs} runs to do")
            whose |= {job.folder: name for job in mine}
            prefix = f"{name}: " if name else ""
            units, lines = plan(mine, _prepared, vectorise=vectorise, processes=processes, prefix=prefix)
            for line in lines:
                folders[name].note(line.removeprefix(prefix))
                if say is not None:
                    say(line)
            todo += units
            shared += mine
            total, count = total + runs, count + runs - len(mine)
        if progress is not None:
            progress(count, total, "")

        failed: list[tuple[Path, str]] = []

        def done(unit: Unit, found: dict[str, Any]) -> None:
            nonlocal count
            where = whose[jobs_of(unit)[0].folder]
            for line in found["notes"]:
                folders[where].note(f"{unit.name}: {line}")
            for job in jobs_of(unit):
                if job.seed in found["failures"]:
                    failed.append((job.folder, f"{job.name}: {found['failures'][job.seed]}"))
                    continue
                count += 1
                entry = found["entries"][job.seed]
                waiting = f"{entry['loading_share']:.0%} of it waiting for data"
                folders[where].note(f"{job.name}: {entry['train_seconds']:.1f} s of training, {waiting}")
                if progress is not None:
                    progress(count, total, f"{where}: {job.name}" if where else job.name)

        def done_one(job: Job, entry: dict[str, Any]) -> None:
            done(job, {"entries": {job.seed: entry}, "failures": {}, "notes": []})

        if crew is not None:
            failures: Sequence[tuple[Unit, str]] = crew.lead(shared, run_one, done=done_one)
        elif devices.size > 1:
            failures = run_distributed(shared, run_one, devices, done=done_one)
        else:
            failures = run_all(todo, run_unit, processes=processes, done=done)
        failed += [(jobs_of(unit)[0].folder, failure) for unit, failure in failures]
        for folder, failure in failed:
            folders[whose[folder]].note(f"failed: {failure}")
        if failed:
            folder, failure = failed[0]
            log = experiments[whose[folder]][1] / "log.txt"
            raise ConcordantError(f"{len(failed)} of {total} runs failed: {failure}; all are in {log}")
        found = {}
        for name, (config, _) in experiments.items():
            found[name] = collect(config, folders[name])
            write_document(folders[name].results, "results", found[name])
            write_document(folders[name].path / "analyses" / "check.json", "check", checks[name])
            if dynamics is not None:
                document = collect_dynamics(folders[name].path)
                write_document(folders[name].path / "analyses" / "dynamics.json", "dynamics", document)
            folders[name].note("results written")
    return found


def jobs_of(unit: Unit) -> tuple[Job, ...]:
    """Return the runs of a unit of work."""
    return unit.jobs if isinstance(unit, Pass) else (unit,)


def _prepared(job: Job) -> Task:
    task: Task = prepare_of(job.config, job.data, seed=job.seed)
    return task


def _source(config: Config, data: Path | str | None) -> Path | None:
    """Return the data folder of an experiment, or None where nothing is read."""
    return folder_of(config.benchmark, data)


def run_unit(unit: Unit) -> dict[str, Any]:
    """Do a run, or a pass of several; what a worker process does.

    Returns:
        "entries": seed -> what its run.json holds; "failures": seed -> a sentence; "notes": lines for the log.
    """
    if isinstance(unit, Pass):
        return run_pass(unit)
    return {"entries": {unit.seed: run_one(unit)}, "failures": {}, "notes": []}


def run_pass(unit: Pass) -> dict[str, Any]:
    """Train runs of one variant together, those alone that cannot or that diverge; stress them, write their files."""
    from concordant.training.many_seeds import alike, train_together

    jobs = {job.seed: job for job in unit.jobs}
    first = unit.jobs[0]
    config = first.config
    tasks = splits_of(config.benchmark, config.protocol, config.modalities, first.data, tuple(jobs))
    found: dict[str, Any] = {"entries": {}, "failures": {}, "notes": []}
    for seeds in alike(tasks, first.config.recipe.batch):
        trained: dict[int, Trained] = {}
        if len(seeds) > 1:
            try:
                trained = train_together(
                    [tasks[seed] for seed in seeds], first.config, first.variant, seeds, device=first.devices.kind
                )
            except ConcordantError as error:
                found["notes"].append(f"one after another, since {error}")
        else:
            found["notes"].append(f"seed {seeds[0]} alone, since its batches have a shape of their own")
        for seed in seeds:
            try:
                if seed in trained:
                    done = finish(jobs[seed], tasks[seed], trained.pop(seed), vectorised=len(seeds))
                else:
                    done = run_one(jobs[seed])
                found["entries"][seed] = done
            except ConcordantError as error:
                found["failures"][seed] = str(error)
    return found


def run_one(job: Job, fabric: Fabric | None = None) -> dict[str, Any]:
    """Train and stress one run and write its files; what a worker process does with one.

    Args:
        job: the run.
        fabric: connects the processes that train it together; the first of them does all else. None = this one alone.

    Returns:
        The run's entry; nothing in a process that is not the first.
    """
    task = prepare_of(job.config, job.data, seed=job.seed)
    checkpoint = checkpoint_of(job)
    if job.dynamics is None:
        trained = train(
            task, job.config, job.variant, job.seed, fabric=fabric, devices=job.devices, checkpoint=checkpoint
        )
    else:
        trained = train_observed(task, job)
    if fabric is not None and not fabric.is_global_zero:
        return {}
    done = finish(job, task, trained)
    checkpoint.remove()
    return done


def finish(job: Job, task: Task, trained: Trained, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Stress a trained run and write its files; `more` is recorded of it too."""
    answers = ask(trained.model, task.test, run_conditions(task.test, task.layouts, job.seed))
    entry = {
        "calibrator": job.variant.calibrator,
        "perturbed_training": job.variant.perturbed,
        "seed": job.seed,
        "parameters": sum(p.numel() for p in trained.model.calibrator.parameters()),
        "model_parameters": sum(p.numel() for p in trained.model.parameters()),
        **run_scores(answers, usual_answer(trained.model, task.valid)),
        "best_step": trained.best_step,
        "train_seconds": trained.seconds,
        "loading_share": round(trained.loading_share, 4),
        "devices": job.devices.record(),
        **more,
    }
    write_table(job.folder / "predictions.parquet", as_table(answers, job.variant, job.seed))
    write_weights(job.folder / "weights.safetensors", trained.model.state_dict(), job)
    write_json(job.folder / "history.json", {"evaluations": trained.history})
    write_json(job.folder / "run.json", entry)  # last: it says that the run is whole
    return entry


def write_weights(path: Path, state: dict[str, Any], job: Job) -> None:
    """Write a state dictionary as safetensors, atomically, with the run's name beside it."""
    from safetensors.torch import save_file

    about = {"label": job.variant.label, "seed": str(job.seed), "config": job.config.model_dump_json()}
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(path, lambda temporary: save_file(plain, temporary, metadata=about))


def collect(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Join the files of all runs: write predictions.parquet, return what results.json holds."""
    keys = [(variant, seed) for variant in config.variants for seed in range(config.seeds)]
    table = read_tables([folder.run(variant, seed) / "predictions.parquet" for variant, seed in keys])
    write_table(folder.predictions, table)
    labels = [variant.label for variant in config.variants]
    return {
        "schema": RESULTS,
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


def checkpoint_of(job: Job) -> Checkpoint:
    """Return where the state of a run's training lies while it is not whole."""
    about = {
        "config": job.config.model_dump_json(),
        "numerics": json.dumps(job.devices.numerics(), sort_keys=True),
        "label": job.variant.label,
        "seed": str(job.seed),
    }
    return Checkpoint(job.folder / CHECKPOINT, about, job.checkpoint_every)


def _jobs(config: Config, folder: RunFolder, data: Path | None) -> list[Job]:
    """Return all runs, seed by seed, so that a stopped experiment has whole seeds."""
    return [
        # Whoever trains a job sees the recipe that was tuned for its variant, in whichever way it trains.
        Job(config.of(variant), variant, seed, folder.run(variant, seed), data)
        for seed in range(config.seeds)
        for variant in config.variants
    ]


def _every_job(
    experiments: Mapping[str, tuple[Config, Path]], data: Path | str | None, devices: Devices, every: int | None
) -> list[Job]:
    """Return the runs of all experiments, whether they are done or not."""
    return [
        replace(job, devices=devices, checkpoint_every=every)
        for config, out in experiments.values()
        for job in _jobs(config, RunFolder(out), _source(config, data))
    ]
