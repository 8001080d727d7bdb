"""The parameters of an estimator: what is wrong with them, and what stands for those that are left open."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS

_PER_ROOT = 21.0  # steps that grow with the root of the rows: 400 with 366, 1200 with 3229, as in the benchmarks
_FEWEST, _MOST = 200, 3000


def steps_for(rows: int) -> int:
    """Return how many steps a fit of so many training instances takes.

    >>> steps_for(20), steps_for(366), steps_for(20_000)
    (200, 402, 2970)
    """
    return int(min(_MOST, max(_FEWEST, round(_PER_ROOT * math.sqrt(rows)))))


def seed_of(random_state: Any) -> int:  # noqa: ANN401
    """Return the seed that a random state stands for: itself, a draw from it, or fresh entropy for None.

    NumPy's global generator is neither read nor moved, unlike by other estimators with None.
    """
    from sklearn.utils import check_random_state

    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def faults_of(estimator: Any) -> list[str]:  # noqa: ANN401
    """Return what is wrong with the parameters, one sentence each."""
    faults = []
    counts = {"batch": 2, "width": 2} | ({} if estimator.steps is None else {"steps": 1})
    for name, least in counts.items():
        value = getattr(estimator, name)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            faults.append(f"{name} must be an integer of {least} or more; found {value!r}")
    if not faults and estimator.width % 2:
        faults.append(f"width must be even; found {estimator.width}")
    ranges = (("learning_rate", 0.0, math.inf), ("weight_decay", 0.0, math.inf), ("validation", 0.0, 1.0))
    for name, low, high in ranges:
        value = getattr(estimator, name)
        open_below = name == "learning_rate"
        inside = _is_number(value) and low <= value < high
        if not inside or (open_below and value == low):
            said = "above 0" if open_below else "0 or more" if high == math.inf else "in [0, 1)"
            faults.append(f"{name} must be a number {said}; found {value!r}")
    dropout = estimator.dropout
    if dropout != "auto" and not (_is_number(dropout) and 0 <= dropout < 1):
        faults.append(f"dropout must be 'auto' or a number in [0, 1); found {dropout!r}")
    for name, choices in (("fusion", FUSIONS), ("calibrator", CALIBRATORS)):
        if getattr(estimator, name) not in choices:
            faults.append(f"unknown {name} {getattr(estimator, name)!r}; choose from: {', '.join(choices)}")
    if not faults:
        faults += _misfits(estimator)
    return faults


def _is_number(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _misfits(estimator: Any) -> list[str]:  # noqa: ANN401
    """Return what does not go together, of names that exist."""
    calibrator, fusion = CALIBRATORS[estimator.calibrator], FUSIONS[estimator.fusion]
    faults = []
    if calibrator.late and not fusion.late:
        late = ", ".join(name for name in FUSIONS if FUSIONS[name].late)
        faults.append(
            f"calibrator {estimator.calibrator!r} decides for each modality alone and needs a late fusion, one of "
            f"{late}; found {estimator.fusion!r}"
        )
    if calibrator.fused:
        faults.append(f"calibrator {estimator.calibrator!r} is for experiments alone; choose another")
    if estimator.real and calibrator.classes:
        faults.append(f"calibrator {estimator.calibrator!r} needs classes, and a regressor has none; choose another")
    return faults
