"""Does reliability tell which modality was corrupted, and whether any was? Two areas under the ROC curve.

A calibrator may hold one modality in lower esteem than another throughout, so a reliability is first
compared with what the same modality gets on clean validation data.

Axis letters: N test instances, V validation instances, M modalities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

Array = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Reliabilities are of order 1: a spread below this is none.
_LEAST_STD = 1e-6


def standardise(values: Array, reference: Array, *, reference_present: Array | None = None) -> Floats:
    """Return how many standard deviations each reliability lies from its modality's mean on clean data.

    z = (value - mean) / max(std, 1e-6), with mean and std (over all, not n - 1) of the reference
    instances that have the modality. A reliability that is the same everywhere gives exactly 0, and so
    does a modality that no reference instance has.

    Args:
        values: (N, M) reliabilities.
        reference: (V, M) reliabilities on clean validation data.
        reference_present: (V, M) True where the validation instance has the modality; None for always.

    Raises:
        UsageError: shapes do not match, or a reliability of a present modality is not finite.
    """
    clean, here = _checked("reference", reference, None, reference_present, "reference_present")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != clean.shape[1]:
        raise UsageError(f"values must have shape (N, {clean.shape[1]}), as reference has, got {values.shape}")
    number = np.maximum(here.sum(axis=0), 1)  # (M,)
    # Measured from the first value, a constant has a mean of exactly 0 and not a rounding error.
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
    """Ask whether the corrupted modality of an instance is told from its untouched ones.

    All present modalities of the instances with a corruption are pooled: positives are the corrupted
    entries, and the score is minus the standardised reliability. 1 means that reliability always
    drops where the corruption is, 0.5 that it knows nothing (a constant reliability), 0 that it rises.

    Args:
        reliability: (N, M) on the corrupted test instances; None for a method that gives none.
        reference: (V, M) on clean validation data.
        corrupted: (N, M) True at the modality that was hit: one an instance, or none.
        present: (N, M) True where the instance has the modality; None for always.
        reference_present: (V, M) the same of the validation instances.

    Returns:
        The area in [0, 1]; None where there is nothing to tell: no reliability, no corrupted entry, or no
        untouched modality beside one.

    Raises:
        UsageError: shapes do not match, more than one modality of an instance or an absent one is
            corrupted, or a reliability of a present modality is not finite.
    """
    if reliability is None:
        return None
    values, here = _checked("reliability", reliability, np.shape(corrupted), present, "present")
    hit = _hits(corrupted, here)
    z = standardise(values, reference, reference_present=reference_present)  # (N, M)
    pooled = here & hit.any(axis=1, keepdims=True)  # (N, M)
    return _auroc(hit[pooled], -z[pooled])


def whether_auroc(
    reliability: Array | None,
    untouched: Array | None,
    *,
    reference: Array,
    corrupted: Array,
    present: Array | None = None,
    reference_present: Array | None = None,
) -> float | None:
    """Ask whether a corrupted instance is told from an untouched one by its least reliable modality.

    Positives are the instances with a corruption, negatives the same instances before it; the score is
    minus the lowest standardised reliability among the present modalities. 1 means that a
    corrupted instance is always the less reliable, 0.5 that reliability knows nothing.

    Args:
        reliability: (N, M) on the corrupted test instances; None for a method that gives none.
        untouched: (N, M) on the same instances before corruption; None as above.
        reference: (V, M) on clean validation data.
        corrupted: (N, M) True at the modality that was hit: one an instance, or none.
        present: (N, M) True where the instance has the modality; None for always.
        reference_present: (V, M) the same of the validation instances.

    Returns:
        The area in [0, 1]; None where there is no reliability or no corrupted instance.

    Raises:
        UsageError: shapes do not match, more than one modality of an instance or an absent one is
            corrupted, or a reliability of a present modality is not finite.
    """
    if reliability is None or untouched is None:
        return None
    after, here = _checked("reliability", reliability, np.shape(corrupted), present, "present")
    before, _ = _checked("untouched", untouched, np.shape(corrupted), present, "present")
    hit = _hits(corrupted, here).any(axis=1)  # (N,)
    scores = []
    for values in (after, before):
        z = standardise(values, reference, reference_present=reference_present)
        scores.append(-np.where(here, z, np.inf).min(axis=1)[hit])  # finite: the modality hit is present
    truth = np.repeat([True, False], int(hit.sum()))
    return _auroc(truth, np.concatenate(scores))


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


def _hits(corrupted: Array, here: Bools) -> Bools:
    """Check which modalities were hit (N, M) and return that as booleans."""
    hit = np.asarray(corrupted, dtype=np.bool_)
    if (hit.sum(axis=1) > 1).any():
        row = int(np.flatnonzero(hit.sum(axis=1) > 1)[0])
        raise UsageError(f"corrupted may mark one modality of an instance, but instance {row} has {hit[row].sum()}")
    if (hit & ~here).any():
        row, column = np.argwhere(hit & ~here)[0].tolist()
        raise UsageError(f"corrupted marks modality {column} of instance {row}, which present says is absent")
    return hit


def _auroc(truth: Bools, scores: Floats) -> float | None:
    """Return the area under the ROC curve, ties counting one half; None if one class is empty."""
    if truth.all() or not truth.any():
        return None

    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))
