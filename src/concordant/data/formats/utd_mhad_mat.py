"""UTD-MHAD's own files (Chen et al., ICIP 2015): 27 actions of eight subjects by skeleton, inertial unit and depth.

Files are `a<action>_s<subject>_t<trial>_<sensor>.mat`: `d_skel` (20, 3, T), `d_iner` (T, 6), `d_depth` (240, 320, T).
Odd subjects train, even ones test, as published. A sensor whose file is absent or broken is absent in its recording.
Shapes: skeleton (T, 60), inertial (T, 6), depth (1, T, H, W), blocks of pixels averaged, frames picked.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from concordant.data.arrays import Array
from concordant.data.card import Card, LabelCard, ModalityCard, sources
from concordant.data.formats.hdf5 import open_dataset, read_rows
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError, UsageError
from concordant.files import check_size, reading

ACTIONS = 27
KEYS = {"skeleton": "d_skel", "inertial": "d_iner", "depth": "d_depth"}
BLOCK = 4  # pixels of depth, in both directions, that are averaged
_NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)_(skeleton|inertial|depth)\.mat")
_COMPRESSED = 15  # type of an element of a file


def read_utd_mhad(folder: Path, *, depth_frames: int = 16) -> Reading:
    """Read the recordings in a folder or below it.

    Args:
        folder: of the .mat files.
        depth_frames: to keep of a recording, evenly spaced from the first to the last.

    Raises:
        UsageError: depth_frames is not positive.
        DataError: no file has such a name, or two are of one recording and sensor.
    """
    if depth_frames < 1:
        raise UsageError(f"depth_frames must be 1 or more; found {depth_frames}")
    files: dict[tuple[int, int, int], dict[str, Path]] = {}
    for path in sorted(folder.rglob("*.mat")):
        found = _NAME.fullmatch(path.name)
        if found is None:
            continue
        action, subject, trial = (int(found[place]) for place in (1, 2, 3))
        if not 1 <= action <= ACTIONS:
            raise DataError(f"{path}: actions count from 1 to {ACTIONS}; found {action}")
        sensors = files.setdefault((action, subject, trial), {})
        if found[4] in sensors:
            raise DataError(f"{path} and {sensors[found[4]]} are of the same recording; leave one of them out")
        sensors[found[4]] = path
    if not files:
        raise DataError(f"{folder} has no file such as a1_s1_t1_skeleton.mat, nor has a folder in it")
    splits = {"train" if subject % 2 else "test" for _, subject, _ in files}
    card = Card(
        name="utd-mhad-mat",
        modalities={
            "skeleton": ModalityCard(kind="motion", layout="btd", shape=(None, 60), unit="m", rate=30),
            "inertial": ModalityCard(kind="motion", layout="btd", shape=(None, 6), unit="g and degrees/s", rate=50),
            "depth": ModalityCard(
                kind="vision",
                layout="bcthw",
                shape=(1, None, 240 // BLOCK, 320 // BLOCK),
                unit="mm",
                preprocessing={"frames": depth_frames, "averaged": [BLOCK, BLOCK]},
            ),
        },
        label=LabelCard(classes=tuple(f"action {number + 1}" for number in range(ACTIONS))),
        splits=tuple(split for split in ("train", "test") if split in splits),
        groups="subject",
        sources=sources(folder, [p.relative_to(folder) for one in files.values() for p in one.values()]),
    )
    findings = Findings()
    return Reading(card, _instances(files, depth_frames, findings), findings)


def _instances(
    files: dict[tuple[int, int, int], dict[str, Path]], depth_frames: int, findings: Findings
) -> Iterator[Instance]:
    absent = dict.fromkeys(KEYS, 0)
    for (action, subject, trial), sensors in sorted(files.items()):
        name = f"a{action}_s{subject}_t{trial}"
        features: dict[str, Array | None] = dict.fromkeys(KEYS)
        for sensor, path in sensors.items():
            try:
                features[sensor] = findings.clean(sensor, _sensor(path, sensor, depth_frames), f"{path}: {sensor}")
            except DataError as error:
                findings.failures[path.name] = str(error)
        if all(values is None for values in features.values()):
            continue
        for sensor, values in features.items():
            absent[sensor] += values is None
        yield Instance(name, "train" if subject % 2 else "test", action - 1, features, f"subject {subject}")
    findings.notes += [f"{count} recordings have no {sensor}" for sensor, count in absent.items() if count]


def _level_5(path: Path, key: str) -> Array:
    """Return an array of numbers of a file up to MATLAB 7.2.

    Raises:
        DataError: it is damaged, has no such array, or unpacks to more than CONCORDANT_LIMIT allows.
    """
    from scipy.io import loadmat, whosmat

    with reading(path, "a MATLAB file") as size:
        _check_packed(path, size)
        kinds = {name: kind for name, _, kind in whosmat(path)}
        if key not in kinds:
            raise DataError(f"{path} has no {key}; found {', '.join(kinds) or 'none'}")
        if kinds[key] not in (
            "double",
            "single",
            *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        ):
            raise DataError(f"{path}: {key} must be numbers; found {kinds[key]}")
        return np.asarray(loadmat(path, variable_names=[key])[key])


def _check_packed(path: Path, size: int) -> None:
    """Unpack the compressed elements of a file without keeping them, up to what CONCORDANT_LIMIT allows."""
    total = 0
    with path.open("rb") as opened:
        order: Literal["little", "big"] = "little" if opened.read(128)[126:] == b"IM" else "big"
        while tag := opened.read(8):
            count, place = int.from_bytes(tag[4:], order), opened.tell()
            if int.from_bytes(tag[:4], order) == _COMPRESSED:
                unpacker = zlib.decompressobj()
                rest = opened.read(min(count, size))
                while rest and not unpacker.eof:
                    total += len(unpacker.decompress(rest, 1 << 20))
                    rest = unpacker.unconsumed_tail
                    check_size(f"{path}", total, size)
            opened.seek(place + count)


def _sensor(path: Path, sensor: str, depth_frames: int) -> Array:
    """Return the values of one file, in the layout of its modality."""
    key = KEYS[sensor]
    with path.open("rb") as opened:
        start = opened.read(128)
    if start.startswith((b"MATLAB 7.3", b"\x89HDF")):
        with open_dataset(path, key) as dataset:
            values = read_rows(path, dataset).T  # MATLAB counts the first axis fastest
    else:
        values = _level_5(path, key)
    wanted = {"skeleton": (20, 3, None), "inertial": (None, 6), "depth": (240, 320, None)}[sensor]
    shape = values.shape
    if (
        values.dtype.kind not in "fiu"
        or len(shape) != len(wanted)
        or any(size not in (None, has) or has == 0 for size, has in zip(wanted, shape, strict=True))
    ):
        axes = ", ".join("T" if size is None else str(size) for size in wanted)
        raise DataError(f"{path}: {key} must be numbers ({axes}); found {values.dtype} {shape}")
    if sensor == "skeleton":
        return np.asarray(values.transpose(2, 0, 1).reshape(-1, 60))
    if sensor == "inertial":
        return np.asarray(values)
    kept = values[:, :, np.linspace(0, shape[2] - 1, depth_frames).round().astype(int)]
    height, width = 240 // BLOCK, 320 // BLOCK
    blocks = kept.reshape(height, BLOCK, width, BLOCK, depth_frames).mean((1, 3))  # (H, W, T)
    return np.asarray(np.moveaxis(blocks, -1, 0)[None])
