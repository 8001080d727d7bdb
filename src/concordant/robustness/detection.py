"""How well reliability detects corruption: two areas under the ROC curve, and the reliability diagram.

A calibrator may rely less on one modality than on another throughout. A reliability is therefore first compared with
the modality's reliability on clean validation data.
Axis letters: N test instances, V validation instances, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

if TYPE_CHECKING:
    from concordant.robustness.answers import Answer

Array = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BINS = 10
# Reliabilities are of order 1: a smaller spread counts as this one.
_LEAST_STD = 1e-6


def detection(corrupted: Answer, clean: Answer, usual: Answer) -> dict[str, float | None]:
    """Return both areas, "which" and "whether", of one corruption; None for a model without reliabilities.

    Args:
        corrupted: the answer under corruption.
        clean: the answer on the same instances before it.
        usual: the answer on clean validation data.
    """
    if corrupted.reliability is None or clean.reliability is None or usual.reliability is None:
        return {"which": None, "whether": None}
    common: dict[str, Any] = {
        "reference": usual.reliability,
        "corrupted": corrupted.perturbed & corrupted.present,
        "present": corrupted.present,
        "reference_present": usual.present,
    }
    return {
        "which": which_auroc(corrupted.reliability, **common),
        "whether": whether_auroc(corrupted.reliability, clean.reliability, **common),
    }


def standardise(values: Array, reference: Array, *, reference_present: Array | None = None) -> Floats:
    """Return how many standard deviations each reliability lies from its modality's mean on clean data.

    z = (value - mean) / max(std, 1e-6), with mean and std (over n, not n - 1) of the reference instances that have the
    modality. A constant reliability gives exactly 0, and so does a modality that no reference instance has.

    Args:
        values: (N, M) reliabilities.
        reference: (V, M) reliabilities on clean validation data.
        reference_present: (V, M) True where the validation instance has the modality; None = always.

    Raises:
        UsageError: shapes do not match, or a reliability of a present modality is not finite.
    """
    clean, here = _checked("reference", reference, None, reference_present, "reference_present")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != clean.shape[1]:
        raise UsageError(f"values must have shape (N, {clean.shape[1]}), as reference has, got {values.shape}")
    number = np.maximum(here.sum(axis=0), 1)  # (M,)
    # Measured from the first value, a constant has a mean of exactly 0 instead of a rounding error.
    base = np.take_along_axis(clean, here.argmax(axis=0)[None], axis=0)  # (1, M)
    shifted = np.where(here, clean - base, 0.0)  # (V, M)
    mean = shifted.sum(axis=0) / number  # (M,)
    std = np.sqrt((np.where(here, shifted - mean, 0.0) ** 2).sum(axis=0) / number)  # (M,)
    z: Floats = (values - base - mean) / np.maximum(std, _LEAST_STD)
    return np.where(here.any(axis=0), z, 0.0)


def which_auroc(
    reliability: Array | None,
    *,
    reference: Array,
    corrupted: Array,
    present: Array | None = None,
    reference_present: Array | None = None,
) -> float | None:
    """Return how well reliability separates the corrupted modality of an instance from its clean ones.

    All present modalities of the corrupted instances are pooled: positives are the corrupted entries, and the score is
    minus the standardised reliability. 1 means that reliability always drops at the corruption, 0.5 that it carries no
    information (a constant reliability), 0 that it rises.

    Args:
        reliability: (N, M) on the corrupted test instances; None for a method without reliabilities.
        reference: (V, M) on clean validation data.
        corrupted: (N, M) True at the corrupted modality: at most one per instance.
        present: (N, M) True where the instance has the modality; None = always.
        reference_present: (V, M) as `present`, for the validation instances.

    Returns:
        The area in [0, 1]; None without reliabilities, corrupted entries, or clean modalities beside them.

    Raises:
        UsageError: shapes do not match, more than one modality of an instance or an absent one is corrupted, or the
            reliability of a present modality is not finite.
    """
    if reliability is None:
        return None
    values, here = _checked("reliability", reliability, np.shape(corrupted), present, "present")
    perturbed = _perturbed(corrupted, here)
    z = standardise(values, reference, reference_present=reference_present)  # (N, M)
    pooled = here & perturbed.any(axis=1, keepdims=True)  # (N, M)
    return _auroc(perturbed[pooled], -z[pooled])


def whether_auroc(
    reliability: Array | None,
    clean: Array | None,
    *,
    reference: Array,
    corrupted: Array,
    present: Array | None = None,
    reference_present: Array | None = None,
) -> float | None:
    """Return how well the least reliable modality separates corrupted instances from clean ones.

    Positives are the instances with a corruption, negatives the same instances before it; the score is minus the
    lowest standardised reliability among the present modalities. 1 means that a corrupted instance is always the less
    reliable one, 0.5 that reliability carries no information.

    Args:
        reliability: (N, M) on the corrupted test instances; None for a method without reliabilities.
        clean: (N, M) on the same instances before corruption; None as above.
        reference: (V, M) on clean validation data.
        corrupted: (N, M) True at the corrupted modality: at most one per instance.
        present: (N, M) True where the instance has the modality; None = always.
        reference_present: (V, M) as `present`, for the validation instances.

    Returns:
        The area in [0, 1]; None without reliabilities or corrupted instances.

    Raises:
        UsageError: shapes do not match, more than one modality of an instance or an absent one is corrupted, or the
            reliability of a present modality is not finite.
    """
    if reliability is None or clean is None:
        return None
    after, here = _checked("reliability", reliability, np.shape(corrupted), present, "present")
    before, _ = _checked("clean", clean, np.shape(corrupted), present, "present")
    perturbed = _perturbed(corrupted, here).any(axis=1)  # (N,)
    scores = []
    for values in (after, before):
        z = standardise(values, reference, reference_present=reference_present)
        scores.append(-np.where(here, z, np.inf).min(axis=1)[perturbed])  # finite: the corrupted modality is present
    truth = np.repeat([True, False], int(perturbed.sum()))
    return _auroc(truth, np.concatenate(scores))


def reliability_diagram(pairs: Iterable[tuple[Answer, Answer]]) -> dict[str, Any]:
    """Return the diagram of the reliability score: of what it calls 90 % clean, how much is clean?

    Every present modality of every corrupted instance is one case, under corruption and before it: its probability of
    being clean, as the calibrator's own output has it or else as the reliability, in 10 bins (Niculescu-Mizil and
    Caruana, ICML 2005).

    Args:
        pairs: of each condition, the answer under corruption and the clean one.

    Returns:
        "edges", and by bin "predicted" (the mean probability), "intact" (the share of clean cases) and "count";
        "error" (the expected calibration error).
    """
    count, predicted, intact = np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS)
    for corrupted, clean in pairs:
        for answer, perturbed in ((corrupted, corrupted.perturbed), (clean, np.zeros_like(corrupted.perturbed))):
            probability = answer.reliability if answer.clean is None else answer.clean
            cases = answer.present & corrupted.perturbed.any(1, keepdims=True)
            values = np.clip(np.asarray(probability, dtype=np.float64), 0, 1)[cases]
            which = np.clip(np.ceil(values * BINS).astype(np.int64) - 1, 0, BINS - 1)
            count += np.bincount(which, minlength=BINS)
            predicted += np.bincount(which, weights=values, minlength=BINS)
            intact += np.bincount(which, weights=~perturbed[cases], minlength=BINS)

    def means(sums: Floats) -> list[float | None]:
        return [float(v) if n else None for v, n in zip(sums / np.maximum(count, 1), count, strict=True)]

    return {
        "edges": [round(float(edge), 10) for edge in np.linspace(0, 1, BINS + 1)],
        "predicted": means(predicted),
        "intact": means(intact),
        "count": count.tolist(),
        "error": float(np.abs(predicted - intact).sum() / max(1, count.sum())),
    }


def _checked(
    name: str, values: Array, shape: tuple[int, ...] | None, present: Array | None, present_name: str
) -> tuple[Floats, Bools]:
    """Return values (N, M), with 0 where the modality is absent, and where it is present (N, M)."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise UsageError(f"{name} must have shape (instances, modalities), neither of them 0, got {array.shape}")
    if shape is not None and array.shape != shape:
        raise UsageError(f"{name} and corrupted must have one shape, got {array.shape} and {shape}")
    here = np.ones(array.shape, dtype=np.bool_) if present is None else np.asarray(present, dtype=np.bool_)
    if here.shape != array.shape:
        raise UsageError(f"{present_name} must have the shape of {name}, {array.shape}, got {here.shape}")
    if not np.isfinite(array[here]).all():
        row, column = np.argwhere(here & ~np.isfinite(array))[0].tolist()
        raise UsageError(
            f"{name} must be finite where a modality is present, but instance {row}, modality {column} "
            f"is {array[row, column]}"
        )
    return np.where(here, array, 0.0), here


def _perturbed(corrupted: Array, here: Bools) -> Bools:
    """Check which modalities were corrupted (N, M) and return that as booleans."""
    perturbed = np.asarray(corrupted, dtype=np.bool_)
    if (perturbed.sum(axis=1) > 1).any():
        row = int(np.flatnonzero(perturbed.sum(axis=1) > 1)[0])
        raise UsageError(
            f"corrupted may mark one modality of an instance, but instance {row} has {perturbed[row].sum()}"
        )
    if (perturbed & ~here).any():
        row, column = np.argwhere(perturbed & ~here)[0].tolist()
        raise UsageError(f"corrupted marks modality {column} of instance {row}, which present says is absent")
    return perturbed


def _auroc(truth: Bools, scores: Floats) -> float | None:
    """Return the area under the ROC curve, ties counting one half; None if one class is empty."""
    if truth.all() or not truth.any():
        return None

    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))
