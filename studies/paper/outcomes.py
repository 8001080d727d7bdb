"""What the runs of a cell scored, instance by instance, read from the files that stressing wrote.

Every number of every table is a mean of these over instances and seeds, so that one bootstrap serves all of them: 1
where a prediction is right, 0 where not; its mean over severities and kinds; and of detection the components of an
area under the ROC curve (see `studies.paper.components`).
Axis letters: N test instances of one seed, n those that a corruption hit, M modalities.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Strings
from concordant.errors import DataError
from concordant.robustness.answers import agree
from concordant.robustness.conditions import CLEAN
from concordant.robustness.corruptions import KINDS
from concordant.statistics.bootstrap import Outcomes
from concordant.training.folder import ExperimentFolder
from studies.paper.components import whether_components, which_components
from studies.paper.conditions import CONTROL
from studies.paper.grid import Cell, Experiment
from studies.paper.stressing import FILE, TOLD, VALIDATION

Values = NDArray[np.float64]
MEAN, SEEN, UNSEEN = "corruption.mean", "corruption.seen", "corruption.unseen"


@dataclass(frozen=True)
class RunOutcomes:
    """What one run scored.

    Args:
        ids: (N,).
        groups: (N,), or None.
        values: condition -> (N,); "which.<kind>.<severity>" and "whether..." -> (n,), where the run has reliabilities.
        hit: bool (N,), the n instances that corruptions hit.
        told: kind of corruption -> the condition of its oracle.
        extra: what else is recorded of the run (its run.json).
    """

    ids: Strings
    groups: Strings | None
    values: Mapping[str, Values]
    hit: NDArray[np.bool_]
    told: Mapping[str, str]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def outcomes(self, condition: str) -> Outcomes:
        """Return the outcomes under a condition with their ids and groups."""
        rows = self.hit if condition.startswith(("which.", "whether.")) else slice(None)
        groups = None if self.groups is None else self.groups[rows]
        return Outcomes(self.values[condition], self.ids[rows], groups)

    @property
    def kinds(self) -> list[str]:
        """The kinds of corruption, the control included."""
        return list(self.told)


@dataclass(frozen=True)
class CellOutcomes:
    """What all runs of a cell scored.

    Args:
        cell: which.
        labels: its methods, in the order of the tables.
        ablations: the calibrator with parts switched off.
        severities: of every kind, counted from 1.
        runs: label -> seed -> what it scored.
        stability: label -> one mapping a seed from measure to number; none where training was not observed.
    """

    cell: Cell
    labels: tuple[str, ...]
    ablations: tuple[str, ...]
    severities: tuple[int, ...]
    runs: Mapping[str, Mapping[int, RunOutcomes]]
    stability: Mapping[str, Sequence[Mapping[str, float | None]]] = field(default_factory=dict)

    @property
    def any(self) -> RunOutcomes:
        """One of the runs, for what they share."""
        return next(iter(self.runs[self.labels[0]].values()))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities."""
        return self.cell.family.names

    def has(self, label: str, condition: str) -> bool:
        """Say whether the runs of a method have a condition; methods without reliability have no detection."""
        return all(condition in run.values for run in self.runs[label].values())

    def outcomes(self, label: str, condition: str) -> dict[int, Outcomes]:
        """Return seed -> outcomes."""
        return {seed: run.outcomes(condition) for seed, run in self.runs[label].items()}

    def means(self, label: str, condition: str) -> Values:
        """Return the score of every seed (S,)."""
        return np.array([float(run.values[condition].mean()) for run in self.runs[label].values()])

    def worst_removal(self, label: str) -> str:
        """Return the condition without the modality that a method misses most, by its mean over seeds."""
        return min((f"removal.{name}" for name in self.modalities), key=lambda one: self.means(label, one).mean())


