"""What an estimator says of one instance and why: the prediction, and a verdict on every modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from concordant.visualisation.explain import Verdict
from concordant.visualisation.trace import Observed

_UNUSUAL = 2.0  # standard deviations from the usual


@dataclass(frozen=True)
class Explanation:
    """One instance explained; `str()` of it is a few lines to read.

    Args:
        prediction: a class, or a number.
        confidence: the probability of that class; None of a regression.
        verdicts: what was made of each modality. Dimensions are those of the encoder's features, not of X.
    """

    prediction: Any
    confidence: float | None
    verdicts: list[Verdict]

    def __str__(self) -> str:
        sure = "" if self.confidence is None else f" with probability {self.confidence:.2f}"
        return "\n".join([f"predicted {self.prediction}{sure}", *(_line(one) for one in self.verdicts)])


def only(seen: Observed, row: int) -> Observed:
    """Return one instance of what was observed."""
    at = slice(row, row + 1)
    return Observed(
        names=seen.names,
        before={name: x[at] for name, x in seen.before.items()},
        after={name: x[at] for name, x in seen.after.items()},
        gates={name: x[at] for name, x in seen.gates.items()},
        reliability=seen.reliability[at],
        present=seen.present[at],
        support=seen.support[at],
        conflict=seen.conflict[at],
        logits=None if seen.logits is None else seen.logits[at],
    )


def _line(one: Verdict) -> str:
    if not one.present:
        return f"  {one.modality}: absent"
    unusual = f", {'less' if one.z < 0 else 'more'} than usual" if abs(one.z) > _UNUSUAL else ""
    words = f"  {one.modality}: reliability {one.reliability:.2f} (usually {one.usual:.2f}{unusual})"
    for what, others in (("supported", one.supported_by), ("contradicted", one.contradicted_by)):
        if others:
            words += f"; {what} by " + ", ".join(f"{name} {value:.2f}" for name, value in others)
    return words
