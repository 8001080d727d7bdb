"""Experiments of a grid, each with a folder as `concordant run` writes it.

OUT/<benchmark>[-<method>]/<fusion>[@<point>]/   one paired experiment: all calibrators, all seeds
OUT/<benchmark>[-<method>]/grid.json             where there are several fusions
OUT/search/<experiment>/<label>/                 the candidates of a search, one file each
OUT/sweep.json, OUT/log.txt                      the grid, the state of every trial, and the log
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concordant.benchmarks.catalogue import is_store, store_at, stored_as
from concordant.data.archives import is_url, named_data
from concordant.errors import UsageError
from concordant.sweep.grid_file import Grid
from concordant.training.config import Config, make_config


@dataclass(frozen=True)
class Experiment:
    """One paired experiment of a sweep.

    Args:
        group: the folder of its benchmark and method within the sweep's.
        row: its folder within that, "<fusion>" or "<fusion>@<point>".
        config: of the experiment, before a search.
        data: the data folder (absolute) or its URL; None = the default of `concordant run`.
    """

    group: str
    row: str
    config: Config
    data: str | None

    @property
    def name(self) -> str:
        """Folder within the sweep's folder."""
        return f"{self.group}/{self.row}"


def make_plan(grid: Grid, *, data: str | None = None, file: Path | None = None) -> tuple[Experiment, ...]:
    """Return the experiments of a grid.

    Args:
        grid: of the sweep.
        data: the data folder or its URL; None = CONCORDANT_DATA, or ../shared/data.
        file: path of the grid file, for the error.

    Raises:
        UsageError: names all combinations that do not fit, at once.
        DataError: a prepared dataset cannot be read.
    """
    found: dict[str, Experiment] = {}
    faults: list[str] = []
    for named in grid.benchmarks:
        benchmark, title, modalities = named, named, grid.modalities
        where = named_data(data)
        if is_store(named):
            where = named
            benchmark, title, known = stored_as(store_at(named))
            modalities = modalities if modalities is not None else known
        for method in grid.methods:
            group = title if method == "none" else f"{title}-{method}"
            for row in grid.fusions or (None,):
                try:
                    config = _config(grid, benchmark, row, method, modalities)
                except UsageError as error:
                    faults += [fault for fault in str(error).split("; ") if fault not in faults]
                    continue
                one = Experiment(group, row or config.fusion, config, _everywhere(where))
                if one.name in found:
                    faults.append(f"two benchmarks are called {title}; rename one, or sweep them apart")
                found[one.name] = one
    if faults:
        raise UsageError(("" if file is None else f"{file}: ") + "; ".join(faults))
    return tuple(found.values())


def _config(grid: Grid, benchmark: str, row: str | None, method: str, modalities: tuple[str, ...] | None) -> Config:
    fusion, _, point = (row or "").partition("@")
    asked: dict[str, Any] = {
        "fusion": fusion or None,
        "calibrators": grid.calibrators,
        "seeds": grid.seeds,
        "protocol": grid.protocol,
        "modalities": modalities,
        "calibrate": point or grid.calibrate,
        "preset": grid.preset,
        "encoders": grid.encoders,
        "method": method,
        "recipe": grid.recipe,
    }
    return make_config(benchmark, **asked)


def _everywhere(data: Path | str | None) -> str | None:
    """Return the absolute path of a data folder, or its URL."""
    return data if data is None or (isinstance(data, str) and is_url(data)) else str(Path(data).absolute())
