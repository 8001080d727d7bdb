"""The errors that Concordant raises: one base exception, and two kinds a caller may want to tell apart.

Every message is one line that names the argument or file, what was expected, what was found, and what to do. What it
quotes from files and from other libraries is shortened, and cannot control a terminal.
"""

from __future__ import annotations

from reprlib import Repr
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

_LONGEST = 6000  # characters of a message
_FOREIGN = 200  # characters of another library's message
_QUOTED = Repr()
_QUOTED.maxlevel = 3
_QUOTED.maxstring = _QUOTED.maxother = _QUOTED.maxlong = 300
_QUOTED.maxlist = _QUOTED.maxtuple = _QUOTED.maxdict = _QUOTED.maxset = 20


class ConcordantError(Exception):
    """Base of every error that Concordant raises on purpose; the command line exits with status 1."""

    def __str__(self) -> str:
        return printable(" ".join(_shortened(super().__str__(), _LONGEST).splitlines()))


class UsageError(ConcordantError):
    """An argument, a name or a configuration is wrong; the command line exits with status 2."""


class DataError(ConcordantError):
    """A file is absent, truncated, foreign, or holds values that cannot be used."""


def printable(text: str) -> str:
    r"""Return text in which control characters, such as terminal escapes, are visible; line ends stay.

    >>> printable("class \x1b[31mred")
    'class \\x1b[31mred'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def foreign(error: BaseException) -> str:
    r"""Return the message of another library's exception as it stands in brackets in one of ours: one short line.

    >>> foreign(ValueError("bad magic\nat byte 3")), foreign(EOFError())
    ('bad magic at byte 3', 'EOFError')
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _shortened(printable(" ".join(text[: 10 * _FOREIGN].split())), _FOREIGN) or type(error).__name__


def quoted(value: object) -> str:
    """Return `repr(value)`, shortened where a value is long or deeply nested."""
    try:
        return _QUOTED.repr(value)
    except ValueError:  # a whole number of more digits than Python shows
        return f"{type(value).__name__} that is too long to show"


def explain(error: ValidationError) -> str:
    """Return the faults that pydantic found as one sentence per fault, separated by semicolons."""
    return "; ".join(_sentence(fault["loc"], fault["msg"], fault["input"]) for fault in error.errors()[:20])


def _sentence(where: tuple[int | str, ...], message: str, found: object) -> str:
    place = ".".join(str(step) for step in where)
    own = message.removeprefix("Value error, ")
    if own != message:  # raised by a validator of Concordant, which names the value itself
        return f"{place}: {own}" if place else own
    return f"{place}: {message[0].lower()}{message[1:]}; found {quoted(found)}" if place else message


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 3 :]}"
