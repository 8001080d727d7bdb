"""Every trained model asked once, under every condition; what it says of each instance goes to a file beside it.

RUN/runs/<label>/seed-<s>/outcomes.parquet   one row an instance and condition: condition, id, group, label, prediction,
                                             hit, reliability_<modality> (null where it is absent, or gives none);
                                             "validation" has the untouched validation part, which says what is usual
All methods of a seed are shown the same corrupted parts, which are made once for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from concordant.benchmarks.catalogue import folder_of, natures_of, waves_of
from concordant.data.split import AnySplit, Bools, Split, Task
from concordant.errors import ConcordantError, DataError, UsageError
from concordant.files import sha256
from concordant.robustness.answers import write_table
from concordant.robustness.conditions import SplitContext, oracle_name
from concordant.robustness.predict import Predictions, predict
from concordant.study.experiment import Progress
from concordant.training.config import Config, Variant
from concordant.training.folder import ExperimentFolder
from concordant.training.model import build_model
from concordant.training.paired import Job, default_jobs, run_all
from concordant.training.runs import WEIGHTS, load_weights, prepare_of
from studies.paper.conditions import Condition, applied, conditions
from studies.paper.grid import Experiment

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "outcomes.parquet"
VALIDATION = "validation"
ASKED = b"concordant.asked"
TOLD = b"concordant.told"  # kind of corruption -> the condition of its oracle


def stress_all(
    experiments: Sequence[Experiment],
    severities: Sequence[int],
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Ask all models of all experiments what they have not been asked before.

    Args:
        experiments: trained.
        severities: of every kind of corruption, counted from 1.
        data: the data folder.
        jobs: seeds of experiments that go at once; None = one a core.
        progress: called with the finished ones, all of them, and a line about the last one.

    Raises:
        DataError: data or weights cannot be used.
        ConcordantError: some models failed.
    """
    names = {one.folder: one.name for one in experiments}
    everything = [
        Job(one.config, one.config.variants[0], seed, one.folder, folder_of(one.config.benchmark, data))
        for one in experiments
        for seed in range(one.config.seeds)
    ]
    todo = [job for job in everything if open_questions(job, severities)]
    count, total = len(everything) - len(todo), len(everything)

    def done(job: Job, _: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(count, total, f"stress {names[job.folder]}, seed {job.seed}")

    work = partial(stress_seed, tuple(severities))
    failures = run_all(todo, work, processes=jobs if jobs is not None else default_jobs(), done=done)
    if failures:
        raise ConcordantError("; ".join(f"{names[job.folder]}, {sentence}" for job, sentence in failures))


def stress_seed(severities: tuple[int, ...], job: Job) -> dict[str, Any]:
    """Ask the models of one seed; what a worker process does. The job's folder is the experiment's."""
    task = prepare_of(job.config, job.data, seed=job.seed)
    if not isinstance(task.test, Split):
        raise UsageError(f"{job.config.benchmark} is read from disk piece by piece; the proof needs parts in memory")
    folder = ExperimentFolder(job.folder)
    models, answers = {}, {}
    for variant in open_questions(job, severities):
        models[variant] = build_model(task, job.config, variant, job.seed)
        load_weights(models[variant], folder.run(variant, job.seed) / WEIGHTS)
        usual = predict(models[variant].eval(), task.valid)
        nothing = np.zeros_like(usual.present)
        answers[variant] = [_table(VALIDATION, task.valid, usual, nothing, tuple(task.test.shapes))]
    ground = ground_of(task, job)
    told = {kind.name: oracle_name(able) for kind, able in applied(task.test, ground)}
    for shown in conditions(task.test, ground, severities, job.seed):
        for variant, model in models.items():
            answers[variant].append(_rows(shown, predict(model, shown.part)))
    for variant in models:
        run = folder.run(variant, job.seed)
        _write(run, answers[variant], {ASKED: asked_of(run, severities), TOLD: told})
    return {}


def ground_of(task: Task, job: Job) -> SplitContext:
    """Return what corruption needs to know of a task's test part; waveforms where they are at hand."""
    config = job.config
    waves = waves_of(config.benchmark, seed=job.seed, data=job.data, protocol=config.protocol)
    signals = {name: one for name, one in waves.items() if name in config.modalities}
    return SplitContext(task.layouts, natures_of(config.benchmark, job.data), {}, signals)


def open_questions(job: Job, severities: Sequence[int]) -> list[Variant]:
    """Return the variants of a seed that have not been asked so, with the weights that they have now.

    Raises:
        DataError: a file of what they said cannot be used, or weights are not there.
    """
    config: Config = job.config
    folder = ExperimentFolder(job.folder)
    return [one for one in config.variants if not _known(folder.run(one, job.seed), severities)]


def asked_of(run: Path, severities: Sequence[int]) -> dict[str, Any]:
    """Return what a run's file must have been made with to be of use."""
    return {"severities": list(severities), "weights": sha256(run / WEIGHTS)}


def _known(run: Path, severities: Sequence[int]) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run / FILE
    if not path.is_file():
        return False
    try:
        found = (pq.read_schema(path).metadata or {}).get(ASKED)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be used ({error}); remove it to have it made again") from None
    return found is not None and json.loads(found) == asked_of(run, severities)


def _rows(shown: Condition, answer: Predictions) -> pa.Table:
    return _table(shown.name, shown.part, answer, shown.hit, tuple(shown.part.inputs))


def _table(condition: str, part: AnySplit, answer: Predictions, hit: Bools, names: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa

    count, real = len(part), part.labels.dtype.kind == "f"
    victim = np.array([None, *names], dtype=object)[np.where(hit.any(1), hit.argmax(1) + 1, 0)]
    kind = pa.float32() if real else pa.int64()
    groups = [None] * count if part.groups is None else part.groups.tolist()
    columns = {
        "condition": pa.array([condition] * count).dictionary_encode(),
        "id": pa.array(part.ids.tolist(), pa.string()),
        "group": pa.array(groups, pa.string()),
        "label": pa.array(part.labels, kind),
        "prediction": pa.array(answer.predictions(real=real), kind),
        "hit": pa.array(victim.tolist(), pa.string()).dictionary_encode(),
    }
    for column, name in enumerate(names):
        gone = ~answer.present[:, column]
        columns[f"reliability_{name}"] = (
            pa.nulls(count, pa.float32())
            if answer.reliability is None
            else pa.array(answer.reliability[:, column], pa.float32(), mask=gone)
        )
    return pa.table(columns)


def _write(run: Path, tables: Sequence[pa.Table], about: dict[bytes, dict[str, Any]]) -> None:
    import pyarrow as pa

    whole = pa.concat_tables(tables).unify_dictionaries()
    write_table(run / FILE, whole.replace_schema_metadata({key: json.dumps(value) for key, value in about.items()}))
