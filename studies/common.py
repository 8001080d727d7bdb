"""What the scripts share: their command line, lines of their pages, blocks in documents, and the look of pictures."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from concordant.errors import ConcordantError, DataError
from concordant.files import read_json, write_atomically, write_text
from concordant.report.format import Document, pairs_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
RUNS = ROOT / "runs"
_MARK = "<!-- /?{kind}:([a-z-]+) -->"


JOBS: dict[str, Any] = {"type": int, "help": "runs that go at once; default: one a core"}


def arguments(
    doc: str | None, names: Sequence[str] = (), what: str = "experiment", **options: dict[str, Any]
) -> argparse.Namespace:
    """Return the arguments of a script's command line: names, `--data`, and the options, each as argparse takes it.

    Args:
        doc: the help text.
        names: those that may be given; without any in the command, all are meant.
        what: the names are of.
        options: name -> keyword arguments of `add_argument`.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if names:
        help_ = f"some of {', '.join(names)}; default: all"
        parser.add_argument("names", nargs="*", metavar=what.upper(), help=help_)
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    for name, about in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **about)
    found = parser.parse_args()
    unknown = [name for name in getattr(found, "names", ()) if name not in names]
    if unknown:
        parser.error(f"unknown {what} {', '.join(map(repr, unknown))}; choose from: {', '.join(names)}")
    return found


def run_script(main: Callable[[], int | None], name: str) -> NoReturn:
    """Run a script; an error of the package is one line, without a traceback."""
    try:
        sys.exit(main())
    except ConcordantError as error:
        sys.exit(f"{name}: {error}")


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
    faults = [f"the document asks for {', '.join(unknown)}; there are: {', '.join(blocks)}"] if unknown else []
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
