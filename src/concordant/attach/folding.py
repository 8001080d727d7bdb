"""Layouts of tapped features: the calibrator's own, and frames that were folded into the batch.

Models of films often run a 2-D network over all frames at once: "(b t)chw" is (B * T, C, H, W), and "(b t)d" its
pooled form. They are calibrated as "bcthw" and "btd", and folded again.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from concordant.errors import UsageError
from concordant.modalities import AUTO, LAYOUTS

# As written -> as the calibrator takes it.
FOLDED = {"(b t)d": "btd", "(b t)chw": "bcthw"}


def read_layouts(layout: str | Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Return modality -> layout as written.

    Raises:
        UsageError: a layout or a modality is unknown.
    """
    if not isinstance(layout, str | Mapping):
        raise UsageError(f"layout must be one for all features, or modality -> layout; found {layout!r}")
    given = dict.fromkeys(names, layout) if isinstance(layout, str) else dict(layout)
    choices = (AUTO, *LAYOUTS, *FOLDED)
    for name, written in given.items():
        if name not in names:
            raise UsageError(f"layout names {name!r}, which taps does not; the modalities are {', '.join(names)}")
        if written not in choices:
            raise UsageError(f"unknown layout {written!r} for {name!r}; choose from: {', '.join(choices)}")
    return {name: given.get(name, AUTO) for name in names}


def unfolded_layout(written: str) -> str:
    """Return the layout in which the calibrator takes a feature."""
    return FOLDED.get(written, written)


def unfold(x: Tensor, written: str, batch: int, name: str) -> Tensor:
    """Return a feature with frames on an axis of their own: (B T, C, H, W) -> (B, C, T, H, W).

    Raises:
        UsageError: its rows are no multiple of the batch size, or it has other axes.
    """
    if written not in FOLDED:
        return x
    axes = 2 if written == "(b t)d" else 4
    if x.dim() != axes or batch < 1 or x.shape[0] % batch:
        raise UsageError(
            f"the tap of {name!r} must have layout {written!r}: {axes} axes, the first a multiple of the batch "
            f"size {batch}; found shape {tuple(x.shape)}"
        )
    apart = x.unflatten(0, (batch, -1))  # type: ignore[no-untyped-call]  # (B, T, ...)
    moved: Tensor = apart if axes == 2 else apart.transpose(1, 2)
    return moved


def fold(x: Tensor, written: str) -> Tensor:
    """Return a feature with its frames in the batch again: (B, C, T, H, W) -> (B T, C, H, W)."""
    if written not in FOLDED:
        return x
    return (x if x.dim() == 3 else x.transpose(1, 2)).flatten(0, 1)


def feature_size(x: Tensor, written: str, name: str) -> int:
    """Return the feature size D of a tap's output, before unfolding.

    Raises:
        UsageError: it has too few or too many axes.
    """
    if written in FOLDED:
        return int(x.shape[1]) if x.dim() > 1 else 0
    layouts = {2: "bd", 3: "btd", 4: "bchw", 5: "bcthw"}
    layout = layouts.get(x.dim()) if written == AUTO else written
    if layout is None or x.dim() != len(layout):
        raise UsageError(
            f"the tap of {name!r} must give features in layout {written!r}; found shape {tuple(x.shape)}; say which "
            "layout it has, or tap another submodule"
        )
    return int(x.shape[LAYOUTS[layout].feature])
