"""The errors that Concordant raises: one base exception, and two kinds a caller may want to tell apart.

Every message names the argument or file, what was expected, what was found, and what to do.
"""

from __future__ import annotations


class ConcordantError(Exception):
    """Base of every error that Concordant raises on purpose; the command line exits with status 1."""


class UsageError(ConcordantError):
    """An argument, a name or a configuration is wrong; the command line exits with status 2."""


class DataError(ConcordantError):
    """A file is absent, truncated, foreign, or holds values that cannot be used."""
