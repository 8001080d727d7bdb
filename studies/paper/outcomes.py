"""The scores of the runs of a cell, instance by instance, read from their tables of answers.

Every number of every table is a mean of these over instances and seeds, and one bootstrap serves all of them: 1 for a
correct prediction, else 0; its mean over severities and kinds; and of detection the components of an area under the ROC
curve (DeLong et al., Biometrics 44, 1988). An area is the mean, over the positives, of the share of negatives below,
and over the negatives, of the share of positives above. The component of an instance is what it adds to the area, as a
positive and with its negatives; to first order, resampling their mean is resampling the area.
Axis letters: N test instances of one seed, n corrupted ones, V validation instances, M modalities.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Bools, Strings
from concordant.errors import DataError
from concordant.files import read_json
from concordant.robustness.answers import agree
from concordant.robustness.conditions import CLEAN
from concordant.robustness.corruptions import KINDS
from concordant.robustness.detection import standardise
from concordant.statistics.bootstrap import Outcomes
from concordant.training.runs import RunFolder
from studies.paper.grid import Cell, Experiment
from studies.paper.stress import CONTROL, FILE, ORACLES, VALIDATION

Values = NDArray[np.float64]
MEAN, SEEN, UNSEEN = "corruption.mean", "corruption.seen", "corruption.unseen"
WORST = "removal.worst"  # without the modality on which a method depends most, in the mean over seeds


@dataclass(frozen=True)
class RunOutcomes:
    """The scores of one run."""

    ids: Strings  # (N,)
    groups: Strings | None  # (N,)
    values: Mapping[str, Values]  # condition -> (N,); "which.KIND.SEVERITY", "whether..." -> (n,), with reliabilities
    corrupted: Bools  # (N,), the n corrupted instances
    oracles: Mapping[str, str]  # kind of corruption, the control included -> the condition of its oracle
    extra: Mapping[str, Any] = field(default_factory=dict)  # its run.json

    def outcomes(self, condition: str) -> Outcomes:
        """Return the outcomes under a condition with their ids and groups."""
        rows = self.corrupted if condition.startswith(("which.", "whether.")) else slice(None)
        groups = None if self.groups is None else self.groups[rows]
        return Outcomes(self.values[condition], self.ids[rows], groups)


@dataclass(frozen=True)
class CellOutcomes:
    """The scores of all runs of a cell."""

    cell: Cell
    labels: tuple[str, ...]  # its methods, in the order of the tables
    ablations: tuple[str, ...]  # the calibrator with parts switched off
    severities: tuple[int, ...]  # of every kind, counted from 1
    runs: Mapping[str, Mapping[int, RunOutcomes]]  # label -> seed -> scores
    # Label -> one mapping per seed from measure to number; empty where training was not observed.
    stability: Mapping[str, Sequence[Mapping[str, float | None]]] = field(default_factory=dict)

    @property
    def any(self) -> RunOutcomes:
        """One of the runs, for what they share."""
        return next(iter(self.runs[self.labels[0]].values()))

    def has(self, label: str, condition: str) -> bool:
        """Return whether all runs of a method have a condition; methods without reliability have no detection."""
        return all(condition in run.values for run in self.runs[label].values())

    def outcomes(self, label: str, condition: str) -> dict[int, Outcomes]:
        """Return seed -> outcomes."""
        own = self._own(label, condition)
        return {seed: run.outcomes(own) for seed, run in self.runs[label].items()}

    def means(self, label: str, condition: str) -> Values:
        """Return the score of every seed (S,)."""
        own = self._own(label, condition)
        return np.array([float(run.values[own].mean()) for run in self.runs[label].values()])

    def _own(self, label: str, condition: str) -> str:
        """Return a condition; for the worst removal, the removal with the lowest score of the method."""
        if condition != WORST:
            return condition
        removals = [f"removal.{name}" for name in self.cell.family.names]
        return min(removals, key=lambda one: self.means(label, one).mean())


def read_cell(experiments: Sequence[Experiment], severities: Sequence[int]) -> CellOutcomes:
    """Read the runs of one cell: its own experiment and, where there is one, that of its ablations.

    Raises:
        DataError: a file is absent or cannot be used.
    """
    runs: dict[str, dict[int, RunOutcomes]] = {}
    names: dict[bool, tuple[str, ...]] = {False: (), True: ()}
    stability: dict[str, list[dict[str, float | None]]] = {}
    for one in experiments:
        folder = RunFolder(one.folder)
        names[one.ablations] = tuple(variant.label for variant in one.config.variants)
        for variant in one.config.variants:
            paths = {seed: folder.run(variant, seed) for seed in range(one.config.seeds)}
            runs[variant.label] = {seed: read_run(path, one.cell.family.names) for seed, path in paths.items()}
        dynamics = one.folder / "analyses" / "dynamics.json"
        for run in read_json(dynamics)["runs"] if one.observed and dynamics.is_file() else ():
            stability.setdefault(run["label"], []).append(run["stability"])
    return CellOutcomes(experiments[0].cell, names[False], names[True], tuple(severities), runs, stability)


def read_run(run: Path, names: Sequence[str]) -> RunOutcomes:
    """Read the scores of one run.

    Raises:
        DataError: the file is absent or cannot be used.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(run / FILE)
        oracles = json.loads((table.schema.metadata or {})[ORACLES])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise DataError(f"{run / FILE} cannot be used ({error}); remove it to have it made again") from None
    plain = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    rows = {name: plain["condition"] == name for name in dict.fromkeys(plain["condition"].tolist())}
    right = agree(plain["label"], plain["prediction"]).astype(np.float64)
    values = {name: right[mine] for name, mine in rows.items() if name != VALIDATION}
    hit = np.stack([plain["corrupted"] == modality for modality in names], 1)  # (rows, M)
    masks = {name: hit[mine] for name, mine in rows.items() if name.startswith("corruption.")}  # condition -> (N, M)
    corrupted = np.asarray(next(iter(masks.values())).any(1), dtype=np.bool_)
    reliability = np.stack([plain[f"reliability_{name}"].astype(np.float64) for name in names], 1)  # NaN where absent
    usual, before = reliability[rows[VALIDATION]], reliability[rows[CLEAN]]
    for name, mask in {} if np.isnan(usual).all() else masks.items():
        if (mask.any(1) == corrupted).all():
            after, which = reliability[rows[name]], name.removeprefix("corruption.")
            values[f"which.{which}"] = which_components(after, usual, mask)
            values[f"whether.{which}"] = whether_components(after, before, usual, mask)
    values |= _means(values, list(oracles))
    ids, groups = plain["id"][rows[CLEAN]].astype(np.str_), plain["group"][rows[CLEAN]]
    known = None if groups[0] is None else groups.astype(np.str_)
    return RunOutcomes(ids, known, values, corrupted, oracles, read_json(run / "run.json"))


