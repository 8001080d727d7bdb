"""Nested containers of tensors: sequences, mappings, dataclasses, model outputs. Copies are made; inputs do not change.

A path leads to a value inside nested containers: (0,) is the first element, ("logits",) a key or a field.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, UserList, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

Path = tuple[int | str, ...]

_SEQUENCES = (tuple, list, deque, UserList)
_BUILT_IN = (OrderedDict, dict, list)  # whose methods fill a copy where those of a subclass may refuse


def map_tensors(value: Any, change: Callable[[Any], Any], kind: type = Tensor) -> Any:  # noqa: ANN401
    """Return a copy of nested containers with every tensor (or other instance of `kind`) changed."""
    if isinstance(value, kind):
        return change(value)
    items = items_of(value)
    if items is None:
        return value
    return _with_items(value, {key: map_tensors(item, change, kind) for key, item in items.items()})


def tensors_of(value: Any) -> list[Tensor]:  # noqa: ANN401
    """Return the tensors in nested containers, in order."""
    return [x for _, x in elements_of(value)]


def elements_of(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:  # noqa: ANN401
    """Yield path and tensor of every tensor in nested containers, in order."""
    if isinstance(value, Tensor):
        yield path, value
        return
    for key, item in (items_of(value) or {}).items():
        yield from elements_of(item, (*path, key))


def packed_at(output: Any, path: Path) -> PackedSequence | None:  # noqa: ANN401
    """Return the packed sequence whose data lie at a path, if they do."""
    inside = at_path(output, path[:-1]) if path else None
    return inside if isinstance(inside, PackedSequence) and _key(inside, path[-1]) == 0 else None


def at_path(value: Any, path: Path) -> Any:  # noqa: ANN401
    """Return the value at a path; raise LookupError if the path does not exist."""
    for key in path:
        value = _item(value, _key(value, key))
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:  # noqa: ANN401
    """Return a copy of nested containers with another value at a path."""
    if not path:
        return new
    key = _key(value, path[0])
    return _with_items(value, {key: replaced(_item(value, key), path[1:], new)})


def items_of(value: Any) -> dict[Any, Any] | None:  # noqa: ANN401
    """Return key, index or field -> item of a container; None for other values."""
    if isinstance(value, _SEQUENCES):
        return dict(enumerate(value))
    found = dict(value) if isinstance(value, Mapping) else {}
    names: Iterable[str] = ()
    if isinstance(value, SimpleNamespace):
        names = vars(value)
    elif not isinstance(value, (type, nn.Module)):  # fields of dataclasses and of classes made by attrs
        of = type(value)
        names = [*getattr(of, "__dataclass_fields__", ()), *(x.name for x in getattr(of, "__attrs_attrs__", ()))]
    found |= {name: getattr(value, name) for name in names if name not in found and hasattr(value, name)}
    return found if names or isinstance(value, (Mapping, SimpleNamespace)) else None


def _key(value: Any, key: int | str) -> int | str:  # noqa: ANN401
    """Return the index of a named tuple's field, or the key that a number means in a mapping read by position too."""
    if isinstance(value, tuple) and isinstance(key, str):
        fields: tuple[str, ...] = getattr(value, "_fields", getattr(type(value), "__match_args__", ()))
        return fields.index(key) if key in fields else key
    if isinstance(value, Mapping) and isinstance(key, int) and key not in value.keys():  # noqa: SIM118 - its own `in`
        names = list(value) if not hasattr(type(value), "__missing__") else []
        return names[key] if value[key] is value[names[key]] else key
    return key


def _item(value: Any, key: int | str) -> Any:  # noqa: ANN401
    """Return one item; raise LookupError if there is none of this key."""
    if isinstance(value, _SEQUENCES):
        if isinstance(key, int):
            return value[key]
    elif isinstance(value, Mapping) and key in value.keys():  # noqa: SIM118
        return value[key]
    elif isinstance(key, str) and hasattr(value, key):
        return getattr(value, key)
    raise LookupError(key)


def _with_items(value: Any, items: Mapping[Any, Any]) -> Any:  # noqa: ANN401
    """Return a container of the same class with some items replaced, whatever arguments its constructor needs."""
    if isinstance(value, tuple):
        fresh: Any = list(value)
        for key, item in items.items():
            fresh[key] = item
        if type(value) is tuple:
            return tuple(fresh)
        try:
            made = tuple.__new__(type(value), fresh)
        except TypeError:  # of C, such as what torch.max returns
            return type(value)(fresh)
        getattr(made, "__dict__", {}).update(getattr(value, "__dict__", {}))
        return made
    fresh, base = _copied(value), next((kind for kind in _BUILT_IN if isinstance(value, kind)), None)
    own = getattr(value, "__dict__", {})
    for key, item in items.items():
        inside = isinstance(value, _SEQUENCES) or (isinstance(value, Mapping) and key in value.keys())  # noqa: SIM118
        if inside and base is not None:
            base.__setitem__(fresh, key, item)
        elif inside:
            fresh[key] = item
        # An attribute may be another way to the item of its name.
        if not inside or (isinstance(key, str) and own.get(key, fresh) is value[key]):
            object.__setattr__(fresh, key, item)  # dataclasses may be frozen
    return fresh


def _copied(value: Any) -> Any:  # noqa: ANN401
    """Return a shallow copy; a mapping that cannot be written to becomes a dictionary."""
    if isinstance(value, Mapping) and not isinstance(value, MutableMapping):
        return dict(value)
    try:
        return copy.copy(value)
    except Exception:  # from a constructor that needs arguments, or refuses them
        base: Any = next((kind for kind in _BUILT_IN if isinstance(value, kind)), object)
        fresh = base.__new__(type(value))
        fresh.__dict__.update(vars(value))
        if base is list:
            list.extend(fresh, value)
        elif base is not object:
            for key in base.__iter__(value):
                base.__setitem__(fresh, key, base.__getitem__(value, key))
        return fresh


def described(value: Any) -> str:  # noqa: ANN401
    """Return a short description of a value, for an error."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} with the keys {', '.join(repr(key) for key in value)}"
    if isinstance(value, PackedSequence):
        return "a PackedSequence"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
