"""What the commands share: options, console, progress bar, JSON output, completion of names, the report page."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from concordant.errors import UsageError, printable, shown
from concordant.files import LONGEST_NUMBER, PLAIN, check_writable, write_text, writing

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """How far a command is; called with the finished parts, all parts (0 = unknown) and a line about the last one.

    Args:
        show: called with the finished parts, these and the finished shares of others, all parts, and a line.
    """

    def __init__(self, show: Callable[[int, float, int, str], None]) -> None:
        self._show, self._done, self._total = show, 0, 0

    def __call__(self, done: int, total: int, line: str) -> None:
        """Show how many parts are finished."""
        self._done, self._total = done, total
        self._show(done, done, total, line)

    def within(self, share: float, line: str) -> None:
        """Show how much of the unfinished parts is done, in parts, with a line about them."""
        self._show(self._done, self._done + share, self._total, line)


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `concordant run` wrote.")]
DataOption = Annotated[
    str | None, typer.Option("--data", help="Data folder or URL; default: CONCORDANT_DATA, or the user's data folder.")
]
JsonOption = Annotated[str | None, typer.Option("--json", help="Write the results here too; - = standard output.")]
JobsOption = Annotated[int | None, typer.Option("--jobs", help="Parallel runs; default: one per core.")]


def complete(kind: str) -> Callable[[str], list[str]]:
    """Return a shell completion of the names of `concordant list KIND`, also in a list separated by commas."""

    def names(incomplete: str) -> list[str]:
        from concordant.study.catalogue import catalogue

        before, comma, last = incomplete.rpartition(",")
        return [before + comma + entry["name"] for entry in catalogue(kind) if entry["name"].startswith(last)]

    return names


def take_plain_numbers(command: Callable[..., Any]) -> None:
    """Let the options of a command that are numbers take plain numerals alone.

    Raises:
        UsageError: by the option, where its text is none.
    """
    hints = get_type_hints(command, include_extras=True)
    for name, hint in hints.items():
        kind, *rest = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        of = next((one for one in (int, float) if one in (kind, *get_args(kind))), None)
        if rest and of is not None:
            flag = next(iter(rest[0].param_decls or ()), f"--{name.replace('_', '-')}")
            rest[0].parser, rest[0].metavar = _numeral(flag, of), f"<{of.__name__}>"
    command.__annotations__ = hints  # as text, they would be made anew by each reader


def _numeral(flag: str, kind: type[int] | type[float]) -> Callable[[Any], Any]:
    def number(value: Any) -> Any:  # noqa: ANN401 - a default is no text
        if isinstance(value, str) and (len(value) > LONGEST_NUMBER or not PLAIN[kind].fullmatch(value)):
            example = "a whole number such as 3" if kind is int else "a number such as 0.01 or 1e-2"
            raise UsageError(f"{flag} must be {example}; found {shown(value)}")
        return kind(value)

    return number


def names_of(text: str) -> tuple[str, ...]:
    """Return the names of a list separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def make_console(json_to: str | None = None) -> Console:
    """Return the console for messages: standard output, or standard error where JSON goes to standard output.

    Raises:
        UsageError: JSON could not be written where it should go; before a command starts its work.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Safe(Console):
        """A console that shows terminal escapes in what it prints instead of sending them."""

        def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:  # noqa: ANN401 - as in the base class
            for text, style, control in super().render(*arguments, **options):
                yield Segment(text if control else printable(text), style, control)

    if json_to is not None and json_to != "-":
        with writing(json_to, "--json"):
            check_writable(Path(json_to))

    # Names and paths may contain [tags] and :codes:, which must not be interpreted.
    options: dict[str, Any] = {"stderr": json_to == "-", "highlight": False, "markup": False, "emoji": False}
    console = Safe(**options)
    # A pipe has no width: each table row stays on one line.
    return console if console.is_terminal else Safe(**options, width=200)


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """Show a progress bar on standard error; where that is no terminal, write a line to it every minute."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lines(what)
        return
    columns = (
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),  # names of clips and files, not interpreted
    )
    # Standard output may be a file, which gets its lines then.
    with Bar(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=None, count="")

        def show(done: int, reached: float, total: int, line: str) -> None:
            count = f"{done}/{total or '?'}"
            bar.update(task, completed=reached, total=total or None, count=count, description=printable(line))

        yield Progress(show)


def lines(what: str, seconds: float = 60) -> Progress:
    """Return a progress that writes a line to standard error where the last is older than some seconds."""
    start = last = time.monotonic()

    def show(done: int, _: float, total: int, line: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            of = f" of {total}" if total else ""
            sys.stderr.write(
                printable(f"{what}: {done}{of} after {(now - start) / 60:.0f} min  {line}".rstrip()) + "\n"
            )
            sys.stderr.flush()

    return Progress(show)


def put_json(to: str | None, value: Any) -> None:  # noqa: ANN401
    """Write JSON to a file, atomically, or to standard output ("-")."""
    if to is None:
        return
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if to == "-":
        sys.stdout.write(text)
        return
    with writing(to, "--json"):
        write_text(Path(to), text)


def print_grid(console: Console, grid: Mapping[str, Any]) -> None:
    """Print the table of a grid, how to read it, and its wins and losses."""
    from concordant.report import record, sentences
    from concordant.report.tables import grids

    table = grids.grid_scores(grid)
    console.print(record.terminal(table))
    for line in (table.note, *sentences.grid_lines(grid)):
        console.print(line)


def write_page(folder: Path) -> Path:
    """Write report.html of a folder and return its path."""
    from concordant.report.page import read_all, write_report

    path = folder / "report.html"
    write_report(read_all(folder), path)
    return path
