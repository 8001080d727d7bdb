"""Published lists of clips, and the paths of their media.

Lists are in the named folder or a few levels below it; media have the names of the clips anywhere below it, as files or
as folders of extracted frames. All are looked up before decoding starts, and everything missing is reported at once.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from concordant.errors import DataError
from concordant.files import reading

FILMS = (".mp4", ".mkv", ".webm", ".avi", ".flv")
IMAGES = (".jpg", ".jpeg", ".png")
_DEEPEST = 3  # levels below the named folder in which lists are searched


@dataclass(frozen=True)
class Row:
    """One clip of a list, and its files on disk.

    Args:
        id: its name, unique within the dataset.
        split: by the list.
        label: class index.
        media: role -> file, or folder of frames; roles are "audio", "picture", or others that a reader needs.
        missing: paths that do not exist, with "<clip>" for the name.
        group: its group; None where clips are independent.
        span: first and last second; None = the whole clip.
    """

    id: str
    split: str
    label: int
    media: Mapping[str, Path]
    missing: tuple[str, ...] = ()
    group: str | None = None
    span: tuple[float, float] | None = None

    def found(self, media: Mapping[str, Path | None], expected: Mapping[str, str]) -> Row:
        """Return the row with its media, and with the expected paths of those that do not exist."""
        there = {role: path for role, path in media.items() if path is not None}
        return replace(
            self, media=there, missing=tuple(dict.fromkeys(expected[role] for role in media if role not in there))
        )


def find_lists(folder: Path, names: Sequence[str], lists: Path | None = None) -> Path:
    """Return the folder that holds all lists: `lists`, or the nearest one below `folder`.

    Raises:
        DataError: there is none (all missing lists are named), or there are two equally near.
    """
    root = folder if lists is None else lists
    if not root.is_dir():
        raise DataError(f"the folder {root} is not there; expected one with {', '.join(names)}")
    level, best = [root], set[str]()
    for _ in range(1 if lists is not None else _DEEPEST + 1):
        held = {place: {name for name in names if (place / name).is_file()} for place in level}
        complete = [place for place, found in held.items() if len(found) == len(names)]
        if len(complete) > 1:
            raise DataError(f"{root} has {', '.join(names)} in {complete[0]} and in {complete[1]}; name one of them")
        if complete:
            return complete[0]
        best = max([best, *held.values()], key=len)
        level = [below for place in level for below in _folders(place)]
    missing = [name for name in names if name not in best]
    below = "" if lists is not None else f", nor up to {_DEEPEST} folders below it,"
    raise DataError(
        f"{root} does not hold{below} {', '.join(missing)}; expected {', '.join(names)} side by side, as published"
    )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the non-empty lines of a list, stripped, with their numbers; a byte-order mark is skipped.

    Raises:
        DataError: it cannot be read as text, or has no line.
    """
    with reading(path, "a list of clips", "save it as UTF-8 text"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    found = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise DataError(f"{path} names no clip")
    return found


def is_count(text: str) -> bool:
    """Return whether a field of a list is a whole number of up to nine plain digits."""
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


def read_rows(folder: Path, lists: Mapping[str, str], parse: Callable[[str, str, str], Row]) -> list[Row]:
    """Return the clips of several lists (split -> file), without their media.

    `parse` makes a row of a line, its split, and its file and number for errors.

    Raises:
        DataError: a line is malformed (file and number are named), or a clip occurs again.
    """
    rows: list[Row] = []
    seen: dict[str, str] = {}
    for split, file in lists.items():
        for number, line in read_lines(folder / file):
            where = f"{folder / file}, line {number}"
            row = parse(line, split, where)
            if row.id in seen:
                raise DataError(f"{where}: {row.id} is listed already, in {seen[row.id]}; every clip may occur once")
            seen[row.id] = f"{file}, line {number}"
            rows.append(row)
    return rows


def index_media(
    folder: Path, clips: Iterable[str], suffixes: Sequence[str], *, exact: bool = True
) -> dict[str, list[Path]]:
    """Find the files and folders with the names of clips anywhere below a folder; hidden folders are skipped.

    Files have one of the suffixes. Upper and lower case are matched if `exact`.

    Returns:
        Clip -> its files and its folders of frames, in the order of their paths.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"the folder {folder} is not there; expected one with the media in it or below it")
    clips, been = list(clips), set[str]()
    wanted = {clip if exact else clip.lower(): list[Path]() for clip in clips}
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (true := os.path.realpath(parent)) in been:  # links may form a cycle
            folders.clear()
            continue
        been.add(true)
        for name in files:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and (found := wanted.get(stem if exact else stem.lower())) is not None:
                found.append(Path(parent, name))
        below = []
        for name in folders:
            if (found := wanted.get(name if exact else name.lower())) is not None:
                found.append(Path(parent, name))
            elif not name.startswith("."):
                below.append(name)
        folders[:] = below
    return {clip: sorted(wanted[clip if exact else clip.lower()]) for clip in clips}


def first(paths: Iterable[Path], fits: Callable[[Path], bool]) -> Path | None:
    """Return the first path that fits, or None."""
    return next((path for path in paths if fits(path)), None)


def frames_of(folder: Path) -> list[Path]:
    """Return the images of a folder, in the order of the numbers in their names; hidden files (macOS `._`) are none."""
    names = (os.path.splitext(name) for name in os.listdir(folder) if not name.startswith("."))
    images = [(stem, suffix) for stem, suffix in names if suffix.lower() in IMAGES]
    return [folder / f"{stem}{suffix}" for stem, suffix in sorted(images, key=lambda one: (len(one[0]), *one))]


def media_size(rows: Iterable[Row], *roles: str) -> dict[str, Any]:
    """Return the number, bytes and kinds of the media files of some roles, for a card."""
    kinds, total = Counter[str](), 0
    for place in {row.media[role] for row in rows for role in roles if role in row.media}:
        for path in frames_of(place) if place.is_dir() else [place]:
            kinds[path.suffix.lower()] += 1
            total += path.stat().st_size
    return {"files": kinds.total(), "bytes": total, "kinds": dict(sorted(kinds.items()))}


def shared_groups(rows: Sequence[Row], groups: str) -> list[str]:
    """Return a note on the groups that are in both train and test, if any."""
    of = {split: {row.group for row in rows if row.split == split} for split in ("train", "test")}
    both = len(of["train"] & of["test"])
    if not both:
        return []
    return [
        f"{'all ' if both == len(of['train'] | of['test']) else ''}{both} {groups} are both in train and in test: "
        f"the published split says little on {groups} that were not trained on; --protocol folds keeps them apart"
    ]


def _folders(place: Path) -> list[Path]:
    with os.scandir(place) as entries:
        return sorted(Path(one.path) for one in entries if one.is_dir() and not one.name.startswith("."))
