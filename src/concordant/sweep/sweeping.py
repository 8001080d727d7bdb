"""`concordant sweep` as a whole: search, runs, results; finished trials are never repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.benchmarks.catalogue import BENCHMARKS, folder_of
from concordant.documents import write_document
from concordant.errors import ConcordantError, UsageError
from concordant.files import read_json, write_json
from concordant.study.experiment import study
from concordant.study.grid import run_grid
from concordant.sweep.folder import SweepFolder, document_of
from concordant.sweep.grid_file import Grid, Search
from concordant.sweep.plan import Experiment
from concordant.sweep.search import SCHEMA, candidate_row, choose, draw
from concordant.sweep.trial import Trial
from concordant.training.config import Config, Recipe, Variant
from concordant.training.model import check_encoders, check_labels
from concordant.training.provenance import digests, versions
from concordant.training.runs import RunFolder, prepare_of

if TYPE_CHECKING:
    from concordant.sweep.ray_engine import RayEngine

Progress = Callable[[int, int, str], None]


def run_sweep(
    grid: Grid,
    plan: Sequence[Experiment],
    out: Path,
    *,
    engine: Callable[[], RayEngine],
    command: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run or resume a sweep, and return the content of sweep.json.

    Args:
        grid: of the sweep.
        plan: its experiments, as `make_plan` returns them.
        out: the sweep's folder, on storage that all machines share.
        engine: starts the workers; not called if all trials are finished.
        command: written into the reports.
        progress: called with the number of finished trials, their total, and a line about the last one.

    Raises:
        UsageError: the folder belongs to another grid, or a trial asks for more than this machine has.
        DataError: the data are absent or invalid; nothing has been trained then.
        ConcordantError: the engine cannot start, or a worker has another installation of Concordant.
    """
    files = {one.name: _checked(one) for one in plan}
    folder = SweepFolder(out)
    folder.claim(grid)
    with folder.locked():
        folder.clean()
        sweep = _Sweep(grid, plan, folder, files, progress)
        state = "stopped"
        try:
            todo = sweep.start()
            if todo:
                with engine() as workers:
                    sweep.check(workers)
                    workers.run(todo, resources=grid.resources, retries=grid.retries, done=sweep.done, lost=sweep.lost)
            sweep.gather(command)
            state = "finished" if not sweep.failed else "failed"
        finally:
            folder.clean()  # incomplete results of killed workers
            folder.note(state)
            found = document_of(grid, plan, folder, sweep.failed, state=state, command=command, retried=sweep.retried)
            write_document(folder.mark, "sweep", found)
    return found


