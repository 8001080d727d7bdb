"""Memory that was freed, given back to the system.

A heap out of which large and small blocks come in turns grows without end where the small ones stay: the next large
block does not fit into the hole that the last one left, from which a small one was cut meanwhile. glibc does so with
blocks of up to 32 MiB; asking a model several hundred times, with its answers kept, took 16 GB instead of one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache


def give_back() -> None:
    """Give free pages inside the heap back to the system, where the C library knows how to (glibc)."""
    trim = _trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; none by that name, on Windows
        return None
    return found
