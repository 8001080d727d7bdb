"""UTD-MHAD's own files (Chen et al., ICIP 2015): 27 actions of eight subjects by skeleton, inertial unit and depth.

Files are `a<action>_s<subject>_t<trial>_<sensor>.mat`: `d_skel` (20, 3, T), `d_iner` (T, 6), `d_depth` (240, 320, T).
Odd subjects train, even ones test, as published. A sensor whose file is absent or broken is absent in its recording.
Shapes: skeleton (T, 60), inertial (T, 6), depth (1, T, H, W), blocks of pixels averaged, frames picked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from concordant.data.arrays import Array, has_shape
from concordant.data.card import Card, LabelCard, ModalityCard, sources
from concordant.data.formats.matlab import read_matrix
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError, UsageError

ACTIONS = 27
KEYS = {"skeleton": "d_skel", "inertial": "d_iner", "depth": "d_depth"}
BLOCK = 4  # pixels of depth, in both directions, that are averaged
_NAME = re.compile(r"a([0-9]+)_s([0-9]+)_t([0-9]+)_(skeleton|inertial|depth)\.mat")


def read_utd_mhad(folder: Path, *, depth_frames: int = 16) -> Reading:
    """Read the recordings in a folder or below it; of each, `depth_frames` evenly spaced from the first to the last.

    Raises:
        UsageError: depth_frames is not positive.
        DataError: no file has such a name, or two are of one recording and sensor.
    """
    if depth_frames < 1:
        raise UsageError(f"depth_frames must be 1 or more; found {depth_frames}")
    files = _files(folder)
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


def read_utd_mhad_archive(folder: Path) -> dict[str, Array]:
    """Return the arrays of the benchmark `utd-mhad`: recordings at fixed lengths, all with their three sensors.

    Skeleton (64) and inertial (128 steps) are interpolated linearly from the first to the last step. Depth is 16 frames
    evenly spaced from the first to the last, 4x4 pixels averaged, in whole millimetres, rounded down.

    Raises:
        DataError: as for `read_utd_mhad`, or a sensor of a recording is absent or cannot be read.
    """
    columns: dict[str, list[object]] = {}
    for (action, subject, trial), sensors in sorted(_files(folder).items()):
        name = f"a{action}_s{subject}_t{trial}"
        missing = [sensor for sensor in KEYS if sensor not in sensors]
        if missing:
            raise DataError(f"{folder} has no {name}_{missing[0]}.mat; every recording needs {', '.join(KEYS)}")
        values = {sensor: _sensor(path, sensor, 16) for sensor, path in sensors.items()}
        row = {"id": name, "action": action - 1, "subject": subject, "trial": trial}
        row |= {"skeleton": _at_length(values["skeleton"], 64).reshape(64, 20, 3)}
        row |= {"skeleton_frames": len(values["skeleton"]), "inertial": _at_length(values["inertial"], 128)}
        row |= {"inertial_samples": len(values["inertial"]), "depth": values["depth"][0].astype(np.uint16)}
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return {key: np.array(rows) for key, rows in columns.items()}


def _at_length(values: Array, steps: int) -> Array:
    """Return a sequence (T, D) at another number of steps, interpolated linearly."""
    times = np.linspace(0, len(values) - 1, steps)
    columns = [np.interp(times, np.arange(len(values)), column) for column in values.T]
    return np.stack(columns, 1).astype(np.float32)


def _files(folder: Path) -> dict[tuple[int, int, int], dict[str, Path]]:
    """Return action, subject and trial -> sensor -> file."""
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
    return files


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


def _sensor(path: Path, sensor: str, depth_frames: int) -> Array:
    """Return the values of one file, in the layout of its modality."""
    key = KEYS[sensor]
    values = read_matrix(path, key)
    wanted = {"skeleton": (20, 3, None), "inertial": (None, 6), "depth": (240, 320, None)}[sensor]
    shape = values.shape
    if values.dtype.kind not in "fiu" or not has_shape(shape, wanted):
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
