"""Encoders of maps: a few small convolutions with group normalisation, for images, spectrograms and frames.

Batch normalisation would learn to amplify details that are faint in clean data, such as fine textures; noise on an
input would then dominate.
Shapes: map (B, C, H, W) -> features (B, D, H', W'); film (B, C, T, H, W), frame by frame -> (B, T, D), or
-> (B, D, T, H', W') if its maps are kept.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from concordant.encoders.base import Encoder, Encoding

GROUPS = 4  # of channels that are normalised together
GRID = 4  # rows and columns that a frame keeps before it becomes a vector


def _convolution(inputs: int, size: int, kernel: int = 3, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, size, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(math.gcd(GROUPS, size), size), nn.ReLU())


def _frame_network(inputs: int, size: int) -> nn.Sequential:
    # Strided from the first layer on, since there are T frames per instance.
    few = max(1, size // 4)
    first, second = _convolution(inputs, few, 5, stride=2), _convolution(few, size // 2, 3, stride=2)
    return nn.Sequential(first, second, nn.AdaptiveAvgPool2d(GRID))


def _halve() -> nn.Module:
    # ceil_mode: a side of odd length loses nothing, and one of length 1 stays.
    return nn.MaxPool2d(2, ceil_mode=True)


class MapEncoder(Encoder):
    """A small convolutional network on maps; maps with a side above 16 are halved once more than smaller ones.

    Dropout is on whole feature channels, in training.
    """

    def __init__(self, *, inputs: int, height: int, width: int, size: int = 64, dropout: float = 0.1) -> None:
        super().__init__(size, "bchw")
        stages: list[nn.Module] = []
        channels = inputs
        if max(height, width) > 16:
            channels = max(1, size // 4)
            stages += [_convolution(inputs, channels), _halve()]
        stages += [_convolution(channels, size // 2), _halve()]
        self.stages = nn.Sequential(*stages, _convolution(size // 2, size), nn.Dropout2d(dropout))

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Encode (B, C, H, W) as (B, D, H', W'); masks of maps are not supported and stay None."""
        features: Tensor = self.stages(x)
        return features, mask


class FilmEncoder(Encoder):
    """Two convolutions and a coarse grid per frame of a film, then a convolution along time; gives a sequence.

    Dropout is on the features, in training.
    """

    def __init__(self, *, inputs: int, size: int = 64, dropout: float = 0.1) -> None:
        super().__init__(size, "btd")
        self.frame = _frame_network(inputs, size)
        self.project = nn.Linear(GRID * GRID * (size // 2), size)
        self.along = nn.Conv1d(size, size, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Encode (B, C, T, H, W) as (B, T, D); the mask of steps (B, T) stays as it is."""
        frames = x.transpose(1, 2).flatten(0, 1)  # (B*T, C, H, W)
        steps = self.project(self.frame(frames).flatten(1)).unflatten(0, (x.shape[0], x.shape[2]))
        steps = steps.relu().transpose(1, 2)  # (B, D, T)
        if mask is not None:
            steps = torch.where(mask.unsqueeze(1), steps, 0)
        return self.dropout(self.along(steps).relu().transpose(1, 2)), mask


class FilmMapEncoder(Encoder):
    """Two convolutions per frame of a film, then a convolution along time; gives maps.

    Dropout is on whole feature channels, in training.
    """

    def __init__(self, *, inputs: int, size: int = 64, dropout: float = 0.1) -> None:
        super().__init__(size, "bcthw")
        self.frame = _frame_network(inputs, size)
        self.along = nn.Conv3d(size // 2, size, (3, 1, 1), padding=(1, 0, 0))
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Encode (B, C, T, H, W) as (B, D, T, H', W'); the mask of frames (B, T) becomes one of places."""
        frames = x.transpose(1, 2).flatten(0, 1)  # (B*T, C, H, W)
        maps = self.frame(frames).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        if mask is not None:
            maps = torch.where(mask[:, None, :, None, None], maps, 0)
        features: Tensor = self.dropout(self.along(maps).relu())
        return features, mask_of_places(mask, features)


def mask_of_places(mask: Tensor | None, features: Tensor) -> Tensor | None:
    """Return a mask of frames (B, T) as one of all places (B, T*H*W) of features (B, D, T, H, W)."""
    if mask is None:
        return None
    return mask[:, :, None, None].expand(-1, -1, *features.shape[3:]).flatten(1)
