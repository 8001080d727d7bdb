"""Whether testing is apart from training: no severity of a kind that training uses lies where training drew from.

Shares are as they are stated: of few features at least one is hit, whatever the share.
"""

from __future__ import annotations

from concordant.calibration.perturbation import Perturbation, Range
from concordant.robustness.corruptions.kind import Kind


def outside_training(kind: Kind, settings: Perturbation) -> list[str]:
    """Return one sentence for every severity that lies inside what training inflicts; none is well.

    A swap at full weight is what training inflicts too, and no fault: in testing the other instance is always of
    another class (or, in the control, of the same one), in training of any. Smaller weights training never uses.

    Args:
        kind: of corruption.
        settings: of the perturbation.
    """
    used: dict[str, tuple[str, str, tuple[Range, ...]]] = {
        "gaussian-noise": ("noise", "strength", settings.strength),
        "dimension-replacement": ("dimensions", "share", settings.share),
    }
    if not kind.seen or kind.name not in used:
        return []
    perturbation, name, ranges = used[kind.name]
    if perturbation not in settings.kinds:
        return []
    return [
        f"severity {number} of {kind.name}, {severity:g} {kind.unit}, lies inside the training perturbation's "
        f"{name} range from {low:g} to {high:g}."
        for number, severity in enumerate(kind.severities, 1)
        for low, high in ranges
        if low <= severity <= high
    ]
