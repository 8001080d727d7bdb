"""`concordant sweep` as a whole: search, runs, results; finished trials are never repeated.

The folder belongs to one grid and is written by one process: sweep.json holds the grid and the state of every trial,
log.txt the course of the sweep.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.benchmarks.catalogue import BENCHMARKS, folder_of
from concordant.documents import read_document, write_document
from concordant.errors import ConcordantError, UsageError
from concordant.files import read_json, write_json
from concordant.study.experiment import study
from concordant.study.grid import run_grid
from concordant.sweep import search
from concordant.sweep.grid_file import Experiment, Grid, Search
from concordant.sweep.trial import ABOUT, DONE, MARK, TEMPORARY, Trial
from concordant.training.config import Config, Variant
from concordant.training.model import check_encoders, check_labels
from concordant.training.progress import Progress
from concordant.training.provenance import digests, hardware, versions
from concordant.training.runs import RunFolder, claim, lock, note, prepare_of

if TYPE_CHECKING:
    from concordant.sweep.ray_engine import RayEngine

SCHEMA = "concordant.sweep/1"
MAY_CHANGE = ("resources", "retries")  # between the first command and one that resumes the sweep


class Sweep:
    """A sweep: its trials, their state, and the folder.

    Args:
        grid: of the sweep.
        plan: its experiments, as `make_plan` returns them.
        out: the sweep's folder, on storage that all machines share.
        command: written into the reports.
        progress: called with the number of finished trials, their total, and a line about the last one.

    Raises:
        DataError: the data are absent or invalid.
    """

    def __init__(
        self,
        grid: Grid,
        plan: Sequence[Experiment],
        out: Path,
        *,
        command: str,
        progress: Progress | None = None,
    ) -> None:
        self.files = {one.name: _checked(one) for one in plan}
        self.grid, self.out, self.command, self.progress = grid, out, command, progress
        self.path = out.absolute()  # as workers need it
        self.plan = {one.name: one for one in plan}
        self.candidates = [] if grid.search is None else grid.search.candidates
        self.configs: dict[str, Config] = {}  # of the experiments that are searched or need no search
        self.open: dict[str, int] = {}  # experiment -> trials without a result or a failure
        self.failed: dict[str, str] = {}  # name of a trial -> why
        self.retried = 0
        searched = 0 if grid.search is None else grid.search.budget * grid.search.seeds
        self.total = sum((grid.seeds + searched) * len(one.config.variants) for one in plan)

    def run(self, engine: Callable[[], RayEngine]) -> dict[str, Any]:
        """Run or resume the sweep, and return the content of sweep.json.

        Args:
            engine: starts the workers; not called if all trials are finished.

        Raises:
            UsageError: the folder belongs to another grid, or a trial asks for more than this machine has.
            ConcordantError: the engine cannot start, or a worker has another installation of Concordant.
        """
        with lock(self.out):
            self.claim()
            self.clean()
            state = "stopped"
            try:
                todo = self.start()
                if todo:
                    with engine() as workers:
                        self.check(workers)
                        how: dict[str, Any] = {"resources": self.grid.resources, "retries": self.grid.retries}
                        workers.run(todo, **how, done=self.done, lost=self.lost)
                self.gather()
                state = "finished" if not self.failed else "failed"
            finally:
                self.clean()  # incomplete results of killed workers
                note(self.out, state)
                found = self.document(state)
                write_document(self.out / MARK, "sweep", found)
        return found

    def claim(self) -> None:
        """Take the folder for this grid; raise UsageError where it belongs to another one, or holds other files."""

        def compared(document: Mapping[str, Any]) -> dict[str, Any]:
            grid = document.get("grid")
            return (
                {key: value for key, value in grid.items() if key not in MAY_CHANGE} if isinstance(grid, dict) else {}
            )

        started = {"schema": SCHEMA, "state": "started", "experiments": [], "grid": self.grid.model_dump(mode="json")}
        claim(self.out / MARK, started, "grid", "sweep", compared=compared)

    def clean(self) -> None:
        """Remove incomplete results of interrupted trials."""
        for path in self.path.rglob(f".*{TEMPORARY}*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for path in self.path.glob("*/*/runs/*/seed-*"):
            if not (path / DONE).exists():
                shutil.rmtree(path, ignore_errors=True)

    def start(self) -> list[Trial]:
        """Return the trials that can start at once: the candidates of a search come before the runs."""
        todo: list[Trial] = []
        for one in self.plan.values():
            candidates = self._candidates(one)
            trials = candidates or self._runs(one)
            self.open[one.name] = len(trials) + (self._runs_of(one) if candidates else 0)
            todo += trials
        note(self.out, f"{self.count} of {self.total} trials are done")
        self._report("")
        return todo

    def check(self, workers: RayEngine) -> None:
        """Report that no machine has the resources of a trial; on this machine alone, raise UsageError."""
        shortage = workers.shortage(self.grid.resources)
        if shortage is not None and workers.local:
            raise UsageError(f"{shortage}; ask for less in resources, or name a cluster with --address")
        if shortage is not None:
            self._log(f"{shortage}; waiting for one that has it")

    def done(self, trial: Trial, outcome: dict[str, Any]) -> list[Trial]:
        """Record the outcome of a trial; return the trials that can start now."""
        one = self.plan[trial.experiment]
        self.open[one.name] -= 1
        if outcome["state"] == "failed":
            self.failed[trial.name] = outcome["error"]
            note(self.out, f"failed: {trial.name}: {outcome['error']}")
            if "trace" in outcome:
                note(self.out, outcome["trace"])
        else:
            note(self.out, trial.name)
        self._report(trial.name if outcome["state"] == "done" else f"failed: {trial.name}")
        if trial.candidate is None or self.open[one.name] > self._runs_of(one):
            return []
        todo = self._runs(one)
        self.open[one.name] = len(todo)  # others were finished, or failed before they began
        return todo

    def lost(self, trial: Trial, why: str, times: int) -> None:
        """Record that a trial is submitted again."""
        self.retried += 1
        self._log(f"{trial.name}: {why}; tried again ({times} of {self.grid.retries})")

    def gather(self) -> None:
        """Write results.json of every experiment whose runs are all finished, and grid.json of every such group."""
        for group in dict.fromkeys(one.group for one in self.plan.values()):
            rows = [one for one in self.plan.values() if one.group == group]
            whole = [one for one in rows if one.name in self.configs and all(self._finished(one))]
            sheet = self.path / group / "grid.json"
            if len(rows) > 1 and len(whole) == len(rows) and not sheet.exists():
                configs = {one.row: self.configs[one.name] for one in rows}
                grid = run_grid(configs, sheet.parent, alone=False, data=rows[0].data, jobs=1)
                if self.grid.search is not None:  # rows and variants have recipes of their own: search.json of each
                    grid["config"]["search"] = self.grid.search.model_dump(mode="json")
                write_document(sheet, "grid", {**grid, "command": self.command})
            for one in whole:
                path = RunFolder(self.path / one.name).results
                results = read_document(path, "results") if path.exists() else None
                if results is None:
                    results = study(self.configs[one.name], path.parent, data=one.data, jobs=1, baselines=False)
                if results.get("command") != self.command:  # `concordant run` alone does not compute it again
                    write_document(path, "results", {**results, "command": self.command})

    def document(self, state: str) -> dict[str, Any]:
        """Return the content of sweep.json; `state` is "finished", "failed" (some trials) or "stopped"."""
        experiments = [self._record(one) for one in self.plan.values()]
        machines: list[dict[str, Any]] = []
        for one in self.plan.values():
            for path in sorted((self.path / one.name).glob(f"runs/*/*/{ABOUT}")):
                machine = {key: value for key, value in read_json(path).items() if key in ("versions", "hardware")}
                if machine not in machines:
                    machines.append(machine)
        return {
            "schema": SCHEMA,
            "state": state,
            "command": self.command,
            "folder": str(self.out),
            "grid": self.grid.model_dump(mode="json"),
            "trials": self.total,
            "runs": sum(one["runs"] for one in experiments),
            "finished": sum(one["finished"] for one in experiments),
            "retried": self.retried,
            "failed": [{"trial": name, "error": why} for name, why in self.failed.items()],
            "experiments": experiments,
            "versions": versions(),
            "hardware": hardware(),
            "machines": machines,
        }

    def _record(self, one: Experiment) -> dict[str, Any]:
        """Return what sweep.json holds of an experiment."""
        out, config, finished = RunFolder(self.path / one.name), one.config, self._finished(one)
        table = out.path / "search.json"
        return {
            "name": one.name,
            "group": one.group,
            "row": one.row,
            "benchmark": config.benchmark,
            "fusion": config.fusion,
            "calibrate": config.calibrate,
            "method": config.method,
            "runs": len(finished),
            "finished": sum(finished),
            "results": out.results.is_file(),
            "chosen": read_json(table).get("chosen") if table.is_file() else None,
        }

    @property
    def count(self) -> int:
        """Number of trials with a result or a failure."""
        return self.total - sum(self.open.values())

    def _runs_of(self, one: Experiment) -> int:
        return self.grid.seeds * len(one.config.variants)

    def _finished(self, one: Experiment) -> list[bool]:
        out = RunFolder(self.path / one.name)
        return [out.finished(variant, seed) for variant in one.config.variants for seed in range(one.config.seeds)]

    def _candidates(self, one: Experiment) -> list[Trial]:
        """Return the unfinished trials of an experiment's search: the same candidates for every variant."""
        found = []
        for number, fields in enumerate(self.candidates):
            config = one.config.model_copy(update={"recipe": one.config.recipe.changed(fields)})
            for variant in config.variants:
                for seed, target in enumerate(self._places(one, variant.label, number)):
                    found.append(self._trial(one, config, variant, seed, target, candidate=number, fields=fields))
        return [trial for trial in found if not trial.finished]

    def _places(self, one: Experiment, label: str, number: int) -> list[Path]:
        """Return the files of one candidate, one per seed."""
        folder, seeds = (
            self.path / "search" / one.name / label,
            range(self.grid.search.seeds if self.grid.search else 0),
        )
        return [folder / f"candidate-{number}-seed-{seed}.json" for seed in seeds]

    def _trial(
        self,
        one: Experiment,
        config: Config,
        variant: Variant,
        seed: int,
        target: Path,
        **more: Any,  # noqa: ANN401
    ) -> Trial:
        return Trial(
            experiment=one.name,
            config=config,
            label=variant.label,
            seed=seed,
            sweep=self.path,
            target=target,
            data=one.data,
            files=self.files[one.name],
            **self.grid.resources.model_dump(),
            **more,
        )

    def _runs(self, one: Experiment) -> list[Trial]:
        """Claim the experiment's folder with the chosen recipes; return the unfinished runs."""
        config, out = one.config, RunFolder(self.path / one.name)
        barred: dict[str, str] = {}  # label -> why its runs cannot start
        if any(name.startswith(f"{one.name}: ") for name in self.failed):  # a candidate without a result
            barred = {variant.label: "a trial of its search failed" for variant in config.variants}
        else:
            table = None if self.grid.search is None else self._table(one, self.grid.search)
            if table is not None:
                chosen = {label: dict(row["recipe"]) for label, row in table["chosen"].items() if row is not None}
                config = config.model_copy(update={"tuned": chosen})
                barred = dict.fromkeys(table["chosen"].keys() - chosen, "no candidate of its search could be trained")
            out.claim(config, self.files[one.name])
            if table is not None:
                write_json(out.path / "search.json", table)
            self.configs[one.name] = config
        todo = []
        for seed in range(config.seeds):
            for variant in config.variants:
                trial = self._trial(one, config, variant, seed, out.run(variant, seed))
                if variant.label in barred:
                    self.failed[trial.name] = barred[variant.label]
                elif not trial.finished:
                    todo.append(trial)
        return todo

    def _table(self, one: Experiment, given: Search) -> dict[str, Any]:
        """Return the table of a finished search, search.json: every candidate with its scores, and the chosen one."""
        labels = [variant.label for variant in one.config.variants]
        rows = [
            search.candidate_row(label, number, fields, list(map(read_json, self._places(one, label, number))))
            for label in labels
            for number, fields in enumerate(self.candidates)
        ]
        return {
            "schema": search.SCHEMA,
            "benchmark": one.config.benchmark,
            "fusion": one.config.fusion,
            "method": one.config.method,
            **given.model_dump(include={"budget", "seeds", "seed", "space"}),
            "candidates": rows,
            "chosen": {label: search.choose(row for row in rows if row["label"] == label) for label in labels},
            "versions": versions(),
        }

    def _log(self, line: str) -> None:
        note(self.out, line)
        self._report(line)

    def _report(self, line: str) -> None:
        if self.progress is not None:
            self.progress(self.count, self.total, line)


def _checked(one: Experiment) -> dict[str, str]:
    """Check the data before a folder is claimed; return name -> SHA-256 of the data files."""
    source = folder_of(one.config.benchmark, one.data)
    task = prepare_of(one.config, source, seed=0)
    check_encoders(task, one.config)
    check_labels(task, one.config)
    return digests(source, BENCHMARKS[one.config.benchmark].files)


def failures(found: Mapping[str, Any]) -> ConcordantError | None:
    """Return the error of a sweep with failed trials, else None."""
    failed = found["failed"]
    if not failed:
        return None
    first = failed[0]
    return ConcordantError(
        f"{len(failed)} of {found['trials']} trials failed: {first['trial']}: {first['error']}; all are in "
        f"{found['folder']}/log.txt, and the same command tries them again"
    )
