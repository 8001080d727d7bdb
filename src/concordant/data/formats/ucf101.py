"""UCF-101 (Soomro et al., 2012): 101 actions of 13,320 clips, from frames and the optical flow between them.

Lists are in `ucfTrainTestlist`: `trainlist01.txt`, rows `Class/v_Class_g08_c01.avi 1`; `testlist01.txt`, without the
number; `classInd.txt`, rows `1 Class`. Clips of one group (g08) are cut from one video. Media are the films, or
`<clip>/frame_00001.jpg` with flow as grey images in `u/<clip>` and `v/<clip>`; names are matched without regard to
case, since the films of HandstandPushups are spelt in two ways.
Shapes: rgb (3, T, H, W); flow (2, T, H, W) to the right and down, in pixels per frame.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import Card, LabelCard, ModalityCard, sources
from concordant.data.formats.clips import MediaOptions, film_card, frames_taken, picked, pictures, reading, unpacked
from concordant.data.formats.listing import (
    Row,
    find_lists,
    first,
    index_media,
    media_size,
    read_lines,
    read_rows,
    shared_groups,
)
from concordant.data.media.decoding import Clip
from concordant.data.media.video import imagenet, load_images, pick, read_frames
from concordant.data.reading import Reading
from concordant.errors import DataError, UsageError

CLASS_LIST = "classInd.txt"
DEFAULT = MediaOptions(None, fps=1, frames=3)  # as BalanceBenchmark takes frames
BOUND = 20.0  # pixels of displacement at black and white in flow images
# Farnebäck, SCIA 2003, with the parameters of OpenCV's documentation.
FARNEBACK = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0}
_LINE = re.compile(r"(?P<name>\w+)/(?P<clip>v_\w+_(?P<group>g[0-9]+)_c\d+)\.avi(?:\s+(?P<number>[0-9]+))?")


def read_ucf101(folder: Path, *, options: MediaOptions = DEFAULT, split: int = 1) -> Reading:
    """Read the clips of one of the three splits, with lists and media in a folder or below it.

    Raises:
        UsageError: the split is another than 1, 2 or 3.
        DataError: lists are absent or malformed, or more clips are missing than may fail.
    """
    if split not in (1, 2, 3):
        raise UsageError(f"split must be 1, 2 or 3; found {split!r}")
    lists = {part: f"{part}list{split:02d}.txt" for part in ("train", "test")}
    place = find_lists(folder, (*lists.values(), CLASS_LIST))
    classes = read_classes(place / CLASS_LIST)
    rows = _with_media(folder, read_rows(place, lists, partial(_row, classes)))
    card = Card(
        name="ucf101",
        modalities={"rgb": film_card(options, rows), "flow": _flow_card(options, rows)},
        label=LabelCard(classes=classes),
        splits=tuple(lists),
        groups="video group",
        sources=sources(place, (*lists.values(), CLASS_LIST)),
        notes=(f"split {split} of 3", *_order_note(classes), *shared_groups(rows, "video groups")),
    )
    work = partial(rgb_and_flow, fps=options.fps, frames=options.frames, size=options.size)
    return reading(card, rows, work, options, folder)


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in the order of their numbers.

    Raises:
        DataError: a line is malformed, or the numbers do not count from 1.
    """
    names: list[str] = []
    for number, line in read_lines(path):
        index, _, name = line.partition(" ")
        if index != str(len(names) + 1) or not name or name in names:
            raise DataError(f"{path}, line {number} must be '{len(names) + 1} Class', a new class; found {line!r}")
        names.append(name)
    return tuple(names)


def _row(classes: tuple[str, ...], line: str, split: str, where: str) -> Row:
    found = _LINE.fullmatch(line)
    if found is None or (found["number"] is None) != (split == "test"):
        expected = "Class/v_Class_g01_c01.avi" + (" and the number of the class" if split == "train" else "")
        raise DataError(f"{where} must be {expected}; found {line!r}")
    name = found["name"]
    if name not in classes:
        raise DataError(f"{where}: {name} must be a class of {CLASS_LIST}; found {line!r}")
    label = classes.index(name)
    if found["number"] not in (None, str(label + 1)):
        raise DataError(f"{where}: {name} is class {label + 1} of {CLASS_LIST}; found {found['number']}")
    return Row(found["clip"], split, label, {}, group=f"{name}_{found['group']}")


