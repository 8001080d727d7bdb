"""Which of the states that a run passes through is kept."""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import Tensor

from concordant.training.model import MultimodalModel
from concordant.training.sharding import whole_state


class Best:
    """Keeps the latest state whose validation score lies within one standard error of the best so far.

    Validation parts are small, so the very best score is often luck; the schedule settles a later state more
    (the one-standard-error rule, Breiman et al., Classification and Regression Trees, 1984).

    Args:
        model: what is trained.
    """

    def __init__(self, model: MultimodalModel) -> None:
        self.model = model
        self.best, self.error, self.step, self.stale = -math.inf, 0.0, 0, 0
        self.state: dict[str, Tensor] = {}

    def offer(self, score: float, error: float, step: int) -> None:
        """Take in the score of the state after `step`, and its standard error."""
        if score > self.best:
            self.best, self.error = score, error
        if score >= self.best - self.error:
            self.stale, self.step = 0, step
            self.state = copy.deepcopy(whole_state(self.model))
        else:
            self.stale += 1

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a run needs to go on."""
        return {name: getattr(self, name) for name in ("best", "error", "step", "stale", "state")}

    def load_state_dict(self, known: dict[str, Any]) -> None:
        """Be as `state_dict` says."""
        for name, value in known.items():
            setattr(self, name, value)
