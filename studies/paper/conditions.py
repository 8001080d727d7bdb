"""The conditions under which every trained model is asked, and the part that each of them makes of a test part.

"clean"; "corruption.<kind>.<severity>"; "oracle.<modalities>", the corrupted modality of every instance given as
absent, one for each set of modalities that some kind can hit; "removal.<modality>". One random modality of every
instance is hit, the same under every kind that can hit the same modalities.
Axis letters: N instances, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from concordant.data.split import Bools, Split
from concordant.robustness.conditions import SplitContext, check_kinds, removal, stress_conditions
from concordant.robustness.corruptions import Kind

CONTROL = "same-class-swap"  # its donors are of the same class: no corruption that should cost anything


@dataclass(frozen=True)
class Condition:
    """A test part as it is shown.

    Args:
        name: of the condition.
        part: what is shown.
        hit: bool (N, M), True at perturbed modalities, and at those that an oracle gets as absent.
    """

    name: str
    part: Split
    hit: Bools


def conditions(part: Split, context: SplitContext, severities: Sequence[int], seed: int) -> Iterator[Condition]:
    """Yield a part under every condition.

    Args:
        part: the test part.
        context: what corruption needs to know of it.
        severities: of every kind, counted from 1.
        seed: of what is drawn; the run's.
    """
    stressed = stress_conditions(part, context, check_kinds(None), seed, severities=severities)
    for one in (*stressed, *map(removal, part.inputs)):
        yield Condition(one.name, *one.change(part, None))


def applied(part: Split, context: SplitContext) -> list[tuple[Kind, tuple[str, ...]]]:
    """Return the kinds that can change anything here, each with the modalities that it can change."""
    found = [(kind, context.able(kind, part.shapes)) for kind in check_kinds(None)]
    return [(kind, able) for kind, able in found if able]
