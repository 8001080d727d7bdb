"""ResNet-18 as an encoder of images, spectrograms, depth and flow, and of films frame by frame.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in the implementation of transformers,
trained from scratch; 11,176,512 parameters without the head for three channels. The audio-visual balance
benchmarks use it for both streams, with a stem of one channel for spectrograms, and pool over frames after
it (OGM-GE, Peng et al., CVPR 2022).
Shapes: (B, C, H, W) -> (B, 512, H/32, W/32); (B, C, T, H, W) -> (B, 512, T, H/32, W/32), rounded up.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from concordant.encoders.base import Encoder, Encoding
from concordant.encoders.map import mask_of_places
from concordant.errors import UsageError, needs_extra

WIDTHS = (64, 128, 256, 512)  # channels after each stage
DEPTH = 2  # basic blocks per stage


class ResNetEncoder(Encoder):
    """The first stages of a ResNet-18, for maps or for films frame by frame.

    As published it has batch normalisation and no dropout. Padded frames and absent instances do not enter the
    statistics of a batch or the running ones.

    Args:
        inputs: number of channels C.
        frames: the inputs are films (B, C, T, H, W).
        stages: number of stages kept, 1 to 4; fewer for fusions inside the network.

    Raises:
        UsageError: `stages` is not between 1 and 4.
        ConcordantError: transformers is not installed.
    """

    def __init__(self, *, inputs: int, frames: bool = False, stages: int = 4) -> None:
        if not 1 <= stages <= len(WIDTHS):
            raise UsageError(f"stages must lie between 1 and {len(WIDTHS)}; found {stages}")
        super().__init__(WIDTHS[stages - 1], "bcthw" if frames else "bchw")
        with needs_extra("experiments", "ResNet-18 needs"):
            from transformers import ResNetConfig, ResNetModel
        config = ResNetConfig(
            num_channels=inputs,
            embedding_size=WIDTHS[0],
            hidden_sizes=list(WIDTHS[:stages]),
            depths=[DEPTH] * stages,
            layer_type="basic",
        )
        self.network = ResNetModel(config)

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Encode maps (B, C, H, W) or films (B, C, T, H, W); the mask of frames (B, T) becomes one of places."""
        if x.dim() == 4:
            return frame_by_frame(self._maps, x, present, training=self.training, size=self.size), mask
        keep = mask
        if present is not None:
            keep = present.unsqueeze(1).expand(-1, x.shape[2]) if mask is None else mask & present.unsqueeze(1)
        frames = x.transpose(1, 2).flatten(0, 1)  # (B*T, C, H, W)
        counts = None if keep is None else keep.flatten()
        maps = frame_by_frame(self._maps, frames, counts, training=self.training, size=self.size)
        features = maps.reshape(x.shape[0], x.shape[2], *maps.shape[1:]).transpose(1, 2)  # (B, D, T, H', W')
        return features, mask_of_places(mask, features)

    def _maps(self, frames: Tensor) -> Tensor:
        maps: Tensor = self.network(frames).last_hidden_state
        return maps


def frame_by_frame(
    network: Callable[[Tensor], Tensor], frames: Tensor, keep: Tensor | None, *, training: bool, size: int
) -> Tensor:
    """Apply a network with batch normalisation to the valid frames; the others become zeros.

    Args:
        network: (F, C, H, W) -> (F, D, H', W').
        frames: (N, C, H, W); invalid ones may hold any values.
        keep: bool (N,), True where a frame is valid; None = everywhere.
        training: whether the network uses the statistics of its batch, which invalid frames must not enter.
        size: D, for a batch without a valid frame: one row and column of zeros.
    """
    if keep is None:
        return network(frames)
    if not training:
        valid = keep[:, None, None, None]
        return torch.where(valid, network(torch.where(valid, frames, 0)), 0)
    if not keep.any():
        return frames.new_zeros(len(frames), size, 1, 1)
    maps = network(frames[keep])
    out = maps.new_zeros(len(frames), *maps.shape[1:])
    out[keep] = maps
    return out
