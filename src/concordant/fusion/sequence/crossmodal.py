"""MulT: every modality attends to every other one, pair by pair, without alignment.

Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL 2019, for any number of
modalities: a temporal convolution to a common width, a crossmodal transformer for each ordered pair, a self-attention
transformer over all outputs of each target, its last valid step, and a residual layer before the head. Absent
modalities and padded steps are ignored.
Shapes: features (B, L_m, D_m) -> (B, L_m, W) -> (B, L_m, (M - 1) W) -> last steps (B, M (M - 1) W) -> logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.errors import UsageError
from concordant.fusion.attention import blocks, known_steps, sinusoids, valid_steps
from concordant.fusion.base import Fusion, Specs, Tensors, register
from concordant.fusion.sequence.steps import compact, last_of


@register(
    "mult",
    setting="sequence",
    summary="crossmodal transformers for every ordered pair of modalities",
    paper="Tsai et al., ACL 2019",
    small={"width": 32, "heads": 4, "layers": 1, "memory_layers": 1, "kernel": 1},
)
class CrossmodalTransformer(Fusion):
    """Crossmodal transformers for all ordered pairs of modalities.

    Args: as for `Fusion`, with
        width: of a step; even. Width, heads and layers default to the paper's for CMU-MOSI.
        heads: attention heads.
        layers: of each crossmodal transformer.
        memory_layers: of the self-attention transformer after them; 3, as in the released code.
        kernel: steps in the convolution's window; odd.
        dropout: in the layers and before the head, in training.

    Raises:
        UsageError: an even `kernel`.
    """

    may_be_zero = ("memory_layers",)

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        width: int = 40,
        heads: int = 10,
        layers: int = 4,
        memory_layers: int = 3,
        kernel: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes=classes)
        if kernel % 2 == 0:
            raise UsageError(f"kernel must be odd, or steps would be shifted; found {kernel}")
        # Zero padding: beyond a sequence's end all is zero, as its padded steps are.
        self.project = nn.ModuleDict(
            {
                name: nn.Conv1d(self.specs[name].size, width, kernel, padding=kernel // 2, bias=False)
                for name in self.names
            }
        )
        self.across = nn.ModuleDict(
            {
                target: nn.ModuleDict(
                    {
                        source: blocks(layers, width, heads, cross=True, dropout=dropout)
                        for source in self.names
                        if source != target
                    }
                )
                for target in self.names
            }
        )
        found = width * max(len(self.names) - 1, 1)
        self.memory = nn.ModuleDict(
            {name: blocks(memory_layers, found, heads, cross=False, dropout=dropout) for name in self.names}
        )
        joined = found * len(self.names)
        self.residual = nn.Sequential(
            nn.Linear(joined, joined), nn.ReLU(), nn.Dropout(dropout), nn.Linear(joined, joined)
        )
        self.head = nn.Linear(joined, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        tokens, valid, lengths = {}, {}, {}
        for name in self.names:
            steps = self.positions(name, features)
            # Valid steps first, without gaps: convolution and positions are then those of the unpadded sequence.
            moved, lengths[name] = compact(steps, valid_steps(steps, masks.get(name), present.get(name)))
            places = torch.arange(steps.shape[1], device=steps.device)
            valid[name] = places < lengths[name].unsqueeze(1)
            token = self.project[name](moved.transpose(1, 2)).transpose(1, 2)
            tokens[name] = known_steps(token + sinusoids(token), valid[name])
        last = [last_of(self._found(name, tokens, valid), lengths[name]) for name in self.names]
        joined = torch.cat(last, 1)
        logits: Tensor = self.head(joined + self.residual(joined))
        return logits

    def _found(self, target: str, tokens: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """Return one modality's outputs of attention to all others, (B, L, (M - 1) W)."""
        parts = []
        for source, layers in self.across[target].items():  # type: ignore[operator]
            x = tokens[target]
            for block in layers:
                x = block(x, tokens[source], ~valid[source])
            parts.append(x)
        x = torch.cat(parts, 2) if parts else tokens[target]
        for block in self.memory[target]:  # type: ignore[attr-defined]
            x = block(x, ignored=~valid[target])
        return x
