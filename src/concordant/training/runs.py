"""The folder of an experiment: its configuration, one subfolder per run, and the trained models in it.

DIR/config.json            what is compared; a folder belongs to one configuration
DIR/runs/<label>/seed-<s>/ weights.safetensors, predictions.parquet, then run.json, which marks a run as finished;
                           before that, if wanted, checkpoint.pt: the state of its training
                           labels beside those of the methods: "<modality> alone" and "late fusion", the baselines
DIR/predictions.parquet    the predictions of all runs
DIR/results.json           the results
DIR/log.txt                what happened when
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from concordant.benchmarks.catalogue import BENCHMARKS, folder_of, prepare
from concordant.data.split import Task
from concordant.documents import Run, check_schema, fault_of, read_document
from concordant.errors import DataError, UsageError, explain
from concordant.files import read_json, reading, remove_stale, write_json
from concordant.training.config import Config, Variant
from concordant.training.model import MultimodalModel, build_model
from concordant.training.provenance import digests

SCHEMA = "concordant.config/1"
RESULTS = "concordant.results/1"  # the schema of results.json
ANALYSES = "analyses"  # the subfolder of analyses
WEIGHTS = "weights.safetensors"
LOCK = ".lock"


class RunFolder:
    """Paths, states and models of one experiment on disk.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.json"
        self.predictions = path / "predictions.parquet"
        self._config = path / "config.json"

    @cached_property
    def _values(self) -> dict[str, Any]:
        values = read_json(self._config)
        check_schema(values, "config", str(self._config))
        return values

    @cached_property
    def config(self) -> Config:
        """Configuration of the experiment.

        Raises:
            DataError: config.json cannot be used.
        """
        foreign = ("schema", "files", "numerics")
        try:
            return Config.model_validate({key: value for key, value in self._values.items() if key not in foreign})
        except ValidationError as error:
            raise DataError(f"{self._config} cannot be used: {explain(error)}") from None

    @property
    def files(self) -> dict[str, str]:
        """Data files that the experiment was trained on: name -> SHA-256."""
        found: dict[str, str] = self._values.get("files", {})
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """The methods, in the order of the table."""
        return tuple(variant.label for variant in self.config.variants)

    def variant(self, label: str) -> Variant:
        """Return the variant of a label.

        Raises:
            UsageError: the label is unknown; the error lists all.
        """
        for variant in self.config.variants:
            if variant.label == label:
                return variant
        raise UsageError(f"unknown calibrator {label!r} of {self.path}; choose from: {', '.join(self.labels)}")

    def claim(self, config: Config, files: dict[str, str], numerics: Mapping[str, Any] | None = None) -> None:
        """Create the folder for a configuration, or verify that it belongs to it.

        Args:
            config: the experiment.
            files: name -> SHA-256 of its data files.
            numerics: settings beside the configuration that change results by more than rounding
                (`Devices.numerics`).

        Raises:
            UsageError: the folder has another configuration's results, or other files.
        """
        wanted = {
            "schema": SCHEMA,
            **config.model_dump(mode="json"),
            "files": files,
            **({"numerics": dict(numerics)} if numerics else {}),
        }
        claim(self._config, wanted, "configuration", "experiment")

    def run(self, variant: Variant, seed: int) -> Path:
        """Return the subfolder of one run."""
        return self.path / "runs" / variant.label / f"seed-{seed}"

    def finished(self, variant: Variant, seed: int) -> bool:
        """Whether a run is finished.

        Raises:
            DataError: as for `entry`.
        """
        return (self.run(variant, seed) / "run.json").exists() and bool(self.entry(variant, seed))

    def entry(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Return the record of a finished run.

        Raises:
            DataError: it cannot be read, lacks something, or is the record of another run.
        """
        path = self.run(variant, seed) / "run.json"
        found = read_json(path)
        wanted = identity(self.config, variant, seed)
        other = [f"{key} is {found.get(key)!r}, not {wanted[key]!r}" for key in wanted if found.get(key) != wanted[key]]
        fault = f"belongs to another run ({', '.join(other)})" if other else fault_of(found, Run)
        if fault is not None:
            raise DataError(f"{path} {fault}; remove its folder to run it again")
        return found

    def note(self, line: str) -> None:
        """Add a line to the log, with the time."""
        note(self.path, line)

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder against a second process that would write to it, as `lock` does."""
        return lock(self.path)

    def source(self, data: Path | str | None) -> Path | None:
        """Return the data folder, whose files must be those of the training.

        Raises:
            DataError: it is absent, or its files differ.
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
        """Return the split of a seed."""
        return prepare_of(self.config, data, seed=seed)

    def model(self, task: Task, variant: Variant, seed: int) -> MultimodalModel:
        """Return the trained model of one run, in evaluation mode.

        Raises:
            DataError: the weights are absent, broken, or of another configuration.
        """
        model = build_model(task, self.config, variant, seed)
        load_weights(model, self.run(variant, seed) / WEIGHTS)
        return model.eval()


def open_runs(folder: Path | str) -> RunFolder:
    """Open a finished folder of `concordant run`.

    Raises:
        DataError: it is absent, incomplete, of a newer or foreign schema, or a grid of several experiments.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; name one that `concordant run` made")
    if not (path / "config.json").is_file():
        if (path / "grid.json").is_file():
            rows = sorted(child.name for child in path.iterdir() if (child / "config.json").is_file())
            raise DataError(f"{path} holds a grid; name one of its rows: {', '.join(str(path / row) for row in rows)}")
        raise DataError(f"{path} has no config.json; name a folder that `concordant run` made")
    runs = RunFolder(path)
    missing = [
        f"{variant.label}, seed {seed}"
        for seed in range(runs.config.seeds)
        for variant in runs.config.variants
        if not runs.finished(variant, seed)
    ]
    if missing or not runs.results.is_file():
        what = _listed(missing) if missing else "results.json"
        raise DataError(f"{path} is incomplete ({what} missing); give its `concordant run` command again to finish it")
    read_document(runs.results, "results")
    return runs


def claim(
    mark: Path,
    content: Mapping[str, Any],
    what: str,
    holder: str,
    *,
    compared: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> None:
    """Write the file that marks a new folder as belonging to its content, or verify that the folder belongs to it.

    Args:
        mark: the file.
        content: of the file.
        what: a folder belongs to, for the error: "configuration" or "grid".
        holder: what a folder with the file holds, for the error: "experiment" or "sweep".
        compared: from the content to what must be equal.

    Raises:
        UsageError: the folder belongs to something else, holds other files, or cannot be written.
    """
    folder = mark.parent
    if mark.exists():
        found, wanted = compared(read_json(mark)), compared(content)
        differing = sorted(key for key in {**wanted, **found} if wanted.get(key) != found.get(key))
        if differing:
            listed = ", ".join(f"{key}: there {found.get(key)!r}, here {wanted.get(key)!r}" for key in differing)
            raise UsageError(
                f"{folder} belongs to another {what} ({listed}); name another folder with --out, or move this one away"
            )
        return
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no {holder}; name another folder with --out")
    try:
        write_json(mark, content)
    except OSError as error:
        raise UsageError(f"cannot write to {folder} ({error.strerror}); name another folder with --out") from None


def note(folder: Path, line: str) -> None:
    """Add a line to a folder's log.txt, with the time."""
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def identity(config: Config, variant: Variant, seed: int) -> dict[str, Any]:
    """Return what identifies a run in its record, its configuration by the beginning of a SHA-256."""
    own = config.of(variant).model_dump_json(exclude={"seeds", "calibrators"})  # these do not change a run
    digest = hashlib.sha256(own.encode()).hexdigest()[:16]
    return {
        "calibrator": variant.calibrator,
        "perturbed_training": variant.perturbed,
        "seed": seed,
        "config": digest,
    }


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Make a folder, and lock it against a second process that would write to it.

    The lock ends with the process, even if killed. What killed processes left behind is removed.

    Raises:
        UsageError: another process holds the lock, or the folder cannot be made or written.
    """
    file = path / LOCK
    try:
        if path.is_file():
            raise UsageError(f"{path} is a file; name a folder with --out")
        new = not file.exists()
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise UsageError(f"cannot write to {path} ({error.strerror}); name another folder with --out") from None
    try:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not a POSIX system: go without
            pass
        except OSError:
            raise UsageError(f"another process is writing to {path}; wait for it, or name another folder") from None
        remove_stale(path)
        try:
            yield
        except UsageError:  # a folder of something else stays as it was
            if new:
                file.unlink(missing_ok=True)
            raise
    finally:
        os.close(handle)


def read_weights(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: of the file.
        remedy: what to do if it cannot be read, the end of the sentence.

    Raises:
        DataError: it is absent or broken.
    """
    from safetensors.torch import load_file

    with reading(path, "safetensors", remedy):
        state: dict[str, Tensor] = load_file(path)
    return state


def load_weights(
    model: nn.Module,
    path: Path,
    *,
    source: str = "the configuration of its folder",
    remedy: str = "remove its folder to run it again",
) -> None:
    """Load all weights of a model that was made from `source`; `remedy` says what to do if they are others.

    Raises:
        DataError: the file is absent or broken, or its weights are those of another model.
    """
    state, wanted = read_weights(path, remedy), model.state_dict()
    faults = [f"{name} is missing" for name in wanted if name not in state]
    faults += [f"{name} is not of this model" for name in state if name not in wanted]
    faults += [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}, or whole numbers"
        for name in wanted
        if name in state and _differ(state[name], wanted[name])
    ]
    if faults:
        raise DataError(f"{path} does not match {source}: {_listed(faults)}; {remedy}")
    model.load_state_dict(state)


def prepare_of(config: Config, data: Path | None, *, seed: int) -> Task:
    """Return the split of one seed of an experiment."""
    return prepare(config.benchmark, data=data, seed=seed, modalities=config.modalities, protocol=config.protocol)


def _differ(found: Tensor, wanted: Tensor) -> bool:
    """Return whether a weight cannot take the place of another: by its shape, or whole numbers in place of others."""
    return found.shape != wanted.shape or found.is_floating_point() != wanted.is_floating_point()


def _listed(things: Sequence[str], most: int = 3) -> str:
    """Return the first few of some things, and the number of the others."""
    rest = f" and {len(things) - most} more" if len(things) > most else ""
    return "; ".join(things[:most]) + rest
