"""Inputs that worker processes read from the memory of the process that started them, instead of from copies.

They lie in an anonymous file in memory (`memfd_create`), which ends with the last process that uses it: nothing is left
on disk, whatever ends them. Linux alone has such files; elsewhere every process prepares a copy of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Split, Task

LEAST = 16 << 20  # bytes of inputs below which copies cost less than the sharing
_PARTS = ("train", "valid", "test")
_ALIGNED = 64  # bytes; the least distance of two arrays from each other


@dataclass(frozen=True)
class SharedTask:
    """A task whose inputs are elsewhere; what is sent to a worker process, which opens it before the parent closes it.

    Args:
        file: descriptor of the file in memory, in the process that shares.
        path: by which other processes open it.
        places: split -> modality -> offset in bytes, type and shape of its inputs.
        rest: the task without inputs.
    """

    file: int
    path: str
    places: Mapping[str, Mapping[str, tuple[int, str, tuple[int, ...]]]]
    rest: Task

    def open(self) -> Task:
        """Return the task; what is written to its inputs is seen in this process alone."""
        splits: dict[str, Any] = {}
        for part, places in self.places.items():
            inputs = {name: _mapped(self.path, *place) for name, place in places.items()}
            splits[part] = replace(cast(Split, getattr(self.rest, part)), inputs=inputs)
        return replace(self.rest, **splits)

    def close(self) -> None:
        """Let no more processes open it; the memory is free again when the arrays are, here and in the others."""
        os.close(self.file)


def share(task: Task) -> SharedTask | None:
    """Move the inputs of a task into memory that other processes can map; the task itself reads them from there.

    Returns:
        What to send to the processes; None where the system has no such memory, a split is not in memory, or the inputs
        are small.
    """
    splits = {part: split for part in _PARTS if isinstance(split := getattr(task, part), Split)}
    if len(splits) < len(_PARTS) or not hasattr(os, "memfd_create"):
        return None
    if sum(x.nbytes for split in splits.values() for x in split.inputs.values()) < LEAST:
        return None
    file = os.memfd_create("concordant")
    path = f"/proc/{os.getpid()}/fd/{file}"
    places: dict[str, dict[str, tuple[int, str, tuple[int, ...]]]] = {part: {} for part in _PARTS}
    end = 0
    for part, split in splits.items():
        for name, x in list(split.inputs.items()):
            place = (end, x.dtype.str, x.shape)
            os.ftruncate(file, end + x.nbytes)
            _mapped(path, *place, mode="r+")[...] = x
            split.inputs[name] = _mapped(path, *place)  # before the next one is copied: there is one array twice
            places[part][name] = place
            end += -(-x.nbytes // _ALIGNED) * _ALIGNED
    empty: dict[str, Any] = {part: split.with_inputs({}) for part, split in splits.items()}
    return SharedTask(file, path, places, replace(task, **empty))


def _mapped(path: str, offset: int, kind: str, shape: tuple[int, ...], *, mode: Any = "c") -> NDArray[Any]:  # noqa: ANN401
    if not all(shape):  # nothing can be mapped
        return np.empty(shape, kind)
    return np.asarray(np.memmap(path, dtype=kind, mode=mode, offset=offset, shape=shape))
