"""The comparisons of results.json: one method with every twin and rival, under every condition.

Outcomes are accuracies of single instances, read from the predictions; "corruption.mean" is an instance's mean over the
corruptions. Primary are the differences to the two twins, clean and in the mean over corruptions; all others are
secondary. Holm's correction is over each of the two families by itself, so that further rivals and conditions do not
change what is primary.
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
TWINS = ("none", "none+perturbed")
MAIN = (CLEAN, CORRUPTION_MEAN)
FAMILIES = ("primary", "secondary")

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


def measured_everywhere(correct: Correct, *, without: Sequence[str] = ()) -> set[str]:
    """Return the conditions that every run has, runs of the labels in `without` apart.

    A swap can be measured on the test split of one seed and not of another; what not all have is compared nowhere.
    """
    return set.intersection(*(set(one) for (label, _), one in correct.items() if label not in without))


def central(labels: Iterable[str]) -> str:
    """Return the method that results are about: "context" if it was run, else the last one.

    >>> central(["none", "context", "gmu"]), central(["none", "gmu"])
    ('context', 'gmu')
    """
    known = list(labels)
    return OURS if OURS in known else known[-1]


def family_of(to: str, condition: str) -> str:
    """Return the family of a comparison with the central method, "primary" or "secondary"."""
    return FAMILIES[0] if to in TWINS and condition in MAIN else FAMILIES[1]


def compare(
    correct: Correct, labels: Sequence[str], *, baselines: Sequence[str] = (), resamples: int = 10_000
) -> list[dict[str, Any]]:
    """Return the comparisons of the central method with every other, condition by condition.

    Args:
        correct: the scores of every run on every instance; conditions that not every run has are left out.
        labels: the methods, in the order of the table.
        baselines: further labels, which come first and are compared clean and in the mean over corruptions alone.
        resamples: of the bootstrap.
    """
    ours = central(labels)
    others = [label for label in (*baselines, *labels) if label != ours]
    if not others:
        return []
    seeds = sorted({seed for label, seed in correct if label == ours})
    common = measured_everywhere(correct, without=baselines)
    known = {key: {name: one[name] for name in one if name in common} for key, one in correct.items()}
    full = {key: with_mean(one) for key, one in known.items()}
    wanted = [
        (other, condition)
        for other in others
        for condition in conditions(list(known[ours, seeds[0]]))
        if other not in baselines or condition in MAIN
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
    for family in FAMILIES:
        mine = [entry for entry in found if entry["family"] == family]
        for entry, adjusted in zip(mine, holm([entry["p_bootstrap"] for entry in mine]), strict=True):
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
        "family": family_of(other, condition),
        "mean_of": paired.mean_of,
        "mean_to": paired.mean_to,
        "difference": paired.difference,
        "ci95": list(paired.ci95),
        "p_bootstrap": paired.p_value,
        "p_holm": None,  # set when the whole family is known
        "p_wilcoxon": wilcoxon(by_seed),
        "seeds": paired.seeds,
    }
