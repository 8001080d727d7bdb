"""Memory Fusion Network: one LSTM per modality, attention over the change of their cells, and a gated memory.

Zadeh et al., "Memory Fusion Network for Multi-view Sequential Learning", AAAI 2018, for any number of
modalities: the LSTMs read common steps (see `steps.align`); the delta-memory attention weighs the cells of this step
and the one before; the multi-view gated memory accumulates its output.
Shapes: common steps (B, S, D_m), cells (B, H) per modality, memory (B, U), logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.fusion.attention import valid_steps
from concordant.fusion.base import Fusion, Specs, Tensors, register
from concordant.fusion.sequence.steps import align


@register(
    "mfn",
    setting="sequence",
    summary="one LSTM per modality, attention over their cells, a gated memory",
    paper="Zadeh et al., AAAI 2018",
    small={"hidden": 32, "memory": 32, "attention": 32, "shares": 10},
)
class MemoryFusion(Fusion):
    """One LSTM per modality over aligned steps, and a memory across them.

    Args: as for `Fusion`, with
        hidden: width of each LSTM, H; 64, among the widths that the paper searches.
        memory: width of the memory, U; 128, likewise.
        attention: width of the hidden layers of attention, gates and head.
        shares: number of common steps for sequences of different lengths.
        dropout: in those hidden layers, in training.
    """

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        hidden: int = 64,
        memory: int = 128,
        attention: int = 128,
        shares: int = 20,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes=classes)
        self.hidden, self.memory, self.shares = hidden, memory, shares
        self.cells = nn.ModuleDict({name: nn.LSTMCell(self.specs[name].size, hidden) for name in self.names})
        changes = 2 * hidden * len(self.names)  # the cells of two steps

        def network(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(inputs, attention), nn.ReLU(), nn.Dropout(dropout), nn.Linear(attention, outputs)
            )

        self.attend = network(changes, changes)
        self.propose = network(changes, memory)
        self.retain = network(changes + memory, memory)
        self.update = network(changes + memory, memory)
        self.head = network(hidden * len(self.names) + memory, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        steps = {name: self.positions(name, features) for name in self.names}
        valid = {name: valid_steps(x, masks.get(name), present.get(name)) for name, x in steps.items()}
        aligned, any_valid = align(steps, valid, shares=self.shares)
        first = aligned[self.names[0]]
        zeros = first.new_zeros(first.shape[0], self.hidden)
        states = dict.fromkeys(self.names, (zeros, zeros))
        memory = first.new_zeros(first.shape[0], self.memory)
        for step in range(first.shape[1]):
            keep = any_valid[:, step : step + 1]
            now = {name: self.cells[name](aligned[name][:, step], states[name]) for name in self.names}
            new = self.remember(self._cells(states), self._cells(now), memory)
            memory = torch.where(keep, new, memory)  # a padded step changes nothing
            for name in self.names:
                (h, c), (before_h, before_c) = now[name], states[name]
                states[name] = (torch.where(keep, h, before_h), torch.where(keep, c, before_c))
        last = torch.cat([*(states[name][0] for name in self.names), memory], 1)
        logits: Tensor = self.head(last)
        return logits

    def remember(self, before: Tensor, now: Tensor, memory: Tensor) -> Tensor:
        """Return the memory (B, U) after one step, from the cells of two steps and the memory so far."""
        changes = torch.cat([before, now], 1)
        attended = self.attend(changes).softmax(1) * changes
        proposal = self.propose(attended).tanh()
        both = torch.cat([attended, memory], 1)
        kept: Tensor = self.retain(both).sigmoid() * memory + self.update(both).sigmoid() * proposal
        return kept

    def _cells(self, states: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        return torch.cat([states[name][1] for name in self.names], 1)
