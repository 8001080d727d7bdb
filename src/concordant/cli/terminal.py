"""What all commands share of the terminal: where people read, a progress bar, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int, str], None]


def names_of(text: str) -> tuple[str, ...]:
    """Return the names of a list separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def make_console(json_to: str | None = None) -> Console:
    """Return where people read: standard output, or standard error when JSON has the former."""
    from rich.console import Console

    # Names and paths are shown as they are: neither [tags] nor :codes: mean anything in them.
    options: dict[str, Any] = {"stderr": json_to == "-", "highlight": False, "markup": False, "emoji": False}
    console = Console(**options)
    # In a pipe there is no width to keep to: a line of a table stays a line.
    return console if console.is_terminal else Console(**options, width=200)


@contextmanager
def progress_bar(what: str) -> Iterator[Progress | None]:
    """Show a progress bar on standard error if that is a terminal; else stay quiet."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),  # names of clips and files, as they are
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, line: str) -> None:
            bar.update(task, completed=done, total=total or None, description=line)

        yield update


def put_json(to: str | None, value: Any) -> None:  # noqa: ANN401
    """Write JSON to a file, atomically, or to standard output ("-")."""
    if to is None:
        return
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if to == "-":
        sys.stdout.write(text)
        return
    from concordant.files import write_text

    try:
        write_text(Path(to), text)
    except OSError as error:
        raise UsageError(f"--json: cannot write to {to} ({error.strerror})") from None
