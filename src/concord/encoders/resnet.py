"""ResNet-18 as an encoder: of images, spectrograms, depth and flow, and of films frame by frame.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in the implementation of transformers,
trained from scratch; 11,176,512 parameters without the head for three channels. The audio-visual balance
benchmarks use it for both streams, with a stem of one channel for spectrograms, and pool over frames behind
it (OGM-GE, Peng et al., CVPR 2022).
Shapes: (B, C, H, W) -> (B, 512, H/32, W/32); (B, C, T, H, W) -> (B, 512, T, H/32, W/32), rounded up.
"""

from __future__ import annotations

from torch import Tensor

from concord.encoders.base import Encoder
from concord.encoders.map import mask_of_places
from concord.errors import ConcordError, UsageError

WIDTHS = (64, 128, 256, 512)  # channels behind each stage
DEPTH = 2  # basic blocks a stage


class ResNetEncoder(Encoder):
    """Encode maps, or films frame by frame, by the first stages of a ResNet-18.

    As published it has no dropout, and batch normalisation.

    Args:
        inputs: channels C, of any number.
        frames: the inputs are films (B, C, T, H, W).
        stages: how many of the four stages are kept; fewer for fusions in the middle of the network.

    Raises:
        UsageError: `stages` is not between 1 and 4.
        ConcordError: transformers is not installed.
    """

    def __init__(self, *, inputs: int, frames: bool = False, stages: int = 4) -> None:
        if not 1 <= stages <= len(WIDTHS):
            raise UsageError(f"stages must lie between 1 and {len(WIDTHS)}; found {stages}")
        super().__init__(WIDTHS[stages - 1], "bcthw" if frames else "bchw")
        try:
            from transformers import ResNetConfig, ResNetModel
        except ImportError:
            raise ConcordError(
                "ResNet-18 needs transformers, which is not installed: pip install 'concord-fusion[experiments]'"
            ) from None
        config = ResNetConfig(
            num_channels=inputs,
            embedding_size=WIDTHS[0],
            hidden_sizes=list(WIDTHS[:stages]),
            depths=[DEPTH] * stages,
            layer_type="basic",
        )
        self.network = ResNetModel(config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode maps (B, C, H, W) or films (B, C, T, H, W); the mask of frames (B, T) becomes one of places."""
        if x.dim() == 4:
            return self.network(x).last_hidden_state, mask
        frames = x.transpose(1, 2).flatten(0, 1)  # (B*T, C, H, W)
        maps = self.network(frames).last_hidden_state
        features = maps.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)  # (B, D, T, H', W')
        return features, mask_of_places(mask, features)
