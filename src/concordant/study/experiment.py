"""The whole of `concordant run`: paired training, the stress test of every run, statistics, results on disk.

A finished run is never repeated: given again on the same folder, the command resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.benchmarks.catalogue import BENCHMARKS, folder_of, open_prepared, share_prepared
from concordant.data.checking_splits import check_task
from concordant.data.findings import Finding, refuse
from concordant.data.sharing import SharedTask
from concordant.documents import write_document
from concordant.dynamics.runs import check_able, check_observable, collect_dynamics
from concordant.errors import ConcordantError, UsageError
from concordant.robustness.answers import (
    correctness,
    read_tables,
    write_table,
)
from concordant.statistics.comparisons import compare, measured_everywhere
from concordant.study.baselines import BASELINES, BEST_ALONE, LATE, LATE_FUSION
from concordant.study.leakage import check_features
from concordant.study.work import jobs_of, prepared, run_one, run_unit
from concordant.training.config import Config, Variant
from concordant.training.devices import Devices, launched
from concordant.training.distributed import DistributedRunner, check_distributed, run_distributed
from concordant.training.execution_plan import Unit, check_vectorise, plan
from concordant.training.model import check_encoders, check_labels
from concordant.training.processes import Job, default_jobs, run_all
from concordant.training.progress import Progress, Underway, Within
from concordant.training.provenance import digests, hardware, versions
from concordant.training.runs import ANALYSES, RESULTS, RunFolder

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Execution:
    """How the runs of an experiment are carried out; none of it changes results by more than rounding.

    Args:
        data: the data folder; None = the one that CONCORDANT_DATA names, or the user's.
        jobs: number of concurrent runs; None = one per core.
        progress: called with the finished runs, all runs, and a line about the last one.
        within: called a few times a second with the finished share of the runs in training, in runs, and a line that
            has their steps.
        dynamics: record training dynamics every so many steps, into analyses/dynamics.json; None = do not.
        devices: where every run is trained; several devices take one run after another.
        checkpoint_every: steps from one checkpoint of a training to the next, from which an interrupted command
            resumes; None = once a minute, where one process trains.
        vectorise: train the seeds of a variant in one pass: "auto" where it pays, "on" or an error, "off" never.
        baselines: train each modality alone and fit a late fusion as well (`concordant.study.baselines`).
        say: called with one line per way of training.
    """

    data: Path | str | None = None
    jobs: int | None = None
    progress: Progress | None = None
    within: Within | None = None
    dynamics: int | None = None
    devices: Devices | None = None
    checkpoint_every: int | None = None
    vectorise: str = "auto"
    baselines: bool = True
    say: Callable[[str], None] | None = None

    def check(self, configs: Sequence[Config]) -> None:
        """Refuse options that cannot be used, or not together.

        Raises:
            UsageError: names the faults.
            ConcordantError: dynamics are to be recorded, and TensorBoard is not installed.
        """
        check_distributed(self.device, configs, self.jobs, self.dynamics, self.checkpoint_every)
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"jobs must be 1 or more, the number of runs at a time; found {self.jobs}")
        if self.dynamics is not None:
            check_able(self.dynamics)
        check_vectorise(self.vectorise)

    @property
    def device(self) -> Devices:
        """The devices; one by default."""
        return Devices() if self.devices is None else self.devices


@dataclass(frozen=True)
class _Experiment:
    """One experiment of a pool: its name in lines of progress, its configuration, and its folder."""

    name: str
    config: Config
    out: Path
    how: Execution

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder(self.out)

    @cached_property
    def source(self) -> Path | None:
        """The data folder; None for a benchmark that reads no files."""
        return folder_of(self.config.benchmark, self.how.data)

    @cached_property
    def jobs(self) -> list[Job]:
        """All runs, seed by seed: an interrupted experiment has whole seeds."""
        return [
            self._job(one, seed)
            for seed in range(self.config.seeds)
            for one in (*self.config.variants, *(self.config.alone if self.how.baselines else ()))
        ]

    @cached_property
    def late(self) -> list[Job]:
        """The late fusion of every seed, which is not trained by steps; none for a single modality."""
        seeds = range(self.config.seeds) if self.how.baselines and self.config.alone else ()
        return [self._job(LATE, seed) for seed in seeds]

    def _job(self, one: Variant, seed: int) -> Job:
        # `config.of` gives each variant the recipe that was tuned for it.
        how, own = self.how, one in self.config.variants
        return Job(
            self.config.of(one),
            one,
            seed,
            self.folder.run(one, seed),
            self.source,
            dynamics=how.dynamics if own else None,
            devices=how.device,
            checkpoint_every=how.checkpoint_every,
            whole=self.config,
        )

    def shared(self) -> tuple[Any, SharedTask] | None:
        """Move the data to where worker processes can map them, where that is possible."""
        config = self.config
        how = {"data": self.source, "modalities": config.modalities, "protocol": config.protocol}
        return share_prepared(config.benchmark, **how)

    @property
    def prefix(self) -> str:
        """Beginning of lines about it in a pool of several experiments."""
        return f"{self.name}: " if self.name else ""

    def check(self) -> dict[str, Any]:
        """Check the data before a folder is taken; return what check.json holds."""
        task = prepared(self.jobs[0])
        check_encoders(task, self.config)
        check_labels(task, self.config)
        fitted = check_features(task) if self.how.baselines else None
        more = () if fitted is None else (fitted,)
        found = check_task(task, f"{self.config.title}, {self.config.protocol}, seed 0", more)
        refuse(found["folder"], (Finding(**one) for one in found["findings"]))
        for one in found["findings"]:
            if one["level"] == "warning" and self.how.say is not None:
                self.how.say(f"{self.prefix}warning: {one['subject']}: {one['text']}")
        return found

    def claim(self) -> None:
        """Take the folder, or see that it belongs to this experiment."""
        files = digests(self.source, BENCHMARKS[self.config.benchmark].files)
        self.folder.claim(self.config, files, self.how.device.numerics())
        if self.how.dynamics is not None:
            check_observable(self.config, self.folder, self.how.dynamics)

    def write(self, checks: dict[str, Any]) -> dict[str, Any]:
        """Join the files of all runs and write the documents of the experiment; return what results.json holds."""
        found = collect(self.config, self.folder, baselines=bool(self.late))
        write_document(self.folder.results, "results", found)
        write_document(self.out / ANALYSES / "check.json", "check", checks)
        if self.how.dynamics is not None:
            write_document(self.out / ANALYSES / "dynamics.json", "dynamics", collect_dynamics(self.out))
        for left in self.out.glob("runs/*/pass-*.pt"):  # of passes whose runs were then trained one by one
            left.unlink()
        self.folder.note("results written")
        return found


def study(config: Config, out: Path, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Run a paired experiment, or resume one, and return what results.json holds.

    Args:
        config: the experiment.
        out: its folder.
        options: the fields of `Execution`.

    Returns:
        An empty dictionary in a process of torchrun or srun other than the first, which trains along and writes
        nothing.

    Raises:
        UsageError: the folder belongs to another configuration, `jobs` or `dynamics` is not positive, finished
            runs were not observed as `dynamics` says, or `vectorise` is unknown, or "on" where it is impossible.
        DataError: the data are absent or cannot be used; nothing has been trained then.
        ConcordantError: some runs failed; the others are kept.
    """
    return study_all({"": (config, out)}, **options).get("", {})