def rgb_and_flow(clip: Clip, *, fps: float, frames: int, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Decode a clip to "rgb" (3, T, H, W) and "flow" (2, T, H, W), of equally many frames.

    Raises:
        DataError: a file does not exist, or cannot be decoded.
    """
    media, _ = unpacked(clip)
    rgb = imagenet(pictures(media["picture"], fps=fps, frames=frames, size=size))
    flow = (
        _computed(media["film"], frames, size) if "film" in media else _extracted(media["u"], media["v"], frames, size)
    )
    return {"rgb": rgb.astype(np.float16), "flow": flow.astype(np.float16)}


def _computed(film: Path, frames: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the flow (2, T, H, W) from evenly spread frames to the next one, computed at the size of the film."""
    import cv2

    shown = read_frames(film)
    if len(shown) < 2:
        raise DataError(f"{film} has one frame only; optical flow needs two")
    calculate: Any = cv2.calcOpticalFlowFarneback
    scaled = []
    for place in pick(len(shown) - 1, frames):
        one, other = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in shown[place : place + 2])
        flow = calculate(one, other, None, **FARNEBACK)  # (H, W, 2)
        scaled.append(cv2.resize(flow, size[::-1], interpolation=cv2.INTER_LINEAR))
    return np.moveaxis(np.asarray(scaled, np.float32), -1, 0)


def _extracted(u: Path, v: Path, frames: int, size: tuple[int, int]) -> NDArray[np.float32]:
    across, down = picked(u, frames), picked(v, frames)
    if [path.name for path in across] != [path.name for path in down]:
        raise DataError(f"{u} and {v} must hold images of the same names; found {across[-1].name} and {down[-1].name}")
    images = np.stack([load_images(paths, size=size, grey=True) for paths in (across, down)])
    return images.astype(np.float32) * np.float32(2 * BOUND / 255) - np.float32(BOUND)


def _flow_card(options: MediaOptions, rows: list[Row]) -> ModalityCard:
    made: dict[str, Any] = {}
    if any("film" in row.media for row in rows):
        made["of films"] = {"method": "Farnebäck, from a frame to the next, at the size of the film", **FARNEBACK}
    if any("u" in row.media for row in rows):
        made["of images"] = {"bound": BOUND}
    taken = {name: value for name, value in frames_taken(options).items() if "second" not in name}
    return ModalityCard(
        kind="motion",
        layout="bcthw",
        shape=(2, None, *options.size),
        dtype="float16",
        unit="pixels a frame, at the size of the source",
        preprocessing={**taken, **made, "media": media_size(rows, "film", "u", "v")},
    )


def _with_media(folder: Path, rows: list[Row]) -> list[Row]:
    """Return the clips with the paths of their pictures and flow; extracted files come before films."""
    found = index_media(folder, (row.id for row in rows), (".avi",), exact=False)
    complete = []
    for row in rows:
        folders = [path for path in found[row.id] if path.is_dir()]
        film = first(found[row.id], lambda path: path.suffix.lower() == ".avi" and path.is_file())
        u, v = (first(folders, partial(_under, folder, axis)) for axis in ("u", "v"))
        frames = first(folders, lambda path: not (_under(folder, "u", path) or _under(folder, "v", path)))
        flow: dict[str, Path | None] = {"film": film} if film is not None and None in (u, v) else {"u": u, "v": v}
        expected = {
            "picture": "<clip>/frame_00001.jpg or <clip>.avi",
            "u": "u/<clip>/frame000001.jpg or <clip>.avi",
            "v": "v/<clip>/frame000001.jpg or <clip>.avi",
        }
        complete.append(row.found({"picture": frames or film, **flow}, expected))
    return complete


def _under(folder: Path, name: str, path: Path) -> bool:
    return name in path.relative_to(folder).parts[:-1]


def _order_note(classes: tuple[str, ...]) -> list[str]:
    """Return a note on classes whose index differs in alphabetical order, which some projects use."""
    moved = [name for name, other in zip(classes, sorted(classes), strict=True) if name != other]
    if not moved:
        return []
    return [f"classes count as in {CLASS_LIST}; by the alphabet (capitals first) others come for: {', '.join(moved)}"]
