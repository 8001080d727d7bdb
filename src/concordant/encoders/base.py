"""The base class of encoders: modules from one modality's inputs to the features of calibration and fusion.

Shapes: inputs in their layout, for example (B, T, D_in), and a mask (B, T) or None; features in
`feature_layout` with `size` features, and their mask.
"""

from __future__ import annotations

from torch import Tensor, nn

Encoding = tuple[Tensor, Tensor | None]  # features and their mask


class Encoder(nn.Module):
    """Base class of the encoders.

    Args:
        size: number of features, D.
        feature_layout: layout of the features.
    """

    def __init__(self, size: int, feature_layout: str) -> None:
        super().__init__()
        self.size = size
        self.feature_layout = feature_layout

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Return the features of one modality and their mask; padded steps do not influence valid ones.

        Args:
            x: (B, ...) in the modality's layout.
            mask: bool (B, T), True at valid steps; None = all.
            present: bool (B,), True where the instance has the modality, for batch normalisation.
        """
        raise NotImplementedError
