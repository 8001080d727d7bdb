"""Files: read so that no content can do harm, written so that a reader never meets a half-written one.

What comes from outside is a regular file of a bounded size, and what the library that reads it raises becomes one
sentence. A file is written under a temporary name beside its own, which cannot be guessed, and then renamed; only
regular files are replaced.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from concordant.errors import ConcordantError, DataError, UsageError, foreign, printable

LIMIT = "CONCORDANT_LIMIT"
DEFAULT_LIMIT = 1 << 30
YAML_BYTES = 128 << 10  # of a YAML file, which people write
_DEEPEST = 50  # levels of a YAML file
_MOST_NODES = 20_000  # of a YAML file with its aliases expanded
LONGEST_NUMBER = 400  # characters; more has no use, and takes time that grows with the square
# Numerals in texts: Python's own rules take 1_0, blanks and the digits of any script for numbers.
PLAIN: dict[type, re.Pattern[str]] = {
    int: re.compile(r"[+-]?(0|[1-9][0-9]*)"),
    float: re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
}
# Processes have numbers of their own on every machine, and folders may be shared by several.
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(rf"\.concordant-{_HOST}-(\d+)-[0-9a-f]+\.tmp")
_POINTER, _PAGES = b"version https://git-lfs", (b"<!doctype html", b"<html")


def bytes_in(variable: str, default: int) -> int:
    """Return the size in an environment variable ("512MiB", "4GiB"), or the default.

    Raises:
        UsageError: the variable is not a size.
    """
    text = os.environ.get(variable)
    if not text:
        return default
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]i?B|B)?\s*", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise UsageError(f'{variable} must be a size such as "512MiB" or "4GiB"; found {text!r}')
    return int(float(found[1]) * 2 ** (10 * "bkmgt".index((found[2] or "B")[0].lower())))


def check_size(what: str, wanted: int, there: int = 0) -> None:
    """Refuse to unpack more than is allowed: what a file holds in full may be read, what it only announces is limited.

    Args:
        what: names the content in the error.
        wanted: bytes that it takes in memory.
        there: bytes that the file holds of it.

    Raises:
        DataError: it takes more than both the bytes at hand and CONCORDANT_LIMIT, by default 1 GiB.
    """
    most = bytes_in(LIMIT, DEFAULT_LIMIT)
    if wanted > max(there, most):
        raise DataError(
            f"{what} announces {wanted:,} bytes, more than the {most:,} that {LIMIT} allows; raise it there"
        )


def check_file(path: Path, what: str) -> int:
    """Return the size of a file that is about to be read, after a look at its kind and its first bytes.

    Args:
        path: of the file.
        what: it should hold, for the error: "JSON", "a pickle".

    Raises:
        DataError: it is absent, no regular file, a pointer of Git LFS, or an HTML page.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
            raise DataError(f"{path} cannot be read as {what} (it is {kind}, no file); name the file itself")
        with path.open("rb") as opened:
            start = opened.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as {what} ({foreign(error)}); name a file that is there") from None
    if start.startswith(_POINTER):
        raise DataError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` there")
    if start.lower().startswith(_PAGES):
        raise DataError(f"{path} is an HTML page, not {what}: a download that failed or asks first; download it again")
    return found.st_size


@contextmanager
def reading(path: Path, what: str, remedy: str = "copy or download it again") -> Iterator[int]:
    """Read a file from outside in this block: yield its size, and turn what a library raises into one sentence.

    Args:
        path: of the file.
        what: it should hold, for the error.
        remedy: what to do if it cannot be read, the end of the sentence.

    Raises:
        DataError: `check_file` refuses it, or the block raises anything else than an error of Concordant.
    """
    size = check_file(path, what)
    try:
        yield size
    except ConcordantError:
        raise
    except MemoryError:
        raise DataError(f"{path} does not fit into memory; use a machine with more of it") from None
    except Exception as error:  # a damaged file can raise anything in a reader
        raise DataError(f"{path} cannot be read as {what} ({foreign(error)}); {remedy}") from None


def check_target(path: Path) -> None:
    """Refuse to write where there is something else than a regular file, which is not replaced.

    Raises:
        OSError: there is a folder, a link, a device or a pipe.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):  # "." among them, which has no name to make a temporary one of
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "it is a link, a device or a pipe, not a regular file", str(path))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in the place of `path`.

    The temporary name keeps the suffix, by which some writers choose a format.

    Raises:
        OSError: it cannot be written; what `check_target` refuses is left untouched.
    """
    check_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        write(temporary)
        with temporary.open("rb") as done:
            os.fsync(done.fileno())
        temporary.replace(path)
    except Exception as error:
        fault = _fault_of_the_system(error, path.parent)
        if fault is None:
            raise
        raise OSError(fault, os.strerror(fault), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path | str, option: str = "--out") -> Iterator[None]:
    """Turn a fault of the system in a block that writes a file or folder into one sentence that names the option.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"{option}: cannot write to {path} ({foreign(error)})") from None


def check_writable(path: Path) -> None:
    """Raise OSError where `write_atomically` could not write a file, before the work whose result it is to hold."""
    check_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.touch(exist_ok=False)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Return an unused name in the folder of `path`, absolute, with its suffix; `remove_stale` recognises it."""
    # Short, whatever the name of the file; absolute, since some libraries take "a:b/c" for an address.
    suffix = path.suffix if len(path.suffix) < 20 else ""
    return path.absolute().with_name(f".concordant-{_HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp{suffix}")


def remove_stale(folder: Path, *, below: bool = True) -> None:
    """Remove the temporary files that killed processes of this machine left in a folder.

    Args:
        folder: where to look; nothing happens where it is absent.
        below: look into its subfolders, too.
    """
    for path in folder.glob("**/.concordant-*" if below else ".concordant-*"):
        found = _TEMPORARY.match(path.name)
        if found is None or _runs(int(found[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name == "nt":  # where the probe would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _fault_of_the_system(error: Exception, folder: Path) -> int | None:
    """Return the number of the system's fault behind an error of a writer; None = a fault of another kind.

    safetensors and PyTorch hide it in an error of their own.
    """
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is not None:
        return int(found[1])
    return errno.ENOSPC if shutil.disk_usage(folder).free < 1 << 20 else None


@contextmanager
def new_folder(folder: Path, last: str) -> Iterator[Path]:
    """Yield a temporary folder, whose files become those of `folder` at the end of the block, or not at all.

    Args:
        folder: does not exist, or is empty. An empty one may be a link, a mount or the working directory: it stays,
            and is filled from within.
        last: the file without which the folder counts as unfinished.

    Raises:
        OSError: it cannot be written.
    """
    remove_stale(folder.parent, below=False)
    remove_stale(folder, below=False)
    there = folder.exists()
    temporary = temporary_beside(folder / last if there else folder)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if not there:
            temporary.rename(folder)
        else:
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == last):
                path.rename(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def markdown_text(text: str) -> str:
    r"""Return text from elsewhere for a line or a cell of Markdown: without tags of HTML, links, and ends of cells.

    >>> markdown_text("a<b> | <script>[x](y)"), markdown_text("p < 0.05 [1]")
    ('a&lt;b> \\| &lt;script>\\[x](y)', 'p < 0.05 [1]')
    """
    line = " ".join(printable(text).splitlines()).replace("|", "\\|")
    return re.sub(r"\[(?=[^\]]*\]\s*[(\[:])", r"\[", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line))


def csv_cell(text: str) -> str:
    """Return text from elsewhere as a cell of CSV that no spreadsheet takes for a formula.

    >>> csv_cell("=1+1"), csv_cell("-1.5"), csv_cell("anna")
    ("'=1+1", '-1.5', 'anna')
    """
    number = re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", text, re.IGNORECASE)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not number else text


def shown(path: Path) -> Path:
    """Return a path as a command names it: from the working directory if it lies below, else as it is.

    >>> shown(Path.cwd() / "runs" / "digits").as_posix(), shown(Path("runs")).as_posix()
    ('runs/digits', 'runs')
    """
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file cannot be read, is no JSON, names a key twice, holds NaN, infinity or a whole number of
            more than 400 digits, or something other than an object.
    """
    with reading(path, "JSON", "move it away, or choose another folder") as size:
        check_size(str(path), size)
        value = json.loads(
            path.read_text(encoding="utf-8"),
            parse_float=_finite,
            parse_int=_whole,
            parse_constant=_finite,
            object_pairs_hook=_object,
        )
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold a JSON object; found {type(value).__name__}")
    return value


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - the content of the file
    """Read a YAML file, or JSON: mappings, lists, text, finite numbers, booleans; dates are text.

    Raises:
        DataError: the file cannot be read, is no YAML, names a key twice, or is larger, deeper, or with its aliases
            expanded longer than a file that somebody wrote.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """A loader without dates that refuses a repeated key, of which YAML would keep the last value."""

        yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
            first: [known for known in resolvers if not known[0].endswith((":timestamp", ":int", ":float"))]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:  # noqa: ANN401
            keys = set[Hashable]()
            for one, _ in node.value:
                if one.tag == "tag:yaml.org,2002:merge":  # `<<: *other`, whose keys may stand there again
                    continue
                key = self.construct_object(one, deep=True)
                if isinstance(key, Hashable) and key in keys:
                    raise yaml.MarkedYAMLError(problem=f"{key} stands there twice", problem_mark=one.start_mark)
                keys |= {key} if isinstance(key, Hashable) else set()
            found: dict[Hashable, Any] = super().construct_mapping(node, deep)
            return found

        def construct_yaml_float(self, node: Any) -> float:  # noqa: ANN401
            return _finite(super().construct_yaml_float(node))

    # Plain decimals alone: YAML 1.1 takes 010 for 8, 1_0 for 10, 1:30 for 90, and 1e-3 for text.
    for kind, text in (("int", PLAIN[int].pattern), ("float", rf"{PLAIN[float].pattern}|[+-]?\.inf|\.nan")):
        pattern = re.compile(rf"(?![+-]?0[0-9])({text})\Z", re.IGNORECASE)
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", pattern, list("+-.0123456789"))
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    Loader.add_constructor("tag:yaml.org,2002:timestamp", Loader.construct_yaml_str)
    with reading(path, "YAML", "name a YAML file") as size:
        if size > YAML_BYTES:
            raise DataError(f"{path} has {size:,} bytes; a YAML file may have {YAML_BYTES:,}")
        text = path.read_text(encoding="utf-8-sig")
        try:
            _check_events(yaml.parse(text, Loader=Loader), path)
            return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
            raise DataError(f"{path}{where}: no YAML: {getattr(error, 'problem', None) or foreign(error)}") from None


def _check_events(events: Iterator[Any], path: Path) -> None:
    """Refuse YAML whose values would be too deep, too many, or too long to convert; nothing is built."""
    nodes, sizes = 0, dict[str | None, int]()  # anchor -> nodes below it
    opened: list[tuple[str | None, int]] = []  # anchors of the collections around an event, and the nodes before them
    for event in events:
        kind, anchor = type(event).__name__, getattr(event, "anchor", None)
        before = nodes
        if kind == "AliasEvent":
            nodes += sizes.get(anchor, _MOST_NODES)  # an alias within its own value has no end
        elif kind in ("SequenceStartEvent", "MappingStartEvent", "ScalarEvent"):
            nodes += 1
        if kind in ("SequenceStartEvent", "MappingStartEvent"):
            opened.append((anchor, before))
            sizes.pop(anchor, None)
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            anchor, before = opened.pop()
        if kind not in ("AliasEvent", "SequenceStartEvent", "MappingStartEvent") and anchor is not None:
            sizes[anchor] = nodes - before
        if len(opened) > _DEEPEST or nodes > _MOST_NODES:
            limits = f"{_DEEPEST} levels and {_MOST_NODES:,} values"
            raise DataError(f"{path} is deeper or, with its aliases expanded, larger than {limits}; simplify it")
        if kind == "ScalarEvent" and len(event.value) > LONGEST_NUMBER and event.value[0] in "+-.0123456789":
            raise DataError(f"{path} holds a number of {len(event.value):,} characters; write a shorter one")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; the file is streamed.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None


def _finite(text: str | float) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{str(text)[:40]} is no finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{Counter(key for key, _ in pairs).most_common(1)[0][0]!r} stands there twice")
    return found