def read_cell(experiments: Sequence[Experiment], severities: Sequence[int]) -> CellOutcomes:
    """Read the runs of one cell: its own experiment and, where there is one, that of its ablations.

    Raises:
        DataError: a file is absent or cannot be used.
    """
    runs: dict[str, dict[int, RunOutcomes]] = {}
    names: dict[bool, tuple[str, ...]] = {False: (), True: ()}
    for one in experiments:
        folder = ExperimentFolder(one.folder)
        names[one.ablations] = tuple(variant.label for variant in one.config.variants)
        for variant in one.config.variants:
            runs[variant.label] = {
                seed: read_run(folder.run(variant, seed), one.cell.family.names) for seed in range(one.config.seeds)
            }
    main = next(one for one in experiments if not one.ablations)
    stability = _stability(main) if (main.folder / "analyses" / "dynamics.json").is_file() else {}
    return CellOutcomes(main.cell, names[False], names[True], tuple(severities), runs, stability)


def read_run(run: Path, names: Sequence[str]) -> RunOutcomes:
    """Read what one run scored.

    Raises:
        DataError: the file is absent or cannot be used.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from concordant.files import read_json

    try:
        table = pq.read_table(run / FILE)
        told = json.loads((table.schema.metadata or {})[TOLD])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise DataError(f"{run / FILE} cannot be used ({error}); remove it to have it made again") from None
    plain = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    condition = plain["condition"].astype(np.str_)
    starts = np.flatnonzero(np.r_[True, condition[1:] != condition[:-1]])
    pieces = {
        str(condition[start]): slice(start, stop)
        for start, stop in zip(starts, [*starts[1:], len(condition)], strict=True)
    }
    clean = pieces[CLEAN]
    right = agree(plain["label"], plain["prediction"]).astype(np.float64)
    values = {name: right[rows] for name, rows in pieces.items() if name != VALIDATION}
    hits = {name: _hit(plain["hit"][rows], names) for name, rows in pieces.items() if name.startswith("corruption.")}
    hit = np.asarray(next(iter(hits.values())).any(1), dtype=np.bool_)
    reliability = np.stack([plain[f"reliability_{name}"].astype(np.float64) for name in names], 1)  # NaN where absent
    if not np.isnan(reliability[pieces[VALIDATION]]).all():
        for name, marks in hits.items():
            if (marks.any(1) == hit).all():
                args = (reliability[pieces[name]], reliability[clean], reliability[pieces[VALIDATION]], marks)
                values[f"which.{name.removeprefix('corruption.')}"] = which_components(*args)
                values[f"whether.{name.removeprefix('corruption.')}"] = whether_components(*args)
    values |= _means(values, list(told))
    groups = None if plain["group"][clean][0] is None else plain["group"][clean].astype(np.str_)
    return RunOutcomes(plain["id"][clean].astype(np.str_), groups, values, hit, told, read_json(run / "run.json"))


def _means(values: Mapping[str, Values], kinds: Sequence[str]) -> dict[str, Values]:
    """Return an instance's mean over the severities of each kind, and over kinds; the control counts nowhere."""
    found = {}
    for kind in kinds:
        own = [one for name, one in values.items() if name.rpartition(".")[0] == f"corruption.{kind}"]
        found[f"corruption.{kind}"] = np.mean(own, 0)
    counted = [kind for kind in kinds if kind != CONTROL]
    for name, some in (
        (MEAN, counted),
        (SEEN, [kind for kind in counted if KINDS[kind].seen]),
        (UNSEEN, [kind for kind in counted if not KINDS[kind].seen]),
    ):
        if some:
            found[name] = np.mean([found[f"corruption.{kind}"] for kind in some], 0)
    return found


def _hit(victims: NDArray[Any], names: Sequence[str]) -> NDArray[np.bool_]:
    return np.stack([victims == name for name in names], 1)


def _stability(experiment: Experiment) -> dict[str, list[dict[str, float | None]]]:
    from concordant.files import read_json

    found: dict[str, list[dict[str, float | None]]] = {}
    for run in read_json(experiment.folder / "analyses" / "dynamics.json")["runs"]:
        found.setdefault(run["label"], []).append(run["stability"])
    return found
