"""Checkpoint selection: the latest state within one standard error of the best validation score so far.

Validation splits are small, and the very best score is often luck; a later state has been trained at a lower learning
rate. Source: the one-standard-error rule, Breiman et al., Classification and Regression Trees, 1984.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn

from concordant.training.devices import whole_tree


@dataclass
class CheckpointSelector:
    """Keeps one state of a model that is trained.

    Args:
        patience: evaluations in a row without a state to keep after which training stops; None = never.

    Attributes:
        best: the best score so far.
        error: its standard error.
        step: the step after which the kept state was reached.
        stale: evaluations in a row since then.
        state: parameter and buffer names -> values of the kept state; empty before the first one.
    """

    patience: int | None = None
    best: float = -math.inf
    error: float = 0.0
    step: int = 0
    stale: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, score: float, error: float, step: int, state: Callable[[], dict[str, Tensor]]) -> None:
        """Compare the state after `step` with the best so far.

        Args:
            score: of validation; higher is better. NaN is never kept.
            error: its standard error; 0 keeps the latest of the best states.
            step: the steps done so far.
            state: returns a copy of the state; called only if it is kept.
        """
        if score > self.best:
            self.best, self.error = score, error
        if score >= self.best - self.error:
            self.stale, self.step, self.state = 0, step, state()
        else:
            self.stale += 1

    @property
    def exhausted(self) -> bool:
        """Whether training should stop early."""
        return self.patience is not None and self.stale >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Load the kept state, if there is any, and put the model into evaluation mode."""
        if self.state:
            model.load_state_dict(self.state)
        model.eval()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {name: value for name, value in vars(self).items() if name != "patience"}

    def load_state_dict(self, saved: dict[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Args:
            saved: as it was read from a file.
            weights: the present ones; those of the kept state must have their names and shapes.

        Raises:
            TypeError, KeyError: the state is of something else.
        """
        state = saved["state"]
        require_alike(saved, {**self.state_dict(), "state": state}, "selector")
        if state != {}:
            require_alike(state, dict(weights), "selector.state")
        vars(self).update(saved)


def require_alike(found: object, now: object, at: str) -> None:
    """Raise TypeError or KeyError unless a value read from a file is built as the present one.

    Dictionaries must have equal keys, lists equal lengths, tensors equal shapes; numbers may be whole or not.

    Args:
        found: the value.
        now: the present one.
        at: its place, for the message.
    """
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (found, now))
    if isinstance(now, Tensor):
        if not isinstance(found, Tensor) or found.shape != now.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise TypeError(f"{at} is {shape}, not a tensor of shape {tuple(now.shape)}")
    elif type(found) is not type(now) and not numbers:
        raise TypeError(f"{at} is {type(found).__name__}, not {type(now).__name__}")
    elif isinstance(now, dict):
        found = cast("dict[str, object]", found)
        if found.keys() != now.keys():
            raise KeyError(f"{at} has {', '.join(map(repr, found))}, not {', '.join(map(repr, now))}")
        for key, value in now.items():
            require_alike(found[key], value, f"{at}.{key}")
    elif isinstance(now, (list, tuple)):
        found = cast("list[object]", found)
        if len(found) != len(now):
            raise TypeError(f"{at} has {len(found)} entries, not {len(now)}")
        for index, value in enumerate(now):
            require_alike(found[index], value, f"{at}[{index}]")


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's state; every process must call it where the model is sharded."""
    return copy.deepcopy(whole_tree(model.state_dict()))
