"""One unit of work in a worker process: train a run, or several seeds in one pass, stress it, and write its files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.data.split import Task
from concordant.dynamics.runs import train_observed
from concordant.errors import ConcordantError, DataError
from concordant.files import write_atomically, write_json
from concordant.robustness.answers import as_table, evaluate, run_scores, usual_answer, write_table
from concordant.robustness.conditions import run_conditions
from concordant.robustness.predict import Model
from concordant.study.baselines import LATE, LateFusion
from concordant.training.checkpoint import NAME as CHECKPOINT
from concordant.training.checkpoint import Checkpoint
from concordant.training.execution_plan import Pass, Unit, splits_of
from concordant.training.processes import Job
from concordant.training.progress import reporter
from concordant.training.runs import identity, prepare_of
from concordant.training.train import Trained, train

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def jobs_of(unit: Unit) -> tuple[Job, ...]:
    """Return the runs of a unit of work."""
    return unit.jobs if isinstance(unit, Pass) else (unit,)


def prepared(job: Job) -> Task:
    """Return the splits of a run, with its own modalities."""
    return _whole(job).only(job.config.modalities)


def _whole(job: Job) -> Task:
    """Return the splits of a run with all modalities of the experiment; a modality alone shares them."""
    return prepare_of(job.whole if job.whole is not None else job.config, job.data, seed=job.seed)


def run_unit(unit: Unit) -> dict[str, Any]:
    """Do a run, or a pass of several, in a worker process.

    Returns:
        "entries": seed -> what its run.json holds; "failures": seed -> a sentence; "notes": lines for the log.
    """
    if isinstance(unit, Pass):
        return run_pass(unit)
    work = run_late if unit.variant == LATE else run_one
    return {"entries": {unit.seed: work(unit)}, "failures": {}, "notes": []}


def run_pass(unit: Pass) -> dict[str, Any]:
    """Train runs of one variant in one pass, or one by one if that fails; stress them and write their files."""
    from concordant.training.many_seeds import alike, train_together

    jobs = {job.seed: job for job in unit.jobs}
    first = unit.jobs[0]
    config = first.whole if first.whole is not None else first.config
    whole = splits_of(config.benchmark, config.protocol, config.modalities, first.data, unit.seeds)
    tasks = {seed: task.only(first.config.modalities) for seed, task in whole.items()}
    found: dict[str, Any] = {"entries": {}, "failures": {}, "notes": []}
    for seeds in alike(tasks, first.config.recipe):
        trained: dict[int, Trained] = {}
        wanted = [seed for seed in seeds if seed in jobs]
        checkpoint = checkpoint_of(first, seeds)
        if wanted and len(seeds) > 1:
            try:
                trained = train_together(
                    [tasks[seed] for seed in seeds],
                    first.config,
                    first.variant,
                    seeds,
                    device=first.devices.kind,
                    checkpoint=checkpoint,
                    progress=reporter(jobs[wanted[0]].folder, unit.name, len(wanted)),
                )
            except DataError:
                raise
            except ConcordantError as error:
                found["notes"].append(f"one after another, since {error}")
        elif wanted:
            found["notes"].append(f"seed {seeds[0]} alone, since its batches have a shape of their own")
        for seed in wanted:
            try:
                if seed in trained:
                    done = finish(jobs[seed], tasks[seed], trained.pop(seed), vectorised=len(seeds))
                else:
                    done = run_one(jobs[seed])
                found["entries"][seed] = done
            except ConcordantError as error:
                found["failures"][seed] = str(error)
        if not found["failures"]:
            checkpoint.remove()
    return found


def run_one(job: Job, fabric: Fabric | None = None) -> dict[str, Any]:
    """Train and stress one run and write its files.

    Args:
        job: the run.
        fabric: connects the processes that train it together, of which the first does all else; None = one process.

    Returns:
        The run's entry; an empty dictionary in a process other than the first.
    """
    task = prepared(job)
    checkpoint = checkpoint_of(job)
    if job.dynamics is not None:
        trained = train_observed(task, job)
    else:
        how: dict[str, Any] = {"fabric": fabric, "devices": job.devices, "checkpoint": checkpoint}
        progress = reporter(job.folder, job.name)
        trained = train(task, job.config, job.variant, job.seed, progress=progress, **how)
    if fabric is not None and not fabric.is_global_zero:
        return {}
    done = finish(job, task, trained)
    checkpoint.remove()
    return done


def finish(job: Job, task: Task, trained: Trained, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Stress a trained run and write its files; `more` goes into its entry."""
    if job.variant.only:
        task = _whole(job)
        at_best = next(one for one in trained.history if one["step"] == trained.best_step)
        more |= {"modality": job.variant.only, "validation": at_best["validation"]}
    entry = {
        **identity(job.config, job.variant, job.seed),
        "parameters": sum(p.numel() for p in trained.model.calibrator.parameters()),
        "model_parameters": sum(p.numel() for p in trained.model.parameters()),
        **_stressed(job, trained.model, task),
        "best_step": trained.best_step,
        "train_seconds": trained.seconds,
        "loading_share": round(trained.loading_share, 4),
        "devices": job.devices.record(),
        **more,
    }
    write_weights(job.folder / "weights.safetensors", trained.model.state_dict(), job)
    write_json(job.folder / "history.json", {"evaluations": trained.history})
    write_json(job.folder / "run.json", entry)  # last: its presence marks the run as finished
    return entry


def run_late(job: Job) -> dict[str, Any]:
    """Fit and stress the late fusion of one seed and write its files; return its entry."""
    start = time.perf_counter()
    task = _whole(job)
    model = LateFusion(task)
    seconds = time.perf_counter() - start
    entry = {
        **identity(job.config, job.variant, job.seed),
        "parameters": 0,
        "model_parameters": 0,
        **_stressed(job, model, task),
        "train_seconds": seconds,
        "loading_share": 0.0,
    }
    write_json(job.folder / "run.json", entry)
    return entry


def _stressed(job: Job, model: Model, task: Task) -> dict[str, Any]:
    """Return the scores of a run under all conditions in which it has a modality, and write its predictions."""
    only = job.variant.only
    conditions = [one for one in run_conditions(task.test, task.layouts, job.seed) if one.name != f"removal.{only}"]
    answers = evaluate(model, task.test, conditions, only=only)
    write_table(job.folder / "predictions.parquet", as_table(answers, job.variant, job.seed))
    return run_scores(answers, usual_answer(model, task.valid, only=only))


def write_weights(path: Path, state: dict[str, Any], job: Job) -> None:
    """Write a state dictionary as safetensors, atomically, with the run's name beside it."""
    from safetensors.torch import save_file

    about = {"label": job.variant.label, "seed": str(job.seed), "config": job.config.model_dump_json()}
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(path, lambda temporary: save_file(plain, temporary, metadata=about))


def checkpoint_of(job: Job, seeds: Sequence[int] = ()) -> Checkpoint:
    """Return the checkpoint of a run's training, or of the pass of these seeds, until they are finished."""
    about = {
        "config": job.config.model_dump_json(),
        "numerics": json.dumps(job.devices.numerics(), sort_keys=True),
        "label": job.variant.label,
    }
    if seeds:
        path, own = job.folder.parent / f"pass-{seeds[0]}.pt", {"seeds": ",".join(map(str, seeds))}
    else:
        path, own = job.folder / CHECKPOINT, {"seed": str(job.seed)}
    return Checkpoint(path, about | own, job.checkpoint_every)
