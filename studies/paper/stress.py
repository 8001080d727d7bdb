"""Every trained model evaluated once under every condition; its answers go to a file beside its run.

RUN/runs/LABEL/seed-S/outcomes.parquet   the library's table of answers (concordant.robustness.answers) under clean, all
                                         kinds of corruption, their oracles and removals; "validation" has the clean
                                         validation split, the reference of reliabilities
All methods of a seed get equal corrupted splits, which are made once for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from concordant.benchmarks.catalogue import folder_of, natures_of, waves_of
from concordant.data.split import Split
from concordant.errors import ConcordantError, DataError, UsageError
from concordant.files import sha256
from concordant.robustness.answers import as_table, evaluate, write_table
from concordant.robustness.conditions import (
    Condition,
    SplitContext,
    check_kinds,
    clean,
    oracle_name,
    removal,
    stress_conditions,
)
from concordant.robustness.corruptions import KINDS
from concordant.study.experiment import Execution
from concordant.training.config import Variant
from concordant.training.model import build_model
from concordant.training.processes import Job
from concordant.training.runs import WEIGHTS, RunFolder, load_weights, prepare_of
from studies.paper.grid import Experiment
from studies.paper.jobs import do_missing

FILE = "outcomes.parquet"
VALIDATION = "validation"
CONTROL = "same-class-swap"  # its donors are of the instance's class: it should cost nothing
REQUEST = b"concordant.answers"  # what `request_of` returns
ORACLES = b"concordant.oracles"  # kind of corruption -> the condition of its oracle


def stress_all(experiments: Sequence[Experiment], severities: Sequence[int], how: Execution) -> None:
    """Evaluate all models of trained experiments whose answers are not there yet.

    Args:
        experiments: trained.
        severities: of every kind of corruption, counted from 1.
        how: data folder, seeds of experiments evaluated at once, progress.

    Raises:
        DataError: data or weights cannot be used.
        ConcordantError: some models failed.
    """
    names = {one.folder: one.name for one in experiments}
    jobs = [
        Job(one.config, one.config.variants[0], seed, one.folder, folder_of(one.config.benchmark, how.data))
        for one in experiments
        for seed in range(one.config.seeds)
    ]
    failures = do_missing(
        jobs,
        lambda job: not unanswered(job, severities),
        partial(stress_seed, tuple(severities)),
        how,
        lambda job: f"stress {names[job.folder]}, seed {job.seed}",
    )
    if failures:
        raise ConcordantError("; ".join(f"{names[job.folder]}, {sentence}" for job, sentence in failures))


def stress_seed(severities: tuple[int, ...], job: Job) -> dict[str, Any]:
    """Evaluate the models of one seed in a worker process; the job's folder is the experiment's."""
    import pyarrow as pa

    config = job.config
    task = prepare_of(config, job.data, seed=job.seed)
    test = task.test
    if not isinstance(test, Split):
        raise UsageError(f"{config.benchmark} is read from disk piece by piece; the study needs parts in memory")
    waves = waves_of(config.benchmark, seed=job.seed, data=job.data, protocol=config.protocol)
    signals = {name: one for name, one in waves.items() if name in config.modalities}
    context = SplitContext(task.layouts, natures_of(config.benchmark, job.data), {}, signals)
    folder, models, tables = RunFolder(job.folder), {}, {}
    for variant in unanswered(job, severities):
        models[variant] = build_model(task, config, variant, job.seed)
        load_weights(models[variant], folder.run(variant, job.seed) / WEIGHTS)
        usual = evaluate(models[variant], task.valid, [replace(clean(), name=VALIDATION)])
        tables[variant] = [as_table(usual, variant, job.seed)]
    for condition in conditions(test, context, severities, job.seed):
        shown = condition.change(test, None)
        for variant, model in models.items():
            answers = evaluate(model, test, [Condition(condition.name, lambda *_, shown=shown: shown)])
            tables[variant].append(as_table(answers, variant, job.seed))
    able = {name: context.able(KINDS[name], test.shapes) for name in KINDS}
    oracles = {name: oracle_name(names) for name, names in able.items() if names}
    for variant, found in tables.items():
        run = folder.run(variant, job.seed)
        about = {REQUEST: request_of(run, severities), ORACLES: oracles}
        whole = pa.concat_tables(found).unify_dictionaries()
        write_table(run / FILE, whole.replace_schema_metadata({key: json.dumps(value) for key, value in about.items()}))
    return {}


def conditions(split: Split, context: SplitContext, severities: Sequence[int], seed: int) -> Iterator[Condition]:
    """Yield the conditions of the study: clean, all kinds of corruption, their oracles, each modality removed."""
    yield from stress_conditions(split, context, check_kinds(None), seed, severities=severities)
    yield from map(removal, split.inputs)


def unanswered(job: Job, severities: Sequence[int]) -> list[Variant]:
    """Return the variants of a seed without answers at these severities from their present weights.

    Raises:
        DataError: a file of answers cannot be used, or weights are absent.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    missing = []
    for variant in job.config.variants:
        run, found = RunFolder(job.folder).run(variant, job.seed), None
        path = run / FILE
        if path.is_file():
            try:
                found = (pq.read_schema(path).metadata or {}).get(REQUEST)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"{path} cannot be used ({error}); remove it to have it made again") from None
        if found is None or json.loads(found) != request_of(run, severities):
            missing.append(variant)
    return missing


def request_of(run: Path, severities: Sequence[int]) -> dict[str, Any]:
    """Return what defines the answers of a run: severities and the digest of its weights."""
    return {"severities": list(severities), "weights": sha256(run / WEIGHTS)}