def _means(values: Mapping[str, Values], kinds: Sequence[str]) -> dict[str, Values]:
    """Return an instance's mean over the severities of each kind, and over kinds but the control."""
    found = {}
    for kind in kinds:
        own = [one for name, one in values.items() if name.rpartition(".")[0] == f"corruption.{kind}"]
        found[f"corruption.{kind}"] = np.mean(own, 0)
    counted = [kind for kind in kinds if kind != CONTROL]
    seen = [kind for kind in counted if KINDS[kind].seen]
    unseen = [kind for kind in counted if kind not in seen]
    for name, some in ((MEAN, counted), (SEEN, seen), (UNSEEN, unseen)):
        if some:
            found[name] = np.mean([found[f"corruption.{kind}"] for kind in some], 0)
    return found


def which_components(reliability: Values, usual: Values, corrupted: Bools) -> Values:
    """Return the components (n,) of separating the corrupted modality from the others; their mean is the area "which".

    Args:
        reliability: (N, M) of the corrupted instances, NaN where absent.
        usual: (V, M) of clean validation instances.
        corrupted: bool (N, M), at most one per instance.
    """
    rows = corrupted.any(1)
    z = _lowness(reliability, usual)[rows]
    positive = corrupted[rows]
    negative = ~np.isnan(z) & ~positive  # (n, M)
    above, below = placements(z[positive], z[negative])
    area = float(above.mean())
    rest = np.zeros(z.shape)
    rest[negative] = below - area
    return np.asarray(above + rest.sum(1) * (len(above) / len(below)))


def whether_components(reliability: Values, before: Values, usual: Values, corrupted: Bools) -> Values:
    """Return the components (n,) of separating a corrupted instance from itself before; their mean is "whether".

    Args:
        reliability: (N, M) of the corrupted instances, NaN where absent.
        before: (N, M) of these instances before corruption.
        usual: (V, M) of clean validation instances.
        corrupted: bool (N, M), at most one per instance.
    """
    rows = corrupted.any(1)
    positive, negative = (np.nanmax(_lowness(one, usual)[rows], axis=1) for one in (reliability, before))
    above, below = placements(positive, negative)
    return np.asarray(above + below - above.mean())


def placements(positive: Values, negative: Values) -> tuple[Values, Values]:
    """Return for each positive the share of negatives below it, for each negative that of positives above; ties half.

    >>> placements(np.array([0.5, 2.0]), np.array([0.0, 1.0]))
    (array([0.5, 1. ]), array([1. , 0.5]))
    """
    return _below(positive, negative), 1 - _below(negative, positive)


def _below(values: Values, others: Values) -> Values:
    ordered = np.sort(others)
    both = [np.searchsorted(ordered, values, side=side) for side in ("left", "right")]
    return np.asarray((both[0] + both[1]) / (2 * len(ordered)))


def _lowness(values: Values, usual: Values) -> Values:
    """Return how far reliabilities lie below their mean on clean data, in standard deviations; NaN where absent."""
    z = standardise(np.nan_to_num(values), np.nan_to_num(usual), reference_present=~np.isnan(usual))
    return np.where(np.isnan(values), np.nan, -z)
