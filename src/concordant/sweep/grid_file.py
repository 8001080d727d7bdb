"""Grid file of `concordant sweep`: reading it, with all faults reported at once, and the experiments of the grid.

OUT/<benchmark>[-<method>]/<fusion>[@<point>]/   one paired experiment: all calibrators, all seeds
OUT/<benchmark>[-<method>]/grid.json             where there are several fusions
OUT/search/<experiment>/<label>/                 the candidates of a search, one file each
OUT/sweep.json, OUT/log.txt                      the grid, the state of every trial, and the log
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from concordant.benchmarks.catalogue import BENCHMARKS, is_store, store_at, stored_as
from concordant.data.archives import is_url, named_data
from concordant.documents import Number, Whole
from concordant.errors import DataError, UsageError, explain, needs_extra, quoted
from concordant.files import read_yaml
from concordant.fusion import FUSIONS
from concordant.registry import Registry
from concordant.rivals import CALIBRATORS
from concordant.study.grid import make_grid
from concordant.sweep.search import draw, read_space
from concordant.training.config import Config, Count, Recipe, Value
from concordant.training.methods import METHODS

CHOICES: dict[str, Registry[Any]] = {
    "benchmarks": BENCHMARKS,
    "fusions": FUSIONS,
    "calibrators": CALIBRATORS,
    "methods": METHODS,
}


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Search(_Frozen):
    """A random search of the recipe, per variant.

    Args:
        budget: number of candidates; all variants get the same ones.
        space: field of the recipe -> a list of values, {log: [low, high]} or {uniform: [low, high]}.
        seeds: number of seeds per candidate, whose mean validation score decides.
        seed: of the draws.
    """

    budget: Count
    space: dict[str, Any] = Field(min_length=1)
    seeds: Count = 1
    seed: Whole = Field(default=0, ge=0)

    _read = field_validator("space")(read_space)

    @property
    def candidates(self) -> list[dict[str, Value]]:
        """Recipe fields of each candidate."""
        return [draw(self.space, number, seed=self.seed) for number in range(self.budget)]


class Resources(_Frozen):
    """Resources of every trial.

    Args:
        cpus: number of cores, and of threads.
        gpus: share of a GPU, in [0, 1]; 0 = GPUs are hidden from the trial.
    """

    cpus: Whole = Field(default=1, ge=1)
    gpus: Number = Field(default=0, ge=0, le=1)


class Grid(_Frozen):
    """A grid: every benchmark with every fusion and method, each a paired experiment of all calibrators and seeds.

    Args:
        benchmarks: of `concordant list benchmarks`, or folders or URLs of prepared datasets.
        fusions: "<fusion>" or "<fusion>@<point>"; None = each benchmark's own.
        calibrators: of `concordant list calibrators`.
        methods: of `concordant list methods`.
        seeds: their number; they count from 0.
        protocol: how benchmarks are split; None = the first protocol of each.
        modalities: names of those used; None = all.
        calibrate: point of calibration; None = the first point of each fusion.
        preset: sizes of the fusions: "small", "medium" or "published".
        encoders: "small" or "resnet18".
        recipe: fields that differ from the recipe of each benchmark.
        search: of the recipe, before the runs; None = no search.
        resources: of each trial.
        retries: how often a trial is repeated after its worker died or ran out of memory.
    """

    benchmarks: tuple[str, ...] = Field(min_length=1)
    fusions: tuple[str, ...] | None = Field(default=None, min_length=1)
    calibrators: tuple[str, ...] = Field(default=("none", "self", "joint", "context"), min_length=1)
    methods: tuple[str, ...] = Field(default=("none",), min_length=1)
    seeds: Count = 5
    protocol: str | None = None
    modalities: tuple[str, ...] | None = None
    calibrate: str | None = None
    preset: Literal["small", "medium", "published"] = "small"
    encoders: Literal["small", "resnet18"] = "small"
    recipe: dict[str, Any] = Field(default_factory=dict)
    search: Search | None = None
    resources: Resources = Resources()
    retries: Whole = Field(default=3, ge=0)

    @field_validator(*CHOICES)
    @classmethod
    def _names_exist(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        field, known, faults = info.field_name, CHOICES[str(info.field_name)], []
        for name in dict.fromkeys(names or ()):
            plain = name.partition("@")[0] if field == "fusions" else name
            if plain not in known and not (field == "benchmarks" and is_store(name)):
                faults.append(f"unknown {known.kind} {plain!r}; choose from: {', '.join(known)}")
        twice = sorted({name for name in names or () if (names or ()).count(name) > 1})
        faults += [f"{name} is named more than once; name each once" for name in twice]
        if faults:
            raise ValueError("; ".join(faults))
        return names

    @field_validator("recipe")
    @classmethod
    def _recipe_is_right(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        try:
            Recipe.model_validate(recipe)
        except ValidationError as error:
            raise ValueError(explain(error)) from None
        return recipe

    @model_validator(mode="after")
    def _searched_once(self) -> Grid:
        searched = set() if self.search is None else set(self.search.space)
        if searched & {"steps", "epochs"}:  # two lengths of one training
            searched |= {"steps", "epochs"}
        both = [name for name in self.recipe if name in searched]
        if both:
            raise ValueError(f"{', '.join(both)} of the recipe is searched; leave it out of recipe, or of search.space")
        return self


def read_grid(path: Path) -> Grid:
    """Read a grid file.

    Args:
        path: of the YAML file; JSON is YAML too.

    Raises:
        UsageError: the file does not exist, is not YAML, or has faults, which are all named at once.
        ConcordantError: PyYAML is not installed.
    """
    try:
        with needs_extra("scale", "grid files need"):
            values = read_yaml(path)
    except DataError as error:
        raise UsageError(f"the grid file {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold names and values such as 'benchmarks: [digits]'; found {quoted(values)}")
    try:
        return Grid.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error)}") from None


@dataclass(frozen=True)
class Experiment:
    """One paired experiment of a sweep, in a folder as `concordant run` writes it.

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
        data: the data folder or its URL; None = CONCORDANT_DATA, or the user's data folder.
        file: path of the grid file, for the error.

    Raises:
        UsageError: names all combinations that do not fit, at once.
        DataError: a prepared dataset cannot be read.
    """
    names = ("calibrators", "seeds", "protocol", "calibrate", "preset", "encoders", "recipe")
    shared = {name: getattr(grid, name) for name in names}
    found: dict[str, Experiment] = {}
    faults: list[str] = []
    for named in grid.benchmarks:
        benchmark, title, modalities, own = named, named, grid.modalities, {}
        where = named_data(data)
        if is_store(named, data):
            where = named
            stored = stored_as(store_at(named), grid.protocol)
            benchmark, title = stored.benchmark, stored.name
            modalities = modalities if modalities is not None else stored.modalities
            own = {
                "dataset": title if title != benchmark else None,
                "protocol": stored.protocol,
                "usual": stored.recipe,
            }
        if where is not None:  # workers may have other working directories
            where = str(where if is_url(where) else Path(where).absolute())
        for method in grid.methods:
            group = title if method == "none" else f"{title}-{method}"
            try:
                rows = make_grid(benchmark, grid.fusions, modalities=modalities, method=method, **{**shared, **own})
            except UsageError as error:
                faults += [fault for fault in str(error).split("; ") if fault not in faults]
                continue
            for row, config in rows.items():
                one = Experiment(group, row, config, where)
                if one.name in found:
                    faults.append(f"two benchmarks are called {title}; rename one, or sweep them apart")
                found[one.name] = one
    if faults:
        raise UsageError(("" if file is None else f"{file}: ") + "; ".join(faults))
    return tuple(found.values())
