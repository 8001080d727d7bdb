"""Which state of a seed is kept, by the rule of single runs: the latest within one standard error of the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Kept:
    """The best validation score so far and the state that is kept.

    Attributes:
        best: score.
        error: its standard error.
        step: of the kept state.
        stale: evaluations in a row that were worse than that.
        state: name -> values.
    """

    best: float = -math.inf
    error: float = 0.0
    step: int = 0
    stale: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, score: float, error: float, step: int, state: Callable[[], dict[str, Tensor]]) -> None:
        """Look at an evaluation; `state` is asked for a copy only if it is to be kept."""
        if score > self.best:
            self.best, self.error = score, error
        if score >= self.best - self.error:
            self.stale, self.step = 0, step
            self.state = state()
        else:
            self.stale += 1
