"""The errors that Concordant raises: one base exception, and two kinds a caller may want to tell apart.

Every message names the argument or file, what was expected, what was found, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class ConcordantError(Exception):
    """Base of every error that Concordant raises on purpose; the command line exits with status 1."""


class UsageError(ConcordantError):
    """An argument, a name or a configuration is wrong; the command line exits with status 2."""


class DataError(ConcordantError):
    """A file is absent, truncated, foreign, or holds values that cannot be used."""


def explain(error: ValidationError) -> str:
    """Return the faults that pydantic found as one sentence per fault, separated by semicolons."""
    return "; ".join(_sentence(fault["loc"], fault["msg"], fault["input"]) for fault in error.errors())


def _sentence(where: tuple[int | str, ...], message: str, found: object) -> str:
    place = ".".join(str(part) for part in where)
    own = message.removeprefix("Value error, ")
    if own != message:  # raised by a validator of Concordant, which names the value itself
        return f"{place}: {own}" if place else own
    return f"{place}: {message[0].lower()}{message[1:]}; found {found!r}" if place else message
