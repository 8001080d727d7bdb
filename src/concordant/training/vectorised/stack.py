"""The models of all seeds as one: parameters, running statistics and the optimiser's state stacked along a first axis.

AdamW works on every number by itself, and all seeds are at the same step of the same schedule, so that stacked
parameters are updated as each seed's alone are.
Axis letters: S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Stack:
    """Stacked parameters and buffers with their optimiser.

    Args:
        models: one a seed, of one architecture, on one device; their values are copied.
        learning_rate: of AdamW, the highest of the one-cycle schedule.
        weight_decay: of AdamW.
        steps: of the schedule.
    """

    def __init__(self, models: Sequence[nn.Module], *, learning_rate: float, weight_decay: float, steps: int) -> None:
        named = [dict(model.named_parameters()) for model in models]
        buffers = [dict(model.named_buffers()) for model in models]
        self.parameters: dict[str, Tensor] = {}
        self.others: dict[str, Tensor] = {}
        for name, value in named[0].items():
            stacked = torch.stack([one[name].detach() for one in named])
            if value.requires_grad:
                self.parameters[name] = stacked.requires_grad_()
            else:
                self.others[name] = stacked
        self.others |= {name: torch.stack([one[name] for one in buffers]) for name in buffers[0]}
        self._optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, learning_rate, total_steps=steps)

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Update the parameters; those without a gradient stay, as they would alone."""
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._schedule.step()

    def put(self, place: int, model: nn.Module) -> None:
        """Copy one seed's parameters and buffers into a model."""
        with torch.no_grad():
            into = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            for name, value in (*self.parameters.items(), *self.others.items()):
                into[name].copy_(value[place])

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the seeds at these places alone."""
        rows = torch.tensor(list(places))
        group = self._optimizer.param_groups[0]
        kept, state = {}, {}
        for name, old in self.parameters.items():
            new = old.detach()[rows].requires_grad_()
            known = self._optimizer.state.pop(old, {})
            if known:
                state[new] = {key: x[rows] if x.shape == old.shape else x for key, x in known.items()}
            kept[name] = new
        self.parameters = kept
        self.others = {name: value[rows] for name, value in self.others.items()}
        group["params"] = list(kept.values())
        self._optimizer.state.update(state)
