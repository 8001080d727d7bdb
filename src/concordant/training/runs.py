"""Opening what `concordant run` left: the configuration of a folder, its runs, and their models with their weights.

Whatever is wrong with a folder is said in one sentence before anything is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from concordant.benchmarks.catalogue import BENCHMARKS, folder_of, prepare
from concordant.data.split import Task
from concordant.errors import DataError, UsageError
from concordant.faults import explain
from concordant.files import read_json
from concordant.training.config import Config, Variant
from concordant.training.folder import RESULTS, ExperimentFolder
from concordant.training.folder import SCHEMA as CONFIG
from concordant.training.model import MultimodalModel, build_model
from concordant.training.provenance import digests

ANALYSES = "analyses"  # the subfolder of a run's folder where analyses are kept
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class TrainedRuns:
    """A folder of `concordant run` whose runs are all finished.

    Args:
        path: the folder.
        config: what was compared.
        files: name -> SHA-256 of the data files it was trained on.
    """

    path: Path
    config: Config
    files: dict[str, str]

    @property
    def labels(self) -> tuple[str, ...]:
        """The methods, in the order of the table."""
        return tuple(variant.label for variant in self.config.variants)

    def variant(self, label: str) -> Variant:
        """Return the variant of a label.

        Raises:
            UsageError: there is none; the labels are listed.
        """
        for variant in self.config.variants:
            if variant.label == label:
                return variant
        raise UsageError(f"unknown calibrator {label!r} of {self.path}; choose from: {', '.join(self.labels)}")

    def folder(self, variant: Variant, seed: int) -> Path:
        """Return the subfolder of one run."""
        return ExperimentFolder(self.path).run(variant, seed)

    def source(self, data: Path | str | None) -> Path | None:
        """Return the data folder, whose files must be those of the training.

        Raises:
            DataError: it is not there, or its files are others.
        """
        found = folder_of(self.config.benchmark, data)
        now = digests(found, BENCHMARKS[self.config.benchmark].files)
        other = sorted(name for name, digest in self.files.items() if now.get(name) != digest)
        if other:
            raise DataError(
                f"{self.path} was trained on other data: {', '.join(other)} in {found} has changed since; "
                "name the folder it was trained on with --data"
            )
        return found

    def task(self, seed: int, data: Path | None) -> Task:
        """Return the split that a seed was trained on."""
        task: Task = prepare_of(self.config, data, seed=seed)
        return task

    def model(self, task: Task, variant: Variant, seed: int) -> MultimodalModel:
        """Return the trained model of one run, in evaluation mode.

        Raises:
            DataError: the weights are absent, broken, or not of this configuration.
        """
        model = build_model(task, self.config, variant, seed)
        path = self.folder(variant, seed) / WEIGHTS
        load_weights(model, path)
        return model.eval()


def open_runs(folder: Path | str) -> TrainedRuns:
    """Open a folder of `concordant run`.

    Raises:
        DataError: it is absent, incomplete, of a newer or foreign schema, or a grid of several experiments.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path} is no folder; name one that `concordant run` made")
    if not (path / "config.json").is_file():
        if (path / "grid.json").is_file():
            rows = sorted(child.name for child in path.iterdir() if (child / "config.json").is_file())
            raise DataError(f"{path} holds a grid; name one of its rows: {', '.join(str(path / row) for row in rows)}")
        raise DataError(f"{path} has no config.json; name a folder that `concordant run` made")
    values = read_json(path / "config.json")
    check_schema(path / "config.json", values, CONFIG)
    files = values.pop("files", {})
    try:
        config = Config.model_validate({key: value for key, value in values.items() if key != "schema"})
    except ValidationError as error:
        raise DataError(f"{path / 'config.json'} cannot be used: {explain(error)}") from None
    runs = ExperimentFolder(path)
    missing = [
        f"{variant.label}, seed {seed}"
        for seed in range(config.seeds)
        for variant in config.variants
        if not runs.finished(variant, seed)
    ]
    if missing or not runs.results.is_file():
        what = _listed(missing) if missing else "results.json"
        raise DataError(f"{path} is incomplete ({what} missing); give its `concordant run` command again to finish it")
    check_schema(runs.results, read_json(runs.results), RESULTS)
    return TrainedRuns(path, config, files)


def check_schema(path: Path, value: dict[str, Any], schema: str) -> None:
    """Refuse a document of another schema.

    Raises:
        DataError: it is of a newer version, or of something else.
    """
    found = value.get("schema")
    if found == schema:
        return
    name, _, version = schema.rpartition("/")
    other, _, newer = str(found).rpartition("/")
    if other == name and newer.isdigit() and int(newer) > int(version):
        raise DataError(
            f"{path} was written by a newer Concordant ({found}; this one reads {schema}); upgrade Concordant"
        )
    raise DataError(f"{path} must be of the schema {schema}; found {found!r}")


def read_weights(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: of the file.
        remedy: what to do where it cannot be read, the end of the sentence.

    Raises:
        DataError: it is absent or broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read as safetensors ({error}); {remedy}") from None
    return state


def load_weights(model: MultimodalModel, path: Path) -> None:
    """Put weights into a model, all of them.

    Raises:
        DataError: the file is absent or broken, or its weights are not those of the model.
    """
    state = read_weights(path, "remove its folder to run it again")
    wanted = model.state_dict()
    faults = [f"{name} is missing" for name in wanted if name not in state]
    faults += [f"{name} is not of this model" for name in state if name not in wanted]
    faults += [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if faults:
        raise DataError(
            f"{path} does not match the configuration of its folder: {_listed(faults)}; "
            "remove its folder to run it again"
        )
    model.load_state_dict(state)


def _listed(things: Sequence[str], most: int = 3) -> str:
    """Return the first of some things, and how many more there are."""
    rest = f" and {len(things) - most} more" if len(things) > most else ""
    return "; ".join(things[:most]) + rest


def prepare_of(config: Config, data: Path | None, *, seed: int) -> Any:  # noqa: ANN401
    """Return the split of one seed of an experiment."""
    return prepare(config.benchmark, data=data, seed=seed, modalities=config.modalities, protocol=config.protocol)
