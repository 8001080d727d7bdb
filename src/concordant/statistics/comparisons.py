"""The comparisons of results.json: one method with every twin and rival, under every condition.

Outcomes are accuracies of single instances, read from the predictions; "corruption.mean" is an instance's mean over the
corruptions. Holm's correction is over all comparisons of the table.
Axis letters: N test instances of one seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from concordant import seeding
from concordant.statistics.bootstrap import Outcomes, PairedDifference, paired_bootstraps
from concordant.statistics.significance import holm, wilcoxon

METRIC = "accuracy"
CLEAN = "clean"
CORRUPTION_MEAN = "corruption.mean"
OURS = "context"

Correct = Mapping[tuple[str, int], Mapping[str, Outcomes]]  # (label, seed) -> condition -> outcomes


def conditions(present: Sequence[str]) -> list[str]:
    """Return the conditions in the order of the table, with the mean over the corruptions after the clean one."""
    corrupted = [name for name in present if name.startswith("corruption.")]
    rest = [name for name in present if name.startswith("removal.")]
    return [CLEAN, *([CORRUPTION_MEAN] if corrupted else []), *corrupted, *rest]


def with_mean(outcomes: Mapping[str, Outcomes]) -> dict[str, Outcomes]:
    """Return the outcomes of one run with each instance's mean over the corruptions added."""
    corrupted = [one for name, one in outcomes.items() if name.startswith("corruption.")]
    if not corrupted:
        return dict(outcomes)
    mean = np.mean([np.asarray(one.values, dtype=np.float64) for one in corrupted], 0)
    return {**outcomes, CORRUPTION_MEAN: Outcomes(mean, corrupted[0].ids, corrupted[0].groups)}


def central(labels: Iterable[str]) -> str:
    """Return the method that results are about: "context" if it was run, else the last one.

    >>> central(["none", "context", "gmu"]), central(["none", "gmu"])
    ('context', 'gmu')
    """
    known = list(labels)
    return OURS if OURS in known else known[-1]


def reference(labels: Sequence[str]) -> str | None:
    """Return the method that is compared with all others, the central one; None if there is no other."""
    return central(labels) if len(labels) > 1 else None


def compare(correct: Correct, labels: Sequence[str], *, resamples: int = 10_000) -> list[dict[str, Any]]:
    """Return the comparisons of the reference method with every other, condition by condition.

    Args:
        correct: the scores of every run on every instance.
        labels: the methods, in the order of the table.
        resamples: of the bootstrap.
    """
    ours = reference(labels)
    if ours is None:
        return []
    seeds = sorted({seed for label, seed in correct if label == ours})
    full = {key: with_mean(one) for key, one in correct.items()}
    wanted = [
        (other, condition)
        for other in labels
        if other != ours
        for condition in conditions(list(correct[ours, seeds[0]]))
    ]
    sides = [
        [{seed: full[label, seed][condition] for seed in seeds} for label in (ours, other)]
        for other, condition in wanted
    ]
    paired = paired_bootstraps(
        [(of, to) for of, to in sides], seed=seeding.derive_seed(0, "bootstrap"), resamples=resamples
    )
    found = [
        _entry(ours, other, condition, one, _by_seed(of) - _by_seed(to))
        for (other, condition), one, (of, to) in zip(wanted, paired, sides, strict=True)
    ]
    for entry, adjusted in zip(found, holm([entry["p_bootstrap"] for entry in found]), strict=True):
        entry["p_holm"] = adjusted
    return found


def _by_seed(outcomes: Mapping[int, Outcomes]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.mean(outcomes[seed].values) for seed in sorted(outcomes)])


def _entry(
    ours: str, other: str, condition: str, paired: PairedDifference, by_seed: np.ndarray[Any, np.dtype[np.float64]]
) -> dict[str, Any]:
    return {
        "of": ours,
        "to": other,
        "condition": condition,
        "metric": METRIC,
        "mean_of": paired.mean_of,
        "mean_to": paired.mean_to,
        "difference": paired.difference,
        "ci95": list(paired.ci95),
        "p_bootstrap": paired.p_value,
        "p_holm": None,  # set when the whole table is computed
        "p_wilcoxon": wilcoxon(by_seed),
        "seeds": paired.seeds,
    }
