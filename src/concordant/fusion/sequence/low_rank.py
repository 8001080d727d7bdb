"""Low-rank fusion: tensor fusion whose weights are a sum of products of one factor per modality.

Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors", ACL 2018. The outer product
is never computed: each modality is multiplied by its own factors, and the results by each other. The cost is linear in
the number of modalities, not exponential.
Shapes: [1; z_m] (B, Z + 1), factors (R, Z + 1, C) per modality, logits (B, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from concordant.fusion.base import Fusion, Specs, Tensors, register
from concordant.fusion.sequence.tensor import Subnetworks


@register(
    "lmf",
    setting="vector",
    summary="tensor fusion with low-rank factors, one per modality",
    paper="Liu et al., ACL 2018",
    small={"size": 32},
    head=False,
)
class LowRankFusion(Fusion):
    """A low-rank tensor of weights over all modalities.

    Args: as for `Fusion`, with
        size: of each z_m; 32 as in tensor fusion.
        rank: number of products, R; 4, which the paper finds enough.
        dropout: on the pooled features, in training.
    """

    def __init__(self, features: Specs, *, classes: int, size: int = 32, rank: int = 4, dropout: float = 0.1) -> None:
        super().__init__(features, classes=classes)
        self.subnetworks = Subnetworks({name: self.specs[name].size for name in self.names}, size=size, dropout=dropout)
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(nn.init.xavier_normal_(torch.empty(rank, size + 1, classes))) for name in self.names}
        )
        with torch.no_grad():  # the constant starts as 1, or a product of many factors would be small
            for factor in self.factors.values():
                factor[:, 0] = 1.0
        self.weights = nn.Parameter(nn.init.normal_(torch.empty(rank), std=rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(classes))

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        steps = {name: self.positions(name, features) for name in self.names}
        vectors = self.subnetworks(steps, masks, present)
        return self.contract([vectors[name] for name in self.names])

    def contract(self, vectors: list[Tensor]) -> Tensor:
        """Return logits (B, C) from [1; z_m] of all modalities, in the order of `names`."""
        product = self.weights[:, None]  # (R, 1), then (B, R, C)
        for name, vector in zip(self.names, vectors, strict=True):
            product = product * torch.einsum("bd,rdc->brc", vector, self.factors[name])
        return product.sum(1) + self.bias
