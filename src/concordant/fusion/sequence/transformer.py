"""One transformer encoder over the steps of all modalities, with an embedding of each step's modality.

Vaswani et al., "Attention Is All You Need" (2017), pre-normalised; steps of different modalities attend to each other
from the first layer on. Padded steps and absent modalities are ignored.
Shapes: features (B, L_m, D_m) -> tokens (B, 1 + L_1 + ... + L_M, W), logits (B, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from concordant.fusion.attention import sinusoids, valid_steps
from concordant.fusion.base import Fusion, Specs, Tensors, register


@register(
    "transformer",
    setting="sequence",
    summary="one transformer over the steps of all modalities, with masks",
    paper="Vaswani et al., NeurIPS 2017",
    small={"width": 64, "layers": 2, "heads": 4},
)
class TransformerFusion(Fusion):
    """A transformer over the steps of all modalities and a class token.

    Args: as for `Fusion`, with
        width: of a token; even. Width, layers and heads default to the paper's base model.
        layers: number of encoder layers.
        heads: attention heads.
        dropout: in the layers (not of attention weights) and before the head, in training.
    """

    def __init__(
        self, features: Specs, *, classes: int, width: int = 512, layers: int = 6, heads: int = 8, dropout: float = 0.1
    ) -> None:
        super().__init__(features, classes=classes)
        self.project = nn.ModuleDict({name: nn.Linear(features[name].size, width) for name in self.names})
        self.whose = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in self.names})
        self.start = nn.Parameter(0.02 * torch.randn(width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        # Dropout of attention weights would rule out the fast kernels, which save a fifth of a step.
        layer.self_attn.dropout = 0.0
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.normalise = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        first = self.positions(self.names[0], features)
        tokens = [self.start.to(first.dtype).expand(first.shape[0], 1, -1)]
        valid = [torch.ones(first.shape[0], 1, dtype=torch.bool, device=first.device)]
        for name in self.names:
            steps = self.positions(name, features)
            token = self.project[name](steps) + self.whose[name]
            tokens.append(token + sinusoids(token))
            valid.append(valid_steps(steps, masks.get(name), present.get(name)))
        if masks or present:
            left_out = ~torch.cat(valid, 1)
            joined = torch.cat(tokens, 1).masked_fill(left_out.unsqueeze(-1), 0)
            encoded = self.encoder(joined, src_key_padding_mask=left_out)
        else:
            encoded = self.encoder(torch.cat(tokens, 1))
        logits: Tensor = self.head(self.dropout(self.normalise(encoded[:, 0])))
        return logits
