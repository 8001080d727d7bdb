"""What is wrong with values that pydantic refused, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def explain(error: ValidationError) -> str:
    """Return all faults of a configuration as one sentence a fault, separated by semicolons."""
    return "; ".join(_sentence(fault["loc"], fault["msg"], fault["input"]) for fault in error.errors())


def _sentence(where: tuple[int | str, ...], message: str, found: object) -> str:
    place = ".".join(str(part) for part in where)
    own = message.removeprefix("Value error, ")
    if own != message:  # a sentence of ours, which says itself what it found
        return f"{place}: {own}" if place else own
    return f"{place}: {message[0].lower()}{message[1:]}; found {found!r}" if place else message
