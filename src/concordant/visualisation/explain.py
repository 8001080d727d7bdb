"""Explain low reliabilities: one instance, and the instances with the largest fall below the usual reliability.

A reliability is compared with the modality's usual one on clean validation data.
Axis letters: N instances, M modalities, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from concordant.data.split import Bools, Floats
from concordant.robustness.detection import standardise
from concordant.visualisation.trace import Trace

DIMENSIONS = 5  # shown of those scaled down, and of those scaled up


@dataclass(frozen=True)
class Verdict:
    """The calibration of one modality of one instance.

    Args:
        modality: its name.
        present: whether the instance has it.
        reliability: in (0, 1.05); 1 = the features pass unchanged.
        usual: the mean on clean validation data.
        z: standard deviations from that mean.
        supported_by: other modalities that agree, each with its support, largest first.
        contradicted_by: other modalities that disagree, each with its conflict, largest first.
        down: dimensions scaled down against the usual, largest change first: index, gate, usual gate.
        up: dimensions scaled up against the usual, largest change first.
    """

    modality: str
    present: bool
    reliability: float
    usual: float
    z: float
    supported_by: list[tuple[str, float]]
    contradicted_by: list[tuple[str, float]]
    down: list[tuple[int, float, float]]
    up: list[tuple[int, float, float]]


@dataclass(frozen=True)
class Usual:
    """Usual reliabilities and gates, those on clean validation data.

    Args:
        reliability: (V, M).
        present: bool (V, M).
        gates: modality -> its mean gate (D,).
    """

    reliability: Floats
    present: Bools
    gates: dict[str, Floats]

    @classmethod
    def of(cls, observed: Trace) -> Usual:
        """Return the usual values of a trace on clean validation data."""
        gates = {}
        for index, name in enumerate(observed.names):
            here = observed.present[:, index]
            gates[name] = observed.gates[name][here].mean(0) if here.any() else np.ones_like(observed.gates[name][0])
        return cls(observed.reliability, observed.present, gates)

    def mean(self) -> Floats:
        """Return each modality's mean over the instances that have it, (M,); 0 if none has."""
        count = self.present.sum(0)
        sums = np.where(self.present, self.reliability, 0).sum(0)
        return np.asarray(sums / np.maximum(count, 1), dtype=np.float32)

    def z(self, observed: Trace) -> Floats:
        """Return standard deviations from the usual (N, M); 0 where absent."""
        found = standardise(observed.reliability, self.reliability, reference_present=self.present)
        return np.where(observed.present, found, 0.0).astype(np.float32)


def explain(observed: Trace, row: int, usual: Usual) -> list[Verdict]:
    """Explain every modality of one instance, a row of the trace, beside the usual."""
    z, mean = usual.z(observed), usual.mean()
    found = []
    for index, name in enumerate(observed.names):
        gates, others = observed.gates[name][row], usual.gates[name]
        ratio = gates / others  # gates lie in (0.5, 1.5)
        order = np.argsort(ratio, kind="stable")
        found.append(
            Verdict(
                modality=name,
                present=bool(observed.present[row, index]),
                reliability=float(observed.reliability[row, index]),
                usual=float(mean[index]),
                z=float(z[row, index]),
                supported_by=_others(observed.names, observed.support[row, index]),
                contradicted_by=_others(observed.names, observed.conflict[row, index]),
                down=[(int(d), float(gates[d]), float(others[d])) for d in order[:DIMENSIONS] if ratio[d] < 1],
                up=[(int(d), float(gates[d]), float(others[d])) for d in order[::-1][:DIMENSIONS] if ratio[d] > 1],
            )
        )
    return found


def most_distrusted(observed: Trace, usual: Usual, count: int = 20) -> list[tuple[int, int, float]]:
    """Return (instance, modality, z) where reliability lies farthest below the usual, the farthest first.

    Absent modalities, and the only one of an instance, are left out, as are reliabilities that are not below the usual.
    The order is that of the fall itself: in standard deviations (z), a modality that hardly varies would come first.
    """
    z, fall = usual.z(observed), usual.mean() - observed.reliability
    below = observed.present & (observed.present.sum(1, keepdims=True) > 1) & (fall > 0)
    rows, columns = np.nonzero(below)
    order = np.argsort(-fall[rows, columns], kind="stable")[:count]
    return [(int(rows[k]), int(columns[k]), float(z[rows[k], columns[k]])) for k in order]


def _others(names: Sequence[str], values: Floats) -> list[tuple[str, float]]:
    found = [(name, float(value)) for name, value in zip(names, values, strict=True) if value > 0]
    return sorted(found, key=lambda one: -one[1])
