"""Features whose rows are those of several instances, different numbers of each: patches, pictures, packed sequences.

The rows lie one after another, and a calibrator takes them padded, with a mask.
Shapes: rows (N, ...), padded (B T, ...) with T the largest number of rows of an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from concordant.attach.arguments import Address, Arguments, parameters_of
from concordant.attach.taps import Tap, find_module, read_tap
from concordant.errors import UsageError, shown
from concordant.modalities import as_tensor

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
Counts = Address | Callable[..., Any]  # an argument, a tap ("name") or a function of the model's inputs


@dataclass(frozen=True)
class Rows:
    """Where the rows of a feature lie in its padded form.

    Args:
        place: of each row among the padded ones, (N,).
        valid: bool (B, T), True where there is a row.
    """

    place: Tensor
    valid: Tensor

    @classmethod
    def of_counts(cls, counts: Tensor, x: Tensor) -> Rows:
        """Return the rows of instances that have `counts` (B,) of them, in order."""
        counts = counts.to(x.device)
        longest = max(1, int(counts.max()) if len(counts) else 1)
        valid = torch.arange(longest, device=x.device) < counts.unsqueeze(1)
        return cls(valid.flatten().nonzero().squeeze(1), valid)

    @classmethod
    def of_packed(cls, packed: PackedSequence) -> Rows:
        """Return the rows of a packed sequence: the first steps of all sequences, then the second, and so on."""
        sizes = packed.batch_sizes.to(packed.data.device)
        steps = torch.arange(len(sizes), device=sizes.device)
        step = steps.repeat_interleave(sizes)
        row = torch.arange(len(step), device=sizes.device) - (sizes.cumsum(0) - sizes)[step]
        batch = int(packed.batch_sizes[0])
        instance = row if packed.sorted_indices is None else packed.sorted_indices[row]
        place = instance * len(sizes) + step
        valid = torch.zeros(batch * len(sizes), dtype=torch.bool, device=sizes.device)
        valid[place] = True
        return cls(place, valid.view(batch, len(sizes)))

    def pad(self, x: Tensor) -> Tensor:
        """Return rows (N, ...) padded with zeros, (B T, ...)."""
        return x.new_zeros(self.valid.numel(), *x.shape[1:]).index_copy(0, self.place, x)

    def take(self, padded: Tensor) -> Tensor:
        """Return the rows of padded ones; the inverse of `pad`, for a batch or for two copies of it."""
        copies = len(padded) // self.valid.numel()
        return padded[torch.cat([self.place + number * self.valid.numel() for number in range(copies)])]


def taps_of(counts: Mapping[str, Counts], core: nn.Module) -> dict[str, Tap]:
    """Return label -> tap of the counts that are one; raise UsageError for the wrong syntax of a tap."""
    taps = {}
    for name, source in counts.items():
        if isinstance(source, str) and source not in parameters_of(core):
            what = f"counts[{name!r}]"
            tap = read_tap(source, what)
            # Other names are of arguments that the signature does not show.
            with suppress(UsageError):
                find_module(core, tap.name, what)
                taps[f"counts.{name}"] = tap
    return taps


def rows_of(name: str, source: Counts, x: Tensor, found: Mapping[str, Any], given: Arguments) -> Rows:
    """Return where the rows of a modality's feature x (N, ...) lie, by the caller's counts.

    Raises:
        UsageError: there are no counts, or they are no whole numbers that add up to the number of rows.
    """
    counts: Any = found.get(f"counts.{name}")
    if counts is None:
        what = f"counts[{name!r}]"
        counts = source(*given.args, **given.kwargs) if callable(source) else given.value(source, what, "the model")[0]
    try:
        counts = torch.as_tensor(as_tensor(counts))
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"counts[{name!r}] must be whole numbers, one per instance; found {shown(counts)}") from None
    whole = not counts.is_floating_point() and not counts.is_complex() and counts.dtype != torch.bool
    if not whole or counts.dim() != 1 or bool((counts < 0).any()):
        found_ = f"a tensor of {counts.dtype}, shape {tuple(counts.shape)}" + (", with negative ones" if whole else "")
        raise UsageError(f"counts[{name!r}] must be whole numbers, one per instance; found {found_}")
    if not x.dim() or int(counts.sum()) != len(x):
        raise UsageError(
            f"counts[{name!r}] must add up to the rows of the feature, {len(x) if x.dim() else 'none'}; found "
            f"{int(counts.sum())} for {len(counts)} instances"
        )
    return Rows.of_counts(counts, x)


def suspects(rows: int, batch: int, given: Arguments) -> dict[str, tuple[list[int], str]]:
    """Return arguments of the model that look like the numbers of rows per instance, and how `counts` would name them.

    They hold whole numbers: the counts, the offsets of the instances, or the instance of each row.
    """
    seen = {}
    for label, value in given.named():
        try:
            numbers = torch.as_tensor(value) if isinstance(value, (list, tuple)) else value
        except (TypeError, ValueError, RuntimeError):
            continue
        if not isinstance(numbers, Tensor) or numbers.dim() != 1 or not len(numbers) or numbers.dtype not in _WHOLE:
            continue
        steps, counts, how = numbers.diff(), numbers, repr(label)
        ordered = bool((steps >= 0).all()) and int(numbers[0]) >= 0
        if len(numbers) == batch + 1 and int(numbers[0]) == 0 and ordered:
            counts, how = steps, f"a function that returns the differences of {label!r}"
        elif len(numbers) == rows != batch and ordered and int(numbers[-1]) < batch:
            counts, how = torch.bincount(numbers, minlength=batch), f"a function that counts {label!r}"
        if len(counts) == batch and int(counts.sum()) == rows and int(counts.min()) >= 0:
            seen[str(label)] = counts.tolist(), how
    return seen


def require_equal_parts(name: str, rows: int, batch: int, seen: Mapping[str, tuple[list[int], str]]) -> None:
    """Raise UsageError if a suspect shows that instances have different numbers of rows."""
    for counts, how in seen.values():
        if len(set(counts)) > 1:
            raise UsageError(
                f"the {rows} rows of {name!r} belong to {batch} instances that seem to have {shown(counts)} of them, "
                f"not {rows // batch} each; give attach counts={{{name!r}: ...}}, here {how}"
            )