def study_all(experiments: Mapping[str, tuple[Config, Path]], **options: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    """Run several paired experiments as one pool of runs; return what each results.json holds, by name.

    Args:
        experiments: name, as it stands in the lines of progress -> the experiment and its folder.
        options: the fields of `Execution`.

    Returns, raises: as for `study`.
    """
    how = Execution(**options)
    how.check([config for config, _ in experiments.values()])
    pool = [_Experiment(name, config, out, how) for name, (config, out) in experiments.items()]
    if launched() is None:
        return _run(pool, how, None)
    runner = DistributedRunner(how.device)
    if not runner.first:
        runner.follow([job for one in pool for job in one.jobs], run_one)
        return {}
    with runner.leading():
        return _run(pool, how, runner)


def _run(pool: Sequence[_Experiment], how: Execution, runner: DistributedRunner | None) -> dict[str, dict[str, Any]]:
    """Do the unfinished runs of all experiments and write their results; `runner` connects several processes."""
    processes = how.jobs if how.jobs is not None else default_jobs()
    checks = {one.name: one.check() for one in pool}
    with ExitStack() as locks:
        for one in pool:
            locks.enter_context(one.folder.locked())
            one.claim()
        units: list[Unit] = []
        single: list[Job] = []  # the runs of all units
        late: list[Job] = []
        for one in pool:
            todo = [job for job in one.jobs if not one.folder.finished(job.variant, job.seed)]
            one.folder.note(f"{len(todo)} of {len(one.jobs)} runs to do")
            planned, lines = plan(todo, prepared, vectorise=how.vectorise, processes=processes, prefix=one.prefix)
            for line in lines:
                one.folder.note(line.removeprefix(one.prefix))
                if how.say is not None:
                    how.say(line)
            units += planned
            single += todo
            late += [job for job in one.late if not one.folder.finished(job.variant, job.seed)]
        ledger = _Ledger(pool, how, remaining=len(single) + len(late))
        reached = ledger.underway.reach
        failures: Sequence[tuple[Unit, str]]
        if runner is not None:
            failures = runner.lead(single, run_one, done=ledger.enter, reached=reached)
        elif how.device.size > 1:
            failures = run_distributed(single, run_one, how.device, done=ledger.enter, reached=reached)
        else:
            begin = None
            if processes > 1 and len(units) + len(late) > 1:
                shared = [one for one in (experiment.shared() for experiment in pool) if one is not None]
                for _, task in shared:
                    locks.callback(task.close)
                begin = partial(open_prepared, shared) if shared else None
            options: dict[str, Any] = {"processes": processes, "done": ledger.enter_unit}
            failures = run_all([*units, *late], run_unit, reached=reached, begin=begin, **options)
            late = []
        failures = [*failures, *run_all(late, run_unit, processes=processes, done=ledger.enter_unit)]
        ledger.close(failures)
        return {one.name: one.write(checks[one.name]) for one in pool}


class _Ledger:
    """Count the finished runs of a pool, log them, and keep the failures."""

    def __init__(self, pool: Sequence[_Experiment], how: Execution, *, remaining: int) -> None:
        self.of = {job.folder: one for one in pool for job in (*one.jobs, *one.late)}
        self.progress = how.progress
        self.underway = Underway(how.within, lambda folder: self.of[folder].prefix)
        self.total = len(self.of)
        self.count = self.total - remaining
        self.failed: list[tuple[Job, str]] = []
        if self.progress is not None:
            self.progress(self.count, self.total, "")

    def enter(self, job: Job, entry: dict[str, Any]) -> None:
        """Enter a finished run."""
        one = self.of[job.folder]
        self.count += 1
        self.underway.end(job.folder)
        waiting = f"{entry['loading_share']:.0%} of it waiting for data"
        one.folder.note(f"{job.name}: {entry['train_seconds']:.1f} s of training, {waiting}")
        if self.progress is not None:
            self.progress(self.count, self.total, f"{one.prefix}{job.name}")

    def enter_unit(self, unit: Unit, found: dict[str, Any]) -> None:
        """Enter a unit of work; `found` is the result of `run_unit`."""
        jobs = jobs_of(unit)
        for line in found["notes"]:
            self.of[jobs[0].folder].folder.note(f"{unit.name}: {line}")
        for job in jobs:
            if job.seed in found["failures"]:
                self.underway.end(job.folder)
                self.failed.append((job, f"{job.name}: {found['failures'][job.seed]}"))
            else:
                self.enter(job, found["entries"][job.seed])

    def close(self, failures: Sequence[tuple[Unit, str]]) -> None:
        """Log all failures; raise ConcordantError if there is one."""
        self.failed += [(jobs_of(unit)[0], failure) for unit, failure in failures]
        for job, failure in self.failed:
            self.of[job.folder].folder.note(f"failed: {failure}")
        if self.failed:
            job, failure = self.failed[0]
            log = self.of[job.folder].out / "log.txt"
            raise ConcordantError(f"{len(self.failed)} of {self.total} runs failed: {failure}; all are in {log}")


def collect(config: Config, folder: RunFolder, *, baselines: bool = False) -> dict[str, Any]:
    """Join the files of all runs: write predictions.parquet, return what results.json holds.

    Args:
        config: the experiment.
        folder: its folder.
        baselines: they were run, too.
    """
    keys = [(variant, seed) for variant in config.variants for seed in range(config.seeds)]
    table = read_tables([folder.run(variant, seed) / "predictions.parquet" for variant, seed in keys])
    write_table(folder.predictions, table)
    labels = [variant.label for variant in config.variants]
    runs, correct = [folder.entry(variant, seed) for variant, seed in keys], dict(correctness(table))
    lines = []
    for label, variant, seed in _baselines(config, folder) if baselines else ():
        lines.append({"label": label, **folder.entry(variant, seed)})
        one = correctness(read_tables([folder.run(variant, seed) / "predictions.parquet"]))
        correct[label, seed] = next(iter(one.values()))
    common = measured_everywhere(correct, without=BASELINES)
    for run in (*runs, *lines):
        for scores in (run["corruption"], run["detection_auroc"]):
            for kind in [kind for kind in scores if f"corruption.{kind}" not in common]:
                del scores[kind]
    return {
        "schema": RESULTS,
        "benchmark": config.title,
        "fusion": config.fusion,
        "config": config.model_dump(mode="json"),
        "versions": versions(),
        "hardware": hardware(),
        "baselines": lines,
        "runs": runs,
        "comparisons": compare(correct, labels, baselines=BASELINES if lines else ()),
    }


def _baselines(config: Config, folder: RunFolder) -> Iterator[tuple[str, Variant, int]]:
    """Yield label, variant and seed of the baselines; the best single modality of a seed is chosen on validation."""
    for seed in range(config.seeds):
        best = max(config.alone, key=lambda one: float(folder.entry(one, seed)["validation"]))
        yield BEST_ALONE, best, seed
    for seed in range(config.seeds):
        yield LATE_FUSION, LATE, seed
