"""The check for NaN and infinity in the features, which must hold in eager mode and in compiled graphs alike.

Where code may look at values, one number tells: a sum over all is finite only if everything in it is. Only where
it is not (and huge numbers may make it so) is it looked at one by one.
A compiled graph cannot branch on values, so there the check is an operator of its own that PyTorch calls
but does not look into; the same operator serves `torch.func.vmap`.
Shapes: bool (B, M).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concordant.calibration.tracing import values_are_known
from concordant.errors import ConcordantError

# Operators take no lists of strings; no modality's name holds a dot.
_SEPARATOR = "."


def surely_finite(x: Tensor) -> bool:
    """Return True only if x holds neither NaN nor infinity; False where that takes a closer look.

    To be asked where values are known.

    >>> surely_finite(torch.ones(3)), surely_finite(torch.tensor([1.0, torch.inf]))
    (True, False)
    """
    return math.isfinite(x.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32)).item())


def require_finite(finite: Tensor, present: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return `present` if every present modality is finite.

    Args:
        finite: bool (B, M), True where the instance's modality is present and holds neither NaN nor infinity.
        present: bool (B, M).
        names: the modalities, one a column.

    Raises:
        ConcordantError: names the modalities and in how many instances each is not finite.
    """
    if not values_are_known():
        checked: Tensor = _operator(finite, present, _SEPARATOR.join(names))
        return checked
    _check(finite, present, names)
    return present


def _check(finite: Tensor, present: Tensor, names: Sequence[str]) -> None:
    if torch.equal(finite, present):
        return
    counts = (present & ~finite).sum(0).tolist()
    found = ", ".join(f"{name!r} ({n} of {len(present)})" for name, n in zip(names, counts, strict=True) if n)
    raise ConcordantError(
        f"features hold NaN or infinity in modality (instances): {found}; clean them, say with "
        "`present` or `masks` where they do not count, or build the calibrator with nonfinite='absent'"
    )


# It asks the device for an answer, which no CUDA graph can hold; PyTorch is told so where it has a word for it.
_APART: dict[str, Any] = {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}


@torch.library.custom_op("concordant::require_finite", mutates_args=(), **_APART)
def _operator(finite: Tensor, present: Tensor, names: str) -> Tensor:
    _check(finite, present, names.split(_SEPARATOR))
    return present.clone()  # an operator must not return its own argument


@_operator.register_fake
def _(finite: Tensor, present: Tensor, names: str) -> Tensor:
    return torch.empty_like(present)


@_operator.register_vmap
def _(info: Any, axes: tuple[int | None, int | None, None], finite: Tensor, present: Tensor, names: str) -> Any:  # noqa: ANN401
    # All runs are checked as one batch: an error counts the instances of all.
    both = [
        tensor.expand(info.batch_size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
        for tensor, axis in zip((finite, present), axes, strict=False)
    ]
    checked = _operator(*(tensor.flatten(0, -2).contiguous() for tensor in both), names)
    return checked.reshape(both[1].shape), 0
