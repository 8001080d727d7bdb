"""CMU-MOSI by utterance, as bc-LSTM publishes it (Poria et al., ACL 2017): `text`, `audio` and `video`, each a pickle.

A pickle is a tuple: training values (V, U, D), their labels, test values, their labels, U, and the numbers of
utterances of the training and test videos; V videos are padded to U utterances. It names neither videos nor
utterances: they are numbered here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from concordant.data.arrays import Array
from concordant.data.formats.pickles import read_pickle
from concordant.errors import DataError

_PLACES = {"train": (0, 1, 5), "test": (2, 3, 6)}  # of values, labels and lengths in the tuple


def read_utterances(folder: Path) -> dict[str, Array]:
    """Return the arrays of the benchmark `cmu-mosi-utterance`.

    The folder has text.pickle, audio.pickle and video.pickle, or text_2way.pickle and so on.

    Raises:
        DataError: a file is absent, no such pickle, or does not fit the others.
    """
    found: dict[str, Array] = {}
    for modality in ("text", "audio", "video"):
        names = [f"{modality}_2way.pickle", f"{modality}.pickle"]
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            raise DataError(f"{folder} has neither {' nor '.join(names)}; name the folder of the three pickles")
        for split, places in _PLACES.items():
            values, labels, ids = _split(read_pickle(path), places, f"{path}, {split}", split)
            if modality == "text":
                found[f"y_{split}"], found[f"id_{split}"] = labels, ids
            elif not np.array_equal(labels, found[f"y_{split}"]) or not np.array_equal(ids, found[f"id_{split}"]):
                raise DataError(
                    f"{path}, {split}: labels and lengths must be those of the text; are they of one version?"
                )
            found[f"{modality}_{split}"] = values
    return found


def _split(content: Any, places: tuple[int, int, int], where: str, split: str) -> tuple[Array, Array, Array]:  # noqa: ANN401
    """Return values (N, D), labels (N,) and ids (N,) of a split, without its padding."""
    if not isinstance(content, tuple) or len(content) != 7:
        raise DataError(f"{where}: it must hold a tuple of 7, as published; found {type(content).__name__}")
    try:
        values, labels, lengths = (np.asarray(content[place]) for place in places)
    except ValueError:
        raise DataError(
            f"{where}: values, labels and lengths must be arrays; found rows that differ in length"
        ) from None
    if labels.ndim == 3:  # one-hot
        labels = labels.argmax(2)
    fits = values.ndim == 3 and labels.shape == values.shape[:2] and lengths.shape == values.shape[:1]
    if not fits or values.dtype.kind not in "fiu" or labels.dtype.kind not in "fiu" or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{where}: values (V, U, D), labels (V, U) and lengths (V,) must be numbers; "
            f"found {values.dtype} {values.shape}, {labels.dtype} {labels.shape}, {lengths.dtype} {lengths.shape}"
        )
    steps = np.arange(values.shape[1])
    inside = steps < lengths[:, None]
    videos, utterances = np.nonzero(inside)
    ids = [f"{split}{video:03}_{step:03}" for video, step in zip(videos.tolist(), utterances.tolist(), strict=True)]
    return values[inside].astype(np.float32), labels[inside].astype(np.int64), np.array(ids)
