"""Training dynamics of the runs of a folder: recorded run by run while they train, then joined as dynamics.json.

RUN/runs/<label>/seed-<s>/dynamics.parquet   a long table: step, quantity, of, value (null where undefined)
RUN/runs/<label>/seed-<s>/dynamics-run.json  time and stability of the run
RUN/runs/<label>/seed-<s>/tensorboard/       event files, written at every evaluation
RUN/analyses/dynamics.json                   all of it, with a summary over seeds
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.data.split import Task
from concordant.documents import DynamicsRun, fault_of
from concordant.dynamics.recorder import DEFAULT_EVERY, Record, Recorder, as_series, check_every
from concordant.dynamics.stability import summarise
from concordant.errors import DataError, UsageError, needs_extra
from concordant.files import read_json, reading, write_json
from concordant.robustness.answers import read_tables, write_table
from concordant.training.batches import open_tensors
from concordant.training.config import Config, command_words
from concordant.training.processes import Job
from concordant.training.progress import reporter
from concordant.training.provenance import hardware, versions
from concordant.training.runs import RunFolder
from concordant.training.train import Trained, train

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "concordant.dynamics/1"
COLUMNS = {"step": "whole numbers", "quantity": "text", "of": "text", "value": "numbers?"}
TABLE, SUMMARY, EVENTS = "dynamics.parquet", "dynamics-run.json", "tensorboard"
AGAIN = "remove its folder to run it again"
MOST_POINTS = 1000  # of a series in dynamics.json; the parquet files hold all


def train_observed(task: Task, job: Job) -> Trained:
    """Train one run while recording its dynamics; the weights are equal to those of a run without recording.

    The task is the split of the run's seed. The `seconds` of the trained run leave out the time of recording.

    Raises:
        ConcordantError: training diverged, or TensorBoard is not installed.
    """
    check_able()
    from lightning_fabric.loggers import TensorBoardLogger

    every = DEFAULT_EVERY if job.dynamics is None else job.dynamics
    shutil.rmtree(job.folder / EVENTS, ignore_errors=True)  # of a run that was stopped half-way
    logger = TensorBoardLogger(str(job.folder), name=EVENTS, version="")
    fabric = job.devices.fabric(logger)
    _ = logger.experiment  # opened before the clock starts
    recorder = Recorder(every=every, kind=task.kind, seed=job.seed, log=fabric.log_dict)
    try:
        how: dict[str, Any] = {"fabric": fabric, "devices": job.devices, "progress": reporter(job.folder, job.name)}
        trained = train(task, job.config, job.variant, job.seed, observer=recorder, **how)
        during = recorder.seconds
        start = time.perf_counter()
        final = recorder.finish(trained.model, open_tensors(task.valid).to(fabric.device))
        seconds = trained.seconds + time.perf_counter() - start
    finally:
        logger.finalize("done")
    entry = {
        "label": job.variant.label,
        "seed": job.seed,
        "every": every,
        "seconds": seconds,
        "observing_seconds": recorder.seconds,
        "stability": {**recorder.stability(), **final},
    }
    write_table(job.folder / TABLE, as_table(recorder.records))
    write_json(job.folder / SUMMARY, entry)
    return replace(trained, seconds=trained.seconds - during)


def as_table(records: Sequence[Record]) -> pa.Table:
    """Return records as a table with the columns step, quantity, of, value; NaN is null."""
    import pyarrow as pa

    types = (pa.int64(), pa.string(), pa.string(), pa.float64())
    columns = [[one[place] for one in records] for place in range(len(types))]
    arrays = [pa.array(column, kind, from_pandas=True) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=Record._fields)


def collect_dynamics(folder: Path) -> dict[str, Any]:
    """Return the content of dynamics.json, from the files of all runs of a folder, observed and finished.

    A series of more than 1000 points, the loss of a long run, is thinned evenly; the run's table has all points.

    Raises:
        DataError: a file is absent or cannot be read.
        UsageError: the runs were observed at different distances.
    """
    config = RunFolder(folder).config
    runs, every = [], set()
    for path in _run_folders(config, folder):
        with reading(path / SUMMARY, "JSON", AGAIN):
            entry = read_json(path / SUMMARY)
            every.add(int(entry.pop("every")))
            stability = entry.pop("stability")
        runs.append({**entry, "series": _series(read_tables([path / TABLE], COLUMNS)), "stability": stability})
        if fault := fault_of(runs[-1], DynamicsRun):
            raise DataError(f"{path / SUMMARY} {fault}; {AGAIN}")
    if len(every) != 1:
        raise UsageError(
            f"the runs in {folder} were observed every {' and every '.join(map(str, sorted(every)))} steps, which "
            "makes no one table; name another folder with --out"
        )
    (distance,) = every
    words = [*command_words(config.model_dump()), "--dynamics-every", str(distance), "--out", str(folder)]
    return {
        "schema": SCHEMA,
        "benchmark": config.title,
        "fusion": config.fusion,
        "modalities": list(config.modalities),
        "every": distance,
        "runs": runs,
        "summary": summarise(runs),
        "versions": versions(),
        "hardware": hardware(),
        "command": shlex.join(words),
    }


def check_observable(config: Config, folder: RunFolder, every: int) -> None:
    """Refuse a folder whose finished runs were trained without recording, or recorded at another distance.

    Raises:
        UsageError: names the distance to give; nothing has been trained then.
    """
    for path in _run_folders(config, folder.path):
        if not (path / "run.json").exists():
            continue
        if not (path / SUMMARY).exists():
            raise UsageError(
                f"the runs in {folder.path} were trained without --dynamics; name another folder with --out"
            )
        with reading(path / SUMMARY, "JSON", AGAIN):
            before = read_json(path / SUMMARY)["every"]
        if before != every:
            raise UsageError(
                f"the runs in {folder.path} were observed every {before} steps, not every {every}; "
                f"give --dynamics-every {before}, or name another folder with --out"
            )


def check_able(every: int = DEFAULT_EVERY) -> None:
    """Refuse a distance below 1, or recording without TensorBoard.

    Raises:
        UsageError: the distance is below 1.
        ConcordantError: TensorBoard is not installed.
    """
    check_every(every)
    with needs_extra("experiments", "training dynamics are logged to"):
        import_module("tensorboard")


def _run_folders(config: Config, folder: Path) -> list[Path]:
    """Return the folder of every run, seed by seed, as results.json lists them."""
    experiment = RunFolder(folder)
    return [experiment.run(variant, seed) for variant in config.variants for seed in range(config.seeds)]


def _series(table: pa.Table) -> list[dict[str, Any]]:
    """Return a long table as series, thinned to at most 1000 points each."""
    columns = [table.column(name).to_pylist() for name in ("step", "quantity", "of", "value")]
    found = as_series(zip(*columns, strict=True))
    for entry in found:
        thin = slice(None, None, -(-len(entry["step"]) // MOST_POINTS))
        entry["step"], entry["value"] = entry["step"][thin], entry["value"][thin]
    return found
