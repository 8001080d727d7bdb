"""The waveforms behind a modality, for those who want to change what was recorded, not what was computed of it.

Axis letters: N instances, S samples; inputs (N, ...) in the modality's layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from concordant.data.split import Floats, Integers


@dataclass(frozen=True)
class Waves:
    """The waveforms behind one modality of a part, and the way from waveforms to its inputs.

    Args:
        waves: (N, S), 0 beyond their ends.
        lengths: samples of each (N,).
        rate: samples a second.
        inputs: waveforms (n, S) -> the modality's inputs (n, ...).
    """

    waves: Floats
    lengths: Integers
    rate: float
    inputs: Callable[[Floats], Floats]
