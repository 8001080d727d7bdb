"""NaN and infinity in features: found, and refused in eager mode and in compiled graphs alike.

A compiled graph cannot branch on values, and there the check is an operator of its own, which PyTorch calls but does
not look into; `torch.func.vmap` uses the operator too.
Shapes: bool (B, M).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concordant.errors import ConcordantError
from concordant.modalities import ModalityBatch, values_are_known

_SEPARATOR = "."  # operators take no lists of strings, and no modality's name holds a dot


def exporting() -> bool:
    """Return True while a graph is exported, by `torch.export`, `torch.jit.trace` or to ONNX, not compiled alone.

    `torch.compiler.is_exporting` is True in graphs that are only compiled, in PyTorch 2.11.

    >>> exporting()
    False
    """
    return bool(torch.compiler._is_exporting_flag) or torch._C._get_tracing_state() is not None


def finite_where_present(batch: ModalityBatch) -> Tensor:
    """Return bool (B, M): the instance has the modality, without NaN or infinity at its valid positions.

    It is the batch's own `present` where values are known and nothing is wrong.
    """
    if values_are_known():
        # A sum is finite only if everything in it is: one number, and one question to the device.
        sums = [x.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32)) for x in batch.features.values()]
        if bool(sum(sums[1:], sums[0]).isfinite()):
            return batch.present
    columns = list(batch.present.unbind(1))
    for index, name in enumerate(batch.names):
        if name in batch.features:
            x, valid = batch.positions(name).detach(), batch.valid(name)
            kept = x if valid is None else torch.where(valid.unsqueeze(2), x, 0)
            columns[index] = columns[index] & kept.isfinite().flatten(1).all(1)
    return torch.stack(columns, 1)


def require_finite(finite: Tensor, present: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return `present` if every present modality is finite.

    Args:
        finite: bool (B, M), see `finite_where_present`.
        present: bool (B, M).
        names: the modalities, one per column.

    Raises:
        ConcordantError: names the modalities, and in how many instances each is not finite.
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
        f"features hold NaN or infinity in modality (instances): {found}; clean them, mark them in "
        "`present` or `masks` as not to be counted, or build the calibrator with nonfinite='absent'"
    )


# The operator waits for the device's answer, which no CUDA graph can hold; PyTorch has a tag for that since 2.8.
_UNSAFE: dict[str, Any] = {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}


@torch.library.custom_op("concordant::require_finite", mutates_args=(), **_UNSAFE)
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