class _Sweep:
    """State of a sweep that is running."""

    def __init__(
        self,
        grid: Grid,
        plan: Sequence[Experiment],
        folder: SweepFolder,
        files: Mapping[str, dict[str, str]],
        progress: Progress | None,
    ) -> None:
        self.grid, self.folder, self.files, self.progress = grid, folder, files, progress
        self.plan = {one.name: one for one in plan}
        self.configs: dict[str, Config] = {}  # of the experiments that are searched or need no search
        self.left: dict[str, int] = {}  # candidates of an experiment that are not done
        self.failed: dict[str, str] = {}  # name of a trial -> why
        self.retried = 0
        per_label = grid.seeds + (grid.search.budget * grid.search.seeds if grid.search is not None else 0)
        self.total = sum(per_label * len(one.config.variants) for one in plan)
        self.count = self.total

    def start(self) -> list[Trial]:
        """Return the trials that can start at once; count the finished ones."""
        todo: list[Trial] = []
        for one in self.plan.values():
            waiting = self._candidates(one)
            self.left[one.name] = len(waiting)
            todo += waiting or self._runs(one)
            if waiting:  # its runs wait for the choice
                self.count -= self.grid.seeds * len(one.config.variants)
        self.count -= len(todo)
        self.folder.note(f"{self.count} of {self.total} trials are done")
        self._say("")
        return todo

    def check(self, workers: RayEngine) -> None:
        """Report that no machine has the resources of a trial; on this machine alone, raise UsageError."""
        shortage = workers.shortage(self.grid.resources)
        if shortage is not None:
            if workers.local:
                raise UsageError(f"{shortage}; ask for less in resources, or name a cluster with --address")
            self.folder.note(f"{shortage}; waiting for one that has it")
            self._say(f"{shortage}; waiting for one that has it")

    def done(self, trial: Trial, outcome: dict[str, Any]) -> list[Trial]:
        """Record the outcome of a trial; return the trials that can start now."""
        self.count += 1
        if outcome["state"] == "failed":
            self.failed[trial.name] = outcome["error"]
            self.folder.note(f"failed: {trial.name}: {outcome['error']}")
            if "trace" in outcome:
                self.folder.note(outcome["trace"])
        else:
            self.folder.note(trial.name)
        self._say(trial.name if outcome["state"] == "done" else f"failed: {trial.name}")
        if trial.candidate is None:
            return []
        self.left[trial.experiment] -= 1
        if self.left[trial.experiment]:
            return []
        one = self.plan[trial.experiment]
        todo = self._runs(one)
        self.count += self.grid.seeds * len(one.config.variants) - len(todo)  # there already, or failed before it began
        return todo

    def lost(self, trial: Trial, why: str, times: int) -> None:
        """Record that a trial is submitted again."""
        self.retried += 1
        line = f"{trial.name}: {why}; tried again ({times} of {self.grid.retries})"
        self.folder.note(line)
        self._say(line)

    def gather(self, command: str) -> None:
        """Write results.json of every experiment whose runs are all finished, and grid.json of every such group."""
        for group in dict.fromkeys(one.group for one in self.plan.values()):
            rows = [one for one in self.plan.values() if one.group == group]
            whole = [one for one in rows if self._whole(one)]
            sheet = self.folder.path / group / "grid.json"
            if len(rows) > 1 and len(whole) == len(rows) and not sheet.exists():
                configs = {one.row: self.configs[one.name] for one in rows}
                grid = run_grid(configs, self.folder.path / group, alone=False, data=rows[0].data, jobs=1)
                config = {**grid["config"]}
                if self.grid.search is not None:  # rows and variants have recipes of their own: search.json of each
                    config["search"] = self.grid.search.model_dump(mode="json")
                write_document(sheet, "grid", {**grid, "config": config, "command": command})
            for one in whole:
                path = RunFolder(self.folder.path / one.name).results
                results = read_json(path) if path.exists() else None
                if results is None:
                    results = study(self.configs[one.name], path.parent, data=one.data, jobs=1)
                if results.get("command") != command:  # `concordant run` alone does not compute it again
                    write_document(path, "results", {**results, "command": command})

    def _candidates(self, one: Experiment) -> list[Trial]:
        """Return the unfinished trials of an experiment's search: the same candidates for every variant."""
        search, found = self.grid.search, []
        if search is None:
            return []
        for number in range(search.budget):
            fields = draw(search.values, number, seed=search.seed)
            recipe = Recipe.model_validate({**one.config.recipe.model_dump(), **fields})
            config = one.config.model_copy(update={"recipe": recipe})
            for variant in config.variants:
                for seed in range(search.seeds):
                    target = place(self.folder.path, one, variant, number, seed)
                    trial = self._trial(one, config, variant, seed, target)
                    found.append(trial.model_copy(update={"candidate": number, "fields": fields}))
        return [trial for trial in found if not trial.finished]

    def _trial(self, one: Experiment, config: Config, variant: Variant, seed: int, target: Path) -> Trial:
        return Trial(
            experiment=one.name,
            config=config,
            label=variant.label,
            seed=seed,
            sweep=self.folder.path,
            target=target,
            data=one.data,
            files=self.files[one.name],
            cpus=self.grid.resources.cpus,
            gpus=self.grid.resources.gpus,
        )

    def _runs(self, one: Experiment) -> list[Trial]:
        """Claim the experiment's folder with the chosen recipes; return the unfinished runs."""
        config, search = one.config, self.grid.search
        out = RunFolder(self.folder.path / one.name)
        barred: set[str] = set()
        if search is not None:
            if any(name.startswith(f"{one.name}: ") for name in self.failed):  # a candidate without a result
                return self._none(one, "a trial of its search failed")
            table = table_of(one, search, self.folder.path)
            chosen = {label: dict(row["recipe"]) for label, row in table["chosen"].items() if row is not None}
            barred = {variant.label for variant in config.variants} - set(chosen)
            config = config.model_copy(update={"tuned": chosen})
        out.claim(config, self.files[one.name])
        if search is not None:
            write_json(out.path / "search.json", table)
        self.configs[one.name] = config
        todo = []
        for seed in range(config.seeds):
            for variant in config.variants:
                trial = self._trial(one, config, variant, seed, out.run(variant, seed))
                if variant.label in barred:
                    self.failed[trial.name] = "no candidate of its search could be trained"
                elif not trial.finished:
                    todo.append(trial)
        return todo

    def _none(self, one: Experiment, why: str) -> list[Trial]:
        for seed in range(one.config.seeds):
            for variant in one.config.variants:
                self.failed[f"{one.name}: {variant.label}, seed {seed}"] = why
        return []

    def _whole(self, one: Experiment) -> bool:
        config = self.configs.get(one.name)
        if config is None:
            return False
        out = RunFolder(self.folder.path / one.name)
        return all(out.finished(variant, seed) for variant in config.variants for seed in range(config.seeds))

    def _say(self, line: str) -> None:
        if self.progress is not None:
            self.progress(self.count, self.total, line)


def place(sweep: Path, experiment: Experiment, variant: Variant, number: int, seed: int) -> Path:
    """Return the file of one candidate and seed."""
    return sweep / "search" / experiment.name / variant.label / f"candidate-{number}-seed-{seed}.json"


def table_of(one: Experiment, search: Search, sweep: Path) -> dict[str, Any]:
    """Return the table of a finished search, search.json: every candidate with its scores, and the chosen one."""
    rows, chosen = [], {}
    for variant in one.config.variants:
        mine = []
        for number in range(search.budget):
            results = [read_json(place(sweep, one, variant, number, seed)) for seed in range(search.seeds)]
            mine.append(candidate_row(variant.label, number, results[0]["recipe"], results))
        chosen[variant.label] = choose(mine)
        rows += mine
    return {
        "schema": SCHEMA,
        "benchmark": one.config.benchmark,
        "fusion": one.config.fusion,
        "method": one.config.method,
        "budget": search.budget,
        "seeds": search.seeds,
        "seed": search.seed,
        "space": {name: values.written for name, values in search.values.items()},
        "candidates": rows,
        "chosen": chosen,
        "versions": versions(),
    }


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
