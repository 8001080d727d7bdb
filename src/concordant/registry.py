"""A registry: a named dictionary filled by a decorator, in which a clash and an unknown name are errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from concordant.errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of thing (fusions, calibrators, benchmarks) and what they stand for.

    Args:
        kind: what an entry is, in the singular; used in the errors.

    >>> shapes = Registry[int]("shape")
    >>> shapes.add("square", 4)
    >>> shapes["square"]
    4
    >>> shapes["circle"]
    Traceback (most recent call last):
    ...
    concordant.errors.UsageError: unknown shape 'circle'; choose from: square
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._unlisted: set[str] = set()

    def add(self, name: str, entry: T, *, listed: bool = True) -> None:
        """Enter `entry` under `name`; a name that is taken raises UsageError.

        What is not listed can be had by its name, but is no choice that is offered: neither counted nor iterated over.
        """
        if name in self._entries:
            raise UsageError(f"{self.kind} {name!r} is registered already; choose another name")
        self._entries[name] = entry
        if not listed:
            self._unlisted.add(name)

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that enters what it decorates under `name`."""

        def enter(entry: T) -> T:
            self.add(name, entry)
            return entry

        return enter

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise UsageError(f"unknown {self.kind} {name!r}; choose from: {', '.join(self)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._entries if name not in self._unlisted)

    def __len__(self) -> int:
        return len(self._entries) - len(self._unlisted)
