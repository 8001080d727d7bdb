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
    """Return two areas under the ROC curve of one corruption; scores are minus the standardised reliability.

    "which": how well reliability separates the corrupted modality of an instance from its clean ones, over all present
    modalities of the corrupted instances. "whether": how well the least reliable modality separates corrupted instances
    from the same instances before corruption. 1 means that reliability always drops at the corruption, 0.5 that it
    carries no information (a constant reliability), 0 that it rises. An area is None for a model without reliabilities,
    and where nothing is corrupted or nothing is clean.

    Args:
        corrupted: the answer under corruption, at most one modality per instance.
        clean: the answer on the same instances before it.
        usual: the answer on clean validation data.

    Raises:
        UsageError: shapes do not match, or the reliability of a present modality is not finite.
    """
    if corrupted.reliability is None or clean.reliability is None or usual.reliability is None:
        return {"which": None, "whether": None}
    here = corrupted.present  # (N, M)
    if here.shape != corrupted.perturbed.shape:
        raise UsageError(
            f"reliability must have one column per modality of the data, {corrupted.perturbed.shape}, got "
            f"{here.shape}; leave out modalities that the calibrator does not see"
        )
    hit = corrupted.perturbed & here  # (N, M)
    after, before = (
        standardise(_checked(name, values, here), usual.reliability, reference_present=usual.present)
        for name, values in (("reliability", corrupted.reliability), ("clean reliability", clean.reliability))
    )
    rows = np.asarray(hit.any(axis=1))  # (N,)
    pooled = here & rows[:, None]  # (N, M)
    lowest = [np.where(here, z, np.inf)[rows].min(axis=1) for z in (after, before)]  # (n,): a present modality is hit
    return {
        "which": _auroc(hit[pooled], -after[pooled]),
        "whether": _auroc(np.repeat([True, False], int(rows.sum())), -np.concatenate(lowest)),
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
    reference = np.asarray(reference)
    here = np.ones(reference.shape, np.bool_) if reference_present is None else np.asarray(reference_present, np.bool_)
    clean, values = _checked("reference", reference, here), np.asarray(values, dtype=np.float64)
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


def reliability_diagram(pairs: Iterable[tuple[Answer, Answer]]) -> dict[str, Any]:
    """Return the reliability diagram: the predicted probability of being clean against the share of clean cases.

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


def _checked(name: str, values: Array, here: Bools) -> Floats:
    """Return values (N, M), finite where a modality is present and 0 elsewhere."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise UsageError(f"{name} must have shape (instances, modalities), neither of them 0, got {array.shape}")
    if array.shape != here.shape:
        raise UsageError(f"{name} must have one value per instance and modality, {here.shape}, got {array.shape}")
    if not np.isfinite(array[here]).all():
        row, column = np.argwhere(here & ~np.isfinite(array))[0].tolist()
        raise UsageError(
            f"{name} must be finite where a modality is present, but instance {row}, modality {column} "
            f"is {array[row, column]}"
        )
    return np.where(here, array, 0.0)


def _auroc(truth: Bools, scores: Floats) -> float | None:
    """Return the area under the ROC curve, ties counting one half; None if one class is empty."""
    if truth.all() or not truth.any():
        return None

    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))
