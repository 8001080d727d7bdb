"""The errors that Concord raises: one base exception, and two kinds a caller may want to tell apart.

Every message names the argument or file, what was expected, what was found, and what to do.
"""

from __future__ import annotations


class ConcordError(Exception):
    """Base of every error that Concord raises on purpose; the command line exits with status 1."""


class UsageError(ConcordError):
    """An argument, a name or a configuration is wrong; the command line exits with status 2."""


class DataError(ConcordError):
    """A file is absent, truncated, foreign, or holds values that cannot be used."""
