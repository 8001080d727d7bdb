"""Tensors inside whatever modules take and return: tuples, lists, dictionaries, records, model outputs.

A path leads to one of them: (0,) is the first element, ("logits",) a key or a field. Nothing is changed in place;
what is not a container passes as it is.
"""

# ruff: noqa: ANN401 - a structure is anything

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Path = tuple[int | str, ...]


def map_tensors(value: Any, change: Callable[[Any], Any], kind: type = Tensor) -> Any:
    """Return the same structure, made anew, with every tensor (or what else is of that kind) changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, list) and type(value) is list:
        return [map_tensors(item, change, kind) for item in value]
    if isinstance(value, tuple):
        return _tuple_like(value, [map_tensors(item, change, kind) for item in value])
    if isinstance(value, dict):
        fresh = copy.copy(value)
        for key, item in value.items():
            fresh[key] = map_tensors(item, change, kind)
        return fresh
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        record: Any = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(record, field.name, map_tensors(getattr(value, field.name), change, kind))
        return record
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors of a structure, in order."""
    found: list[Tensor] = []

    def look(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, look)
    return found


def at_path(value: Any, path: Path) -> Any:
    """Return what a path leads to.

    Raises:
        LookupError: the path leads nowhere.
    """
    for key in path:
        if isinstance(value, Mapping) or (isinstance(value, (tuple, list)) and isinstance(key, int)):
            held: Any = value
            value = held[key]
        elif isinstance(key, str) and hasattr(value, key):
            value = getattr(value, key)
        else:
            raise LookupError(key)
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Return a copy of a structure with something else at the end of a path."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        fresh = copy.copy(value)
        fresh[key] = replaced(value[key], rest, new)
        return fresh
    if isinstance(value, (tuple, list)) and isinstance(key, int):
        items = list(value)
        items[key] = replaced(items[key], rest, new)
        return items if isinstance(value, list) else _tuple_like(value, items)
    fresh = copy.copy(value)
    object.__setattr__(fresh, str(key), replaced(getattr(value, str(key)), rest, new))
    return fresh


def described(value: Any) -> str:
    """Return what something is, in a few words, for an error."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} with the keys {', '.join(repr(key) for key in value)}"
    if isinstance(value, PackedSequence):
        return "a PackedSequence"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def version_of(tensor: Tensor) -> int | None:
    """Return how often a tensor was changed in place; None in inference mode, which does not count."""
    return None if tensor.is_inference() else tensor._version


def mark_of(tensor: Tensor) -> int | Tensor:
    """Return what tells later whether a tensor was changed in place: its count, or a copy where nobody counts.

    Sparse and nested tensors, which do not compare, count as unchanged then.
    """
    version = version_of(tensor)
    if version is not None:
        return version
    return tensor.clone() if tensor.layout is torch.strided and not tensor.is_nested else 0


def differs(tensor: Tensor, mark: int | Tensor) -> bool:
    """Return whether a tensor was changed in place since it had this mark."""
    if isinstance(mark, int):
        return version_of(tensor) not in (mark, None)
    if torch.equal(tensor, mark):
        return False
    return tensor.shape != mark.shape or not bool(((tensor == mark) | (tensor.isnan() & mark.isnan())).all())


def _tuple_like(value: tuple[Any, ...], items: list[Any]) -> Any:
    """Return items in the tuple's own class, packed sequences and named tuples included."""
    if type(value) is tuple:
        return tuple(items)
    # Constructors of named tuples may check what they are given.
    return tuple.__new__(type(value), items) if hasattr(value, "_fields") else type(value)(items)
