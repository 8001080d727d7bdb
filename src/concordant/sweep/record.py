"""sweep.json: what a sweep was asked for, and what became of every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from concordant.files import read_json
from concordant.sweep.folder import SCHEMA, SweepFolder
from concordant.sweep.grid_file import Grid
from concordant.sweep.plan import Experiment
from concordant.sweep.trial import ABOUT
from concordant.training.folder import ExperimentFolder
from concordant.training.provenance import hardware, versions


def document_of(
    grid: Grid,
    plan: Sequence[Experiment],
    folder: SweepFolder,
    failed: Mapping[str, str],
    *,
    state: str,
    command: str,
    retried: int,
) -> dict[str, Any]:
    """Return what sweep.json holds.

    Args:
        grid: what was asked for.
        plan: its experiments.
        folder: of the sweep.
        failed: trial -> why, of this command.
        state: "finished", "failed" (some trials) or "stopped".
        command: that gave the sweep.
        retried: how often this command handed out a trial again whose worker died.
    """
    experiments = [_experiment(one, folder) for one in plan]
    searched = 0 if grid.search is None else grid.search.budget * grid.search.seeds
    machines: list[dict[str, Any]] = []
    for one in plan:
        for path in sorted((folder.path / one.name).glob(f"runs/*/*/{ABOUT}")):
            machine = {key: value for key, value in read_json(path).items() if key in ("versions", "hardware")}
            if machine not in machines:
                machines.append(machine)
    return {
        "schema": SCHEMA,
        "state": state,
        "command": command,
        "folder": str(folder.shown),
        "grid": grid.model_dump(mode="json"),
        "trials": sum((grid.seeds + searched) * len(one.config.variants) for one in plan),
        "runs": sum(one["runs"] for one in experiments),
        "finished": sum(one["finished"] for one in experiments),
        "retried": retried,
        "failed": [{"trial": name, "error": why} for name, why in failed.items()],
        "experiments": experiments,
        "versions": versions(),
        "hardware": hardware(),
        "machines": machines,
    }


def _experiment(one: Experiment, folder: SweepFolder) -> dict[str, Any]:
    out = ExperimentFolder(folder.path / one.name)
    config = one.config
    there = [out.finished(variant, seed) for variant in config.variants for seed in range(config.seeds)]
    search = out.path / "search.json"
    return {
        "name": one.name,
        "group": one.group,
        "row": one.row,
        "benchmark": config.benchmark,
        "fusion": config.fusion,
        "calibrate": config.calibrate,
        "method": config.method,
        "runs": len(there),
        "finished": sum(there),
        "results": out.results.is_file(),
        "chosen": read_json(search)["chosen"] if search.is_file() else None,
    }
