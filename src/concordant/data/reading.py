"""What a reader of files hands over: a card, instances one by one, and what it found wrong on the way.

Readers are lazy: nothing but the first look at the files happens before the instances are asked for, so that a
dataset larger than memory can be read. What is counted while reading is therefore complete only at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import Card
from concordant.data.formats.values import Repairs, finite_float32
from concordant.data.store import Instance


@dataclass
class Findings:
    """What a reader counts while it reads.

    Args:
        repairs: modality -> values that were replaced by 0, since they were not finite as float32.
        failures: clip -> why it could not be decoded; it is left out of the dataset.
        notes: what a user should know, in sentences; they follow those of the card.
    """

    repairs: dict[str, Repairs] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def clean(self, modality: str, values: NDArray[Any], what: str) -> NDArray[np.float32]:
        """Return values as finite float32, and count what was replaced.

        Args:
            modality: whose values they are.
            values: numbers of any shape.
            what: names them in an error, for example a file and a key.

        Raises:
            DataError: they are no real numbers.
        """
        clean, repairs = finite_float32(values, what)
        self.repairs[modality] = self.repairs.get(modality, Repairs()) + repairs
        return clean

    def on(self, card: Card) -> Card:
        """Return the card with what was found."""
        repaired = {name: str(repairs) for name, repairs in self.repairs.items() if repairs.total}
        failed: tuple[str, ...] = ()
        if self.failures:
            failed = (f"{len(self.failures)} clips could not be decoded and are left out; failures.json says why",)
        notes = (*card.notes, *self.notes, *failed)
        return card.model_copy(update={"repairs": {**card.repairs, **repaired}, "notes": notes})


@dataclass(frozen=True)
class Reading:
    """A dataset that is about to be read.

    Args:
        card: what it is; rows are counted when it is written.
        instances: in their order; they can be gone through once.
        findings: filled while the instances are gone through.
    """

    card: Card
    instances: Iterable[Instance]
    findings: Findings = field(default_factory=Findings)
