"""Encoders from one modality's inputs to the features that are calibrated, chosen by the layout of the inputs."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.encoders.base import Encoder
from concordant.encoders.input import InputEncoder, MeanEncoder
from concordant.encoders.map import FilmEncoder, FilmMapEncoder, MapEncoder
from concordant.encoders.resnet import ResNetEncoder
from concordant.encoders.sequence import SequenceEncoder
from concordant.encoders.vector import VectorEncoder
from concordant.errors import UsageError

__all__ = [
    "MAPS",
    "Encoder",
    "FilmEncoder",
    "FilmMapEncoder",
    "InputEncoder",
    "MapEncoder",
    "MeanEncoder",
    "ResNetEncoder",
    "SequenceEncoder",
    "VectorEncoder",
    "build_encoder",
]

KINDS = ("small", "resnet18", "input", "mean")
MAPS = ("bchw", "bcthw")  # layouts of a ResNet-18; other layouts have one kind of encoder only


def build_encoder(
    layout: str,
    shape: Sequence[int],
    *,
    size: int = 64,
    dropout: float = 0.1,
    kind: str = "small",
    maps: bool = False,
    stages: int = 4,
) -> Encoder:
    """Return the encoder of inputs with this layout.

    Args:
        layout: "bd", "btd", "bchw" or "bcthw".
        shape: the shape of one instance, without the batch axis: (D,), (T, D), (C, H, W) or (C, T, H, W).
        size: number of features; 64 as in the published baselines of this size.
        dropout: on the features, in training.
        kind: "small"; "resnet18" for maps and films; for vectors and sequences "input", which changes nothing, or
            "mean" over time.
        maps: keep the maps of films, for convolutional fusions; otherwise each frame becomes a vector.
        stages: number of stages of a ResNet-18 that are kept, 1 to 4.

    Raises:
        UsageError: unknown layout or kind.

    >>> build_encoder("btd", (64, 60)).feature_layout
    'btd'
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of encoder {kind!r}; choose from: {', '.join(KINDS)}")
    if kind in ("input", "mean"):
        if layout not in ("bd", "btd"):
            raise UsageError(f"this fusion as published reads vectors and sequences (bd, btd); found layout {layout!r}")
        if layout == "btd" and kind == "mean":
            return MeanEncoder(inputs=shape[-1])
        return InputEncoder(inputs=shape[-1], layout=layout)
    if layout == "bd":
        return VectorEncoder(inputs=shape[0], size=size, dropout=dropout)
    if layout == "btd":
        return SequenceEncoder(inputs=shape[1], size=size, dropout=dropout)
    if layout in MAPS and kind == "resnet18":
        return ResNetEncoder(inputs=shape[0], frames=layout == "bcthw", stages=stages)
    if layout == "bchw":
        return MapEncoder(inputs=shape[0], height=shape[1], width=shape[2], size=size, dropout=dropout)
    if layout == "bcthw":
        film = FilmMapEncoder if maps else FilmEncoder
        return film(inputs=shape[0], size=size, dropout=dropout)
    raise UsageError(f"no encoder reads inputs with layout {layout!r}; choose from: bd, btd, bchw, bcthw")
