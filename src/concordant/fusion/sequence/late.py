"""Late fusion by a small dense network (LF-DNN): pooled features side by side, hidden layers, one head.

A baseline of the sentiment literature, for any number of modalities; `SubnetworkFusion` is the one of MMSA 2.2.
Shapes: features (B, L, D_m), pooled to (B, D_m), joined to (B, D_1 + ... + D_M), hidden (B, W), logits (B, C).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from concordant.fusion.attention import valid_steps
from concordant.fusion.base import (
    Encoded,
    FeatureSpec,
    Fusion,
    Published,
    Specs,
    Tensors,
    masked_mean,
    presence_of,
    register,
    zero_absent,
)
from concordant.fusion.sequence.steps import last_state
from concordant.modalities import LAYOUTS

TEXT_STATE = 128  # of the LSTM
OUTPUTS = {"text": 256, "audio": 16, "vision": 128}  # of the sub-networks; other modalities as vision


class DenseSubnetwork(nn.Module):
    """Batch normalisation, dropout in training, and three linear layers with ReLU, (B, `inputs`) -> (B, `size`)."""

    def __init__(self, inputs: int, size: int, dropout: float) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(inputs)
        widths = (inputs, size, size, size)
        pairs = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.layers = nn.Sequential(nn.Dropout(dropout), *(layer for pair in pairs for layer in pair))

    def forward(self, x: Tensor, here: Tensor | None = None) -> Tensor:
        """Return the features; rows where `here` (B,) is False enter no statistics and may have any values."""
        if here is None or not self.training:
            x = self.normalise(x if here is None else torch.where(here.unsqueeze(1), x, 0))
        else:
            known = torch.zeros_like(x)
            if int(here.sum()) > 1:  # one row has no variance
                known[here] = self.normalise(x[here])
            x = known
        found: Tensor = self.layers(x)
        return found


class StepSubnetwork(nn.Module):
    """The last state of an LSTM, and a linear layer, (B, T, `inputs`) -> (B, `size`)."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, TEXT_STATE, batch_first=True)
        self.project = nn.Linear(TEXT_STATE, size)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the features; `valid` (B, T) is True at the steps that count, None = at all."""
        found: Tensor = self.project(last_state(self.lstm, x, valid))
        return found


class SubnetworkFusion(Fusion):
    """LF-DNN as MMSA has it: a sub-network per modality, side by side, dropout, two hidden layers, a linear head.

    Sequences go through an LSTM, vectors through a dense sub-network. Source: thuiar/MMSA, `LF_DNN.py` and
    `FeatureNets.py`, with its sizes for CMU-MOSI; docs/compare.md lists the differences that remain.

    Args: as for `Fusion`, with
        hidden: width of the hidden layers.
        dropout: in the dense sub-networks and before the hidden layers, in training.
    """

    def __init__(self, features: Specs, *, classes: int, hidden: int = 128, dropout: float = 0.2) -> None:
        super().__init__(features, classes=classes)
        sizes = {name: OUTPUTS.get(name, OUTPUTS["vision"]) for name in self.names}
        self.subnetworks = nn.ModuleDict()
        for name in self.names:
            inputs, layout = self.specs[name].size, self.specs[name].layout
            dense = layout == LAYOUTS["bd"]
            self.subnetworks[name] = (
                DenseSubnetwork(inputs, sizes[name], dropout) if dense else StepSubnetwork(inputs, sizes[name])
            )
        self.meeting = {name: FeatureSpec(sizes[name], LAYOUTS["bd"]) for name in features}
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(sum(sizes.values()), hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.head = nn.Linear(hidden, classes)

    def encode(self, features: Tensors, masks: Tensors, present: Tensors) -> Encoded:
        """Return the output of every modality's sub-network, (B, W)."""
        vectors = {}
        for name, x in features.items():
            if x.dim() == 2:
                vectors[name] = self.subnetworks[name](x, presence_of(name, masks, present))
            else:
                steps = name in masks or name in present
                valid = valid_steps(x, masks.get(name), present.get(name)) if steps else None
                vectors[name] = self.subnetworks[name](x, valid)
        return vectors, {}

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        known = [zero_absent(features[name], present.get(name)) for name in self.names]
        logits: Tensor = self.head(self.hidden(torch.cat(known, 1)))
        return logits


@register(
    "lf-dnn",
    setting="vector",
    summary="pooled features side by side, one hidden layer (late fusion)",
    paper="the LF-DNN baseline of MMSA (Yu et al., ACL 2020)",
    small={"hidden": 64},
    late=True,
    published=Published(
        SubnetworkFusion,
        {
            "epochs": 100,
            "batch": 128,
            "learning_rate": 1e-3,
            "weight_decay": 1e-2,
            "dropout": 0.2,
            "evaluations": 100,
            "patience": 8,
            "optimizer": "adam",
            "schedule": "constant",
            "selection": "best",
        },
        steps=("text",),
    ),
)
class LateDense(Fusion):
    """Pool every modality, concatenate, classify.

    Args: as for `Fusion`, with
        hidden: width of the hidden layer.
        dropout: before the hidden layer and the head, in training.
    """

    def __init__(self, features: Specs, *, classes: int, hidden: int = 128, dropout: float = 0.1) -> None:
        super().__init__(features, classes=classes)
        joined = sum(spec.size for spec in features.values())
        self.hidden = nn.Sequential(nn.Linear(joined, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(hidden, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        pooled = [
            masked_mean(self.positions(name, features), masks.get(name), present.get(name)) for name in self.names
        ]
        logits: Tensor = self.head(self.hidden(torch.cat(pooled, 1)))
        return logits
