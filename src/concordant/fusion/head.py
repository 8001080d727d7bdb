"""The vector before a fusion's head: how wide it is, and scaling it while the modalities are joined.

What all modalities have become by then is where calibration after fusion has to act.
Shapes: the vector (B, H), a scale (B, H).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from concordant.errors import UsageError
from concordant.fusion.base import Fusion


def head_of(fusion: Fusion) -> nn.Module:
    """Return the head of a fusion.

    Raises:
        UsageError: it has none for all modalities together.
    """
    head = getattr(fusion, "head", None)
    if not isinstance(head, nn.Module):
        raise UsageError(f"{type(fusion).__name__} has no single head for all modalities; choose another fusion")
    return head


def head_width(fusion: Fusion) -> int:
    """Return H, the width of what the head of a fusion sees.

    Raises:
        UsageError: it has no head for all modalities together.
    """
    return next(layer.in_features for layer in head_of(fusion).modules() if isinstance(layer, nn.Linear))


@contextmanager
def scaled_head(fusion: Fusion, scale: Tensor | None) -> Iterator[None]:
    """Multiply what the head of a fusion sees by a scale (B, H) meanwhile; None = leave it as it is."""
    if scale is None:
        yield
        return

    def before(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (given[0] * scale.to(given[0].dtype),)

    handle = head_of(fusion).register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
