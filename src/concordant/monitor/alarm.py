"""Alarms, and the diagnosis of their kind.

The guarantee holds for raising an alarm. The kind is read off the evidence since the change, without a guarantee.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TESTS = ("reliability", "agreement", "change", "level")  # what is tested in every modality
KINDS = ("drifted", "swapped", "frozen", "died")  # what the test of the same place is for; later ones say more
CONTEXT = ("reliability", "agreement")  # depend on the other modalities too
Ranks = Mapping[str, Sequence[float]]  # statistic -> where its last values lie among the clean ones, in [0, 1]

_WORDS = {
    "drifted": "its reliability is lower than usual",
    "swapped": "it agrees with no other modality, though by itself it looks as usual",
    "frozen": "it repeats itself",
    "died": "it is absent or delivers no signal",
}


@dataclass(frozen=True)
class Alarm:
    """One modality has gone bad.

    Args:
        modality: which.
        kind: "drifted", "swapped", "frozen" or "died".
        number: the instance at which it was raised; the first instance after `learn` is number 1.
        since: the instance at which the change most likely came.
        statistic: of the test that raised it.
        threshold: which that statistic reached.
        evidence: a sentence for people.
    """

    modality: str
    kind: str
    number: int
    since: int
    statistic: float
    threshold: float
    evidence: str

    def __str__(self) -> str:
        return f"{self.modality} {self.kind} at instance {self.number}, since about {self.since}: {self.evidence}"


def diagnose(ranks: Ranks) -> str:
    """Return the kind of fault that the evidence of a modality since the change indicates.

    Dead: most levels lie below every clean one. Frozen: most changes do. Swapped: agreement is low while level and
    distance from the clean mean are as usual. Drifted: anything else.

    >>> diagnose({"level": [0.0, 0.0], "change": [0.0], "agreement": [0.1], "distance": [0.5, 0.4]})
    'died'
    >>> diagnose({"level": [0.4] * 9, "change": [0.6] * 8, "agreement": [0.02] * 9, "distance": [0.5] * 9})
    'swapped'
    """
    own = seen_alone(ranks)
    if own is not None:
        return own
    low = _deviation(ranks.get("agreement", ())) < -2
    usual = abs(_deviation(ranks.get("level", ()))) < 2.5 and _deviation(ranks.get("distance", ())) < 2.5
    return "swapped" if low and usual else "drifted"


def seen_alone(ranks: Ranks) -> str | None:
    """Return "died" or "frozen" where the modality's own evidence shows it; otherwise None."""
    for kind, statistic in (("died", "level"), ("frozen", "change")):
        values = [rank for rank in ranks.get(statistic, ()) if not np.isnan(rank)]
        if values and np.mean(np.asarray(values) <= 0) > 0.5:
            return kind
    return None


def in_words(kind: str, ranks: Ranks, test: str) -> str:
    """Return a sentence on the evidence of an alarm: the kind, and how low the tested quantity has been."""
    values = [rank for rank in ranks.get(test, ()) if not np.isnan(rank)]
    if not values:
        return _WORDS[kind]
    return (
        f"{_WORDS[kind]} (last {len(values)} of {test}: on average {np.mean(values):.0%} of the clean values are lower)"
    )


def _deviation(ranks: Sequence[float]) -> float:
    """Return how many standard deviations the mean of uniform ranks lies from one half; 0 without a rank."""
    values = np.asarray([rank for rank in ranks if not np.isnan(rank)])
    return float((values.mean() - 0.5) * np.sqrt(12 * len(values))) if len(values) else 0.0
