"""AVE's lists: `Annotations.txt` and the splits in its form, one clip a line, `Category&VideoID&Quality&Start&End`.

A clip lasts ten seconds; the event is seen and heard from Start to End (Tian et al., ECCV 2018). Classes count in
the order in which the annotations name them first, which is the published index.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from concordant.errors import DataError

SECONDS = 10
CLASSES = 28
BACKGROUND = "Background"
_HEADER = "Category&VideoID&Quality"


class Annotation(NamedTuple):
    """One line: what happens in a clip, from which second up to which."""

    category: str
    video: str
    quality: str
    start: int
    end: int


def read_annotations(path: Path) -> list[Annotation]:
    """Return the lines of a list; a header is passed over.

    Raises:
        DataError: the file is absent or no text, or a line is not as it should be (its number is said).
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of clips ({error})") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == 1 and line.startswith(_HEADER)):
            continue
        parts = line.strip().split("&")
        if len(parts) != 5 or not all(parts) or not all(part.isdecimal() for part in parts[3:]):
            raise DataError(
                f"{path}, line {number} must be Category&VideoID&Quality&Start&End with whole seconds; found {line!r}"
            )
        start, end = int(parts[3]), int(parts[4])
        if not 0 <= start <= end <= SECONDS:  # one published event has no length
            raise DataError(f"{path}, line {number}: the event must lie within 0 to {SECONDS}; found {start} to {end}")
        found.append(Annotation(parts[0], parts[1], parts[2], start, end))
    if not found:
        raise DataError(f"{path} names no clip")
    return found


def class_names(annotations: list[Annotation]) -> tuple[str, ...]:
    """Return the categories in the order in which they occur first."""
    return tuple(dict.fromkeys(annotation.category for annotation in annotations))
