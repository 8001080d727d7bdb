"""The errors that Concordant raises: one base exception, and two kinds a caller may want to tell apart.

Every message is one line that names the argument or file, what was expected, what was found, and what to do. What it
quotes from files and from other libraries is shortened, and cannot control a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
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


class MissingExtraError(ConcordantError, ImportError):
    """A package that an extra of Concordant installs is absent."""


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Say what to install where an import of the block fails.

    Args:
        extra: of Concordant, such as "export".
        what: the beginning of the sentence, with its verb, such as "sharing needs".

    Raises:
        MissingExtraError: a package is not installed.
    """
    try:
        yield
    except ImportError as missing:
        package = (missing.name or "a package").partition(".")[0]
        if package == __package__ or isinstance(missing, MissingExtraError):
            raise
        raise MissingExtraError(
            f"{what} {package}, which is not installed: pip install 'concordant[{extra}]'", name=missing.name
        ) from None


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


def explain(error: ValidationError, names: Mapping[str, str] | None = None) -> str:
    """Return the faults that pydantic found as one sentence per fault, separated by semicolons.

    Args:
        error: of a model.
        names: field of the model -> its name where the user set it, if another.
    """

    def place(where: tuple[int | str, ...]) -> tuple[int | str, ...]:
        return tuple((names or {}).get(str(step), step) for step in where)

    return "; ".join(_sentence(place(fault["loc"]), fault["msg"], fault["input"]) for fault in error.errors()[:20])


def _sentence(where: tuple[int | str, ...], message: str, found: object) -> str:
    place = ".".join(str(step) for step in where)
    own = message.removeprefix("Value error, ")
    if own != message:  # raised by a validator of Concordant, which names the value itself
        return f"{place}: {own}" if place else own
    return f"{place}: {message[0].lower()}{message[1:]}; found {quoted(found)}" if place else message


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 3 :]}"


def shown(value: object) -> str:
    """Return a value as an error names it: on one line, shortened; of a tensor or array the type and shape.

    >>> import torch
    >>> shown(0.5), shown(torch.zeros(2, 3))
    ('0.5', 'Tensor of shape (2, 3)')
    """
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return _shortened(" ".join(quoted(value).split()), 100)


class Checks:
    """Checks of a call's arguments; see `checks`. Numbers may be Python's or NumPy's, and come back as Python's."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def require(self, fine: bool, sentence: str) -> None:
        """Note a sentence as a fault unless all is fine."""
        if not fine:
            self.faults.append(sentence)

    def number(self, name: str, value: object, low: float = 0.0, high: float = math.inf, *, ends: str = "[)") -> float:
        """Return a finite number between `low` and `high`; `ends` has a bracket for each end that belongs to them."""
        if not isinstance(value, Real) or isinstance(value, bool):
            self.faults.append(f"{name} must be a number; found {shown(value)}")
            return low
        try:
            found = float(value)
        except OverflowError:  # a whole number beyond floating point
            found = math.inf if value > 0 else -math.inf  # type: ignore[operator]
        above = found >= low if ends[0] == "[" else found > low
        if not (above and (found <= high if ends[1] == "]" else found < high)):
            range_ = f"lie in {ends[0]}{low:g}, {high:g}{ends[1]}"
            if low == 0 and high == math.inf and found != math.inf:
                range_ = "not be negative" if ends[0] == "[" else "be positive"
            self.faults.append(f"{name} must {range_}; found {shown(value)}")
        return found

    def integer(self, name: str, value: object, low: int, high: int = 2**31 - 1, *, also: str = "") -> int:
        """Return an integer from `low` to `high`; `also` completes the sentence with what else is allowed."""
        if not isinstance(value, Integral) or isinstance(value, bool):
            self.faults.append(f"{name} must be an integer of {low} or more{also}; found {shown(value)}")
            return low
        found = int(value)
        self.require(found >= low, f"{name} must be {low} or more{also}; found {shown(found)}")
        self.require(found <= high, f"{name} must be {high} or less{also}; found {shown(found)}")
        return min(found, high)

    def flag(self, name: str, value: object) -> bool:
        """Return True or False, NumPy's included."""
        if type(value).__name__ not in ("bool", "bool_"):
            self.faults.append(f"{name} must be True or False; found {shown(value)}")
            return False
        return bool(value)

    def choice(self, name: str, value: object, choices: Sequence[str | None]) -> None:
        """Check that a value is one of several."""
        fine = (value is None or isinstance(value, str)) and value in choices
        self.require(fine, f"{name} must be {' or '.join(map(repr, choices))}; found {shown(value)}")


@contextmanager
def checks() -> Iterator[Checks]:
    """Yield `Checks`, whose faults become one error at the end of the block.

    Raises:
        UsageError: all faults at once.

    >>> with checks() as check:
    ...     rate = check.number("rate", 2, 0, 1, ends="[]")
    ...     size = check.integer("size", 1.5, 1)
    Traceback (most recent call last):
    ...
    concordant.errors.UsageError: rate must lie in [0, 1]; found 2; size must be an integer of 1 or more; found 1.5
    """
    found = Checks()
    yield found
    if found.faults:
        raise UsageError("; ".join(found.faults))
