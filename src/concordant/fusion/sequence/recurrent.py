"""Recurrent fusions: one LSTM over the joined steps of all modalities (early), or one per modality (late).

Baselines of the sentiment literature (EF-LSTM and LF-LSTM in Tsai et al., ACL 2019, and in MMSA, Yu et al.,
ACL 2020) on the LSTM of Hochreiter and Schmidhuber (1997), for any number of modalities. The early one needs common
steps, which `steps.align` makes of unaligned sequences.
Shapes: early, (B, S, D_1 + ... + D_M) -> (B, W) -> logits (B, C); late, (B, L_m, D_m) -> (B, W) per
modality, where they meet, -> (B, M W) -> logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from concordant.fusion.attention import valid_steps
from concordant.fusion.base import Encoded, FeatureSpec, Fusion, Specs, Tensors, register, zero_absent
from concordant.fusion.sequence.steps import align, last_state
from concordant.modalities import LAYOUTS, to_positions


@register(
    "ef-lstm",
    setting="sequence",
    summary="one LSTM over the joined steps of all modalities (early fusion)",
    paper="the EF-LSTM baseline of MMSA (Yu et al., ACL 2020)",
    small={"hidden": 64, "layers": 1},
)
class EarlyLSTM(Fusion):
    """One LSTM over the features joined step by step, and a head on its last state.

    Args: as for `Fusion`, with
        hidden: width of the LSTM; 128, of the order of the published baselines, which tune it.
        layers: of the LSTM.
        shares: number of common steps for sequences of different lengths.
        dropout: between the LSTM's layers and before the head, in training.
    """

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        hidden: int = 128,
        layers: int = 2,
        shares: int = 20,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes=classes)
        self.shares = shares
        joined = sum(spec.size for spec in features.values())
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(joined, hidden, num_layers=layers, batch_first=True, dropout=between)
        self.hidden = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        steps = {name: self.positions(name, features) for name in self.names}
        valid = {name: valid_steps(x, masks.get(name), present.get(name)) for name, x in steps.items()}
        aligned, any_valid = align(steps, valid, shares=self.shares)
        joined = torch.cat([aligned[name] for name in self.names], 2)
        logits: Tensor = self.head(self.hidden(last_state(self.lstm, joined, any_valid)))
        return logits


@register(
    "lf-lstm",
    setting="sequence",
    summary="one LSTM per modality, the last states side by side (late fusion)",
    paper="the LF-LSTM baseline of MulT (Tsai et al., ACL 2019)",
    small={"hidden": 64},
    late=True,
)
class LateLSTM(Fusion):
    """One LSTM per modality, and a head on the last states side by side.

    The modalities meet as vectors after the LSTMs, where a calibrator stands.

    Args: as for `Fusion`, with
        hidden: width of each LSTM and of the joint hidden layer.
        dropout: on the last states and before the head, in training.
    """

    def __init__(self, features: Specs, *, classes: int, hidden: int = 128, dropout: float = 0.1) -> None:
        super().__init__(features, classes=classes)
        self.meeting = {name: FeatureSpec(hidden, LAYOUTS["bd"]) for name in features}
        self.lstms = nn.ModuleDict(
            {name: nn.LSTM(self.specs[name].size, hidden, batch_first=True) for name in self.names}
        )
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(len(self.names) * hidden, hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(hidden, classes)

    def encode(self, features: Tensors, masks: Tensors, present: Tensors) -> Encoded:
        """Return the last state of every modality's LSTM, (B, hidden)."""
        vectors = {}
        for name in (name for name in self.names if name in features):
            steps = to_positions(features[name], self.specs[name].layout)
            valid = valid_steps(steps, masks.get(name), present.get(name))
            vectors[name] = last_state(self.lstms[name], steps, valid)  # type: ignore[arg-type]
        return vectors, {}

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        known = [zero_absent(features[name], present.get(name)) for name in self.names]
        logits: Tensor = self.head(self.hidden(torch.cat(known, 1)))
        return logits
