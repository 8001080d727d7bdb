"""Tensor fusion: the outer product of all modalities' vectors, each with a constant 1 to keep the lower orders.

Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP 2017, for as many modalities as
the product allows.
Shapes: pooled features (B, D_m) -> z_m (B, Z) -> product (B, (Z + 1)^M) -> hidden (B, W) -> logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.errors import UsageError
from concordant.fusion.base import Fusion, Specs, Tensors, masked_mean, presence_of, register, zero_absent

WIDEST = 32  # of z_m: the paper's audio and video


class Subnetworks(nn.Module):
    """One small network per modality, from its pooled features to z_m of one size, 0 where it is absent.

    Dropout is on the pooled features, in training.
    """

    def __init__(self, sizes: Mapping[str, int], *, size: int, dropout: float) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Dropout(dropout), nn.Linear(width, size), nn.ReLU(), nn.Linear(size, size))
                for name, width in sizes.items()
            }
        )

    def forward(self, steps: Tensors, masks: Tensors, present: Tensors) -> dict[str, Tensor]:
        """Return modality -> [1; z_m], (B, 1 + Z), from steps (B, L_m, D_m)."""
        found = {}
        for name, network in self.networks.items():
            has = presence_of(name, masks, present)
            z = zero_absent(network(masked_mean(steps[name], masks.get(name), has)), has)
            found[name] = torch.cat([z.new_ones(z.shape[0], 1), z], 1)
        return found


@register(
    "tfn",
    setting="vector",
    summary="outer product of all modalities' pooled vectors",
    paper="Zadeh et al., EMNLP 2017",
    small={"largest": 5000, "hidden": 64},
    most=17,
)
class TensorFusion(Fusion):
    """A network on the outer product of all modalities' vectors.

    Args: as for `Fusion`, with
        size: of each z_m; None = the largest up to 32 whose product stays within `largest`.
        largest: largest length of the product.
        hidden: width of the two hidden layers after the product; 128 as in the paper.
        dropout: on pooled features and on the product's hidden layers, in training.

    Raises:
        UsageError: the product of so many modalities would be longer than `largest`.
    """

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        size: int | None = None,
        largest: int = 200_000,
        hidden: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes=classes)
        chosen = widest(len(features), largest) if size is None else size
        product = (chosen + 1) ** len(features)
        if chosen < 1 or product > largest:
            raise UsageError(
                f"the outer product of {len(features)} modalities would have {product if chosen > 0 else 'at least '}"
                f"{'' if chosen > 0 else 2 ** len(features)} entries, more than {largest}; name fewer modalities, "
                "give a smaller size, or use lmf, which has no such product"
            )
        self.subnetworks = Subnetworks(
            {name: self.specs[name].size for name in self.names}, size=chosen, dropout=dropout
        )
        self.hidden = nn.Sequential(
            nn.Linear(product, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.head = nn.Linear(hidden, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        steps = {name: self.positions(name, features) for name in self.names}
        vectors = self.subnetworks(steps, masks, present)
        logits: Tensor = self.head(self.hidden(outer_product([vectors[name] for name in self.names])))
        return logits


def outer_product(vectors: list[Tensor]) -> Tensor:
    """Return the outer product of vectors (B, K_m), flat, (B, K_1 * ... * K_M); the last index runs fastest."""
    product = vectors[0]
    for vector in vectors[1:]:
        product = (product.unsqueeze(2) * vector.unsqueeze(1)).flatten(1)
    return product


def widest(modalities: int, largest: int) -> int:
    """Return the largest size up to 32 whose product has at most `largest` entries; 0 if none has.

    >>> widest(3, 200_000), widest(5, 200_000), widest(20, 200_000)
    (32, 10, 0)
    """
    return max((size for size in range(1, WIDEST + 1) if (size + 1) ** modalities <= largest), default=0)
