"""Explanation of one prediction of an estimator: the prediction itself and a verdict on each modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from concordant.visualisation.explain import Verdict

_UNUSUAL = 2.0  # standard deviations from the usual reliability


@dataclass(frozen=True)
class Explanation:
    """One explained instance; `str()` of it is a few readable lines.

    Args:
        prediction: a class, or a number.
        confidence: the probability of that class; None of a regression.
        verdicts: one per modality. Dimensions are those of the encoder's features, not of X.
    """

    prediction: Any
    confidence: float | None
    verdicts: list[Verdict]

    def __str__(self) -> str:
        sure = "" if self.confidence is None else f" with probability {self.confidence:.2f}"
        return "\n".join([f"predicted {self.prediction}{sure}", *(_line(one) for one in self.verdicts)])


def _line(one: Verdict) -> str:
    if not one.present:
        return f"  {one.modality}: absent"
    unusual = f", {'less' if one.z < 0 else 'more'} than usual" if abs(one.z) > _UNUSUAL else ""
    line = f"  {one.modality}: reliability {one.reliability:.2f} (usually {one.usual:.2f}{unusual})"
    for what, others in (("supported", one.supported_by), ("contradicted", one.contradicted_by)):
        if others:
            line += f"; {what} by " + ", ".join(f"{name} {value:.2f}" for name, value in others)
    return line
