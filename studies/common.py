"""What the scripts share: their command line, lines of their pages, blocks in documents, and the look of pictures."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordant.errors import ConcordantError, DataError
from concordant.files import read_json, write_atomically, write_text
from concordant.report.format import Document

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
RUNS = ROOT / "runs"
_MARK = "<!-- /?{kind}:([a-z-]+) -->"


Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Some of them; default: all.")]
Data = Annotated[str | None, typer.Option(help="The data folder; default: CONCORDANT_DATA, or the user's data folder.")]
Jobs = Annotated[int | None, typer.Option(help="Runs that go at once; default: one per core.")]
Seeds = Annotated[int, typer.Option(help="How many.")]


def run_script(main: Callable[..., None], doc: str | None, name: str) -> None:
    """Run a script; its options are the arguments of `main`, its help is `doc`, and an error is one line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=doc)(main)
    try:
        app(prog_name=f"python -m {name}")
    except ConcordantError as error:
        sys.exit(f"{name}: {error}")


def chosen(names: Sequence[str] | None, known: Iterable[str], what: str = "experiment") -> list[str]:
    """Return the names of a command line after checking them; all that are known where none is given."""
    choices = list(known)
    unknown = [name for name in names or () if name not in choices]
    if unknown:
        raise typer.BadParameter(f"unknown {what} {', '.join(map(repr, unknown))}; choose from: {', '.join(choices)}")
    return list(names or choices)


def read_found(folder: Path, names: Sequence[str] | Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return name -> document of the files FOLDER/NAME.json that exist."""
    return {name: read_json(folder / f"{name}.json") for name in names if (folder / f"{name}.json").exists()}


def setting_line(results: Document, seeds: int) -> str:
    """Return benchmark, protocol, modalities, fusion and seeds of a result as a line of a page."""
    config = results["config"]
    return (
        f"{results['benchmark']}, protocol {config['protocol']}, modalities {', '.join(config['modalities'])}, "
        f"fusion {results['fusion']}, {seeds} seeds.\n"
    )


def remark_of(document: Document) -> list[str]:
    """Return the remark of a document as a paragraph, if there is one."""
    return [f"**{document['remark']}**\n"] if "remark" in document else []


def pairs_text(values: Document, sign: str = ": ") -> str:
    """Return the entries of a mapping on one line."""
    return ", ".join(f"{key}{sign}{value}" for key, value in values.items())


def made_line(document: Document, sign: str = " ") -> str:
    """Return versions and hardware of a document in sentences."""
    return f"Versions: {pairs_text(document['versions'], sign)}. Hardware: {pairs_text(document['hardware'])}."


def has_blocks(path: Path, kind: str) -> bool:
    """Return whether a document has a mark of a block of this kind."""
    return path.is_file() and re.search(_MARK.format(kind=kind), path.read_text(encoding="utf-8")) is not None


def fill(text: str, blocks: Mapping[str, str], kind: str) -> str:
    """Return a document with its blocks of one kind, `<!-- KIND:NAME -->` to `<!-- /KIND:NAME -->`, replaced.

    Raises:
        DataError: the document names unknown blocks, or has marks without their other half; all are named.
    """
    mark = re.compile(_MARK.format(kind=kind))
    whole = re.compile(rf"<!-- {kind}:([a-z-]+) -->(?:(?!<!-- /?{kind}:).)*<!-- /{kind}:\1 -->", re.DOTALL)
    unknown = [f"{kind}:{name}" for name in dict.fromkeys(mark.findall(text)) if name not in blocks]
    faults = [f"the document has the unknown {', '.join(unknown)}; there are: {', '.join(blocks)}"] if unknown else []
    halves = mark.finditer(whole.sub("", text))
    faults += [f"the document has {half[0]} without its other half" for half in halves]
    if faults:
        raise DataError("; ".join(faults))
    return whole.sub(lambda at: f"<!-- {kind}:{at[1]} -->\n\n{blocks[at[1]]}\n<!-- /{kind}:{at[1]} -->", text)


def fill_files(paths: Sequence[Path], blocks: Mapping[str, str], kind: str) -> None:
    """Replace the blocks of one kind in several documents.

    Raises:
        DataError: some documents have no such block or cannot be filled; all are named, and none is written.
    """
    filled, faults = {}, []
    for path in paths:
        try:
            if not has_blocks(path, kind):
                raise DataError(f"the document has no block {kind}:{', '.join(blocks)}")
            filled[path] = fill(path.read_text(encoding="utf-8"), blocks, kind)
        except DataError as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise DataError("; ".join(faults))
    for path, text in filled.items():
        write_text(path, text)


@contextmanager
def picture(path: Path, width: float, height: float, *, font: int = 8, dpi: int = 160) -> Iterator[Figure]:
    """Yield a figure in the common look, and write it; the suffix of the path is the format.

    Args:
        path: of the picture.
        width: in inches.
        height: in inches.
        font: size in points.
        dpi: dots per inch.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": font, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=dpi))
