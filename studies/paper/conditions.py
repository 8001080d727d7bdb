"""The conditions under which every trained model is asked, and the part that each of them makes of a test part.

"clean"; "corruption.<kind>.<severity>"; "oracle.<modalities>", the corrupted modality of every instance given as
absent, one for each set of modalities that some kind can hit; "removal.<modality>". One random modality of every
instance is hit, the same under every kind that can hit the same modalities.
Axis letters: N instances, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from concordant.data.split import Bools, Split
from concordant.robustness.corrupting import Ground, corrupt_part, victims
from concordant.robustness.corruptions import KINDS, Kind
from concordant.robustness.removal import keep, with_presence

CLEAN = "clean"
CONTROL = "same-class-swap"  # what is swapped in says the same: no corruption that should cost anything


@dataclass(frozen=True)
class Condition:
    """A test part as it is shown.

    Args:
        name: of the condition.
        part: what is shown.
        hit: bool (N, M), True at what was corrupted, and at what an oracle is told.
    """

    name: str
    part: Split
    hit: Bools


def conditions(part: Split, ground: Ground, severities: Sequence[int], seed: int) -> Iterator[Condition]:
    """Yield a part under every condition.

    Args:
        part: the test part.
        ground: what corruption needs to know of it.
        severities: of every kind, counted from 1.
        seed: of what is drawn; the run's.
    """
    names = tuple(part.inputs)
    nothing = np.zeros((len(part), len(names)), np.bool_)
    yield Condition(CLEAN, part, nothing)
    told = set()
    for kind, able in applied(part, ground):
        hit = victims(part, able, seed)
        for number in severities:
            hurt = corrupt_part(part, kind, kind.severities[number - 1], ground, seed=seed, hit=hit)
            yield Condition(f"corruption.{kind.name}.{number}", hurt.part, hit)
        if able not in told:
            told.add(able)
            here = {name: _here(part, name) & ~hit[:, column] for column, name in enumerate(names)}
            yield Condition(oracle_of(able), with_presence(part, here), hit)
    for name in names:
        yield Condition(f"removal.{name}", keep(part, [other for other in names if other != name]), nothing)


def applied(part: Split, ground: Ground) -> list[tuple[Kind, tuple[str, ...]]]:
    """Return the kinds that can change anything here, each with the modalities that it can hit."""
    found = [(KINDS[name], ground.able(KINDS[name], part.shapes)) for name in KINDS]
    return [(kind, able) for kind, able in found if able]


def oracle_of(able: Sequence[str]) -> str:
    """Return the name of the condition in which a model is told which of these modalities was hit."""
    return f"oracle.{'+'.join(able)}"


def _here(part: Split, name: str) -> Bools:
    return np.asarray(part.present.get(name, np.ones(len(part), np.bool_)))
