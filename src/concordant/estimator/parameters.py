"""Arguments of an estimator: checks, defaults that depend on the data, weights, and the rows held out for validation.

Shapes: labels, groups and weights (N,); class weights (C,).
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from concordant import seeding
from concordant.data.split import Floats, Integers, by_group
from concordant.errors import explain, shown
from concordant.estimator.inputs import InputError, foreign_errors
from concordant.rivals import CALIBRATORS
from concordant.training.config import Recipe, fusion_faults, scalar
from concordant.training.devices import device_faults

# For editors to complete; a fusion or calibrator that is registered by its user has another name.
FusionName = Literal[
    "lf-dnn", "ef-lstm", "lf-lstm", "tfn", "lmf", "mfn", "mult", "misa", "mbt", "perceiver", "transformer", "concat",
    "sum", "film", "gated", "mmtm", "centralnet", "attention",
]  # fmt: skip
CalibratorName = Literal[
    "none", "self", "joint", "gmu", "modality-dropout", "uncertainty", "evidential", "evidential-conflict", "aecf",
    "attention", "context",
]  # fmt: skip

_FEWEST_HELD = 10  # fewer held-out instances are not informative
# Field of the recipe -> scikit-learn's name for it.
_SKLEARN_NAMES = {"steps": "max_iter", "batch": "batch_size"}
_STREAM = ("estimator", "validation")


def seed_of(random_state: Any) -> int:
    """Return the seed of a random state: the integer itself, a draw from it, or fresh entropy for None.

    Unlike in scikit-learn, None neither reads nor changes NumPy's global generator.
    """
    from sklearn.utils import check_random_state

    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    random_state = scalar(random_state)
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    with foreign_errors("random_state cannot be used"):
        return int(check_random_state(random_state).randint(2**31 - 1))


def recipe_fields(estimator: Any) -> dict[str, Any]:
    """Return the fields of the recipe that are parameters of an estimator, unchecked."""
    names = {field: _SKLEARN_NAMES.get(field, field) for field in Recipe.model_fields}
    return {field: getattr(estimator, name) for field, name in names.items() if hasattr(estimator, name)}


def faults_of(estimator: Any) -> list[str]:
    """Return what is wrong with the parameters, one sentence per fault."""
    given = recipe_fields(estimator)
    faults = []
    if given["steps"] is None:
        del given["steps"]
    if isinstance(given["dropout"], str) and given.pop("dropout") != "auto":
        faults.append(f"dropout must be 'auto' or a number in [0, 1); found {estimator.dropout!r}")
    try:
        Recipe.model_validate(given)
    except ValidationError as error:
        faults.append(explain(error, _SKLEARN_NAMES))
    share = scalar(estimator.validation_fraction)
    if isinstance(share, bool) or not isinstance(share, numbers.Real) or not 0 <= share < 1:  # type: ignore[operator]
        faults.append(f"validation_fraction must be a number in [0, 1); found {shown(share)}")
    wrong = fusion_faults(estimator.fusion, (estimator.calibrator,))
    if not wrong and CALIBRATORS[estimator.calibrator].fused:
        wrong = [f"calibrator {estimator.calibrator!r} is for experiments alone; choose another"]
    elif not wrong and estimator.real and CALIBRATORS[estimator.calibrator].classes:
        wrong = [f"calibrator {estimator.calibrator!r} needs classes, and a regressor has none; choose another"]
    return [*faults, *wrong, *device_faults(estimator.device)]


def sample_weights(given: Any, count: int) -> Floats:
    """Return one weight per instance, float32 (N,).

    Raises:
        InputError: wrong shape, a weight that is negative or not finite, or zeros alone.
    """
    if given is None:
        return np.ones(count, np.float32)
    with foreign_errors("sample_weight cannot be used"):
        weights = np.asarray(given, dtype=np.float32)
    if weights.ndim == 0:
        weights = np.full(count, weights, np.float32)
    if weights.shape != (count,):
        raise InputError(f"sample_weight must have shape ({count},); found {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError("sample_weight must be finite and not negative; leave instances with other weights out")
    if not weights.any():
        raise InputError("sample_weight holds nothing but zeros (all sample weights are zero); give some instance more")
    return weights


def class_weights(given: Any, classes: NDArray[Any], y: NDArray[Any]) -> Floats:
    """Return the weight of each class (C,); classes that y lacks weigh 1.

    Args:
        given: "balanced", or class -> weight, 1 by default.
        classes: all of them (C,).
        y: the classes of the instances (N,).

    Raises:
        InputError: another type, or unknown classes.
    """
    from sklearn.utils.class_weight import compute_class_weight

    found = np.ones(len(classes), np.float32)
    here = np.isin(classes, y)
    if isinstance(given, Mapping):
        unknown = [str(name) for name in given if name not in classes.tolist()]
        if unknown:
            raise InputError(f"class_weight names classes that y has not: {', '.join(unknown)}")
        given = {name: weight for name, weight in given.items() if name in classes[here].tolist()}
    elif given != "balanced":
        raise InputError(f"class_weight must be None, 'balanced' or a dictionary; found {shown(given)}")
    with foreign_errors("class_weight cannot be used"):
        found[here] = compute_class_weight(given, classes=classes[here], y=y)
    if not np.isfinite(found).all() or (found < 0).any():
        raise InputError("class_weight must hold finite weights of 0 or more")
    return found


def hold_out(
    count: int,
    labels: Integers | None,
    groups: Any,
    share: float,
    seed: int,
) -> tuple[Integers, Integers]:
    """Return the rows to train on and those held out: stratified by class or whole groups, none if fewer than 10.

    Without groups every class keeps an instance to train on.

    Args:
        count: N.
        labels: class indices; None of a regression.
        groups: of the instances; whole groups are held out.
        share: how many are held out; 0 for none.
        seed: of the draws.

    Raises:
        InputError: there is but one group, or groups have another shape.
    """
    with foreign_errors("groups cannot be used"):
        groups = None if groups is None else np.asarray(groups)
    if groups is not None and groups.shape != (count,):
        raise InputError(f"groups must name one group per instance, shape ({count},); found {groups.shape}")
    rows = np.arange(count)
    wanted = round(share * count)
    if wanted < _FEWEST_HELD:
        return rows, rows[:0]
    if groups is not None:
        names = np.asarray([str(one) for one in groups.tolist()])
        if len(np.unique(names)) < 2:
            raise InputError(
                "groups must name two groups or more, so that one can be held out; or set validation_fraction=0"
            )
        return by_group(rows, names, share, seed, *_STREAM)
    order = np.random.default_rng(seeding.derive_seed(seed, *_STREAM)).permutation(count)
    if labels is None:
        return np.sort(order[wanted:]), np.sort(order[:wanted])
    # The classes take turns in proportion to their size: the k-th of n members comes at the time (k + 1/2) / n.
    shuffled = labels[order]
    times = np.empty(count)
    for label in np.unique(labels):
        members = np.flatnonzero(shuffled == label)
        times[members] = (np.arange(len(members)) + 0.5) / len(members)
        times[members[-1]] = np.inf  # stays in training
    held = order[np.argsort(times, kind="stable")[:wanted]]
    held = held[np.isin(held, order[np.isfinite(times)])]
    return np.setdiff1d(rows, held), np.sort(held)
