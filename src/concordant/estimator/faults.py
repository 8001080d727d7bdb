"""The error of the estimators: one of Concordant's, and a ValueError as scikit-learn's tools expect."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.errors import UsageError


class InputError(UsageError, ValueError):
    """X, y or a parameter is wrong; the message names all faults at once."""


def refuse(faults: Sequence[str]) -> None:
    """Raise what is wrong, if anything is.

    Raises:
        InputError: all faults, separated by semicolons.
    """
    if faults:
        raise InputError("; ".join(faults))
