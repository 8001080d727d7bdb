"""MMSA's pickles (Mao et al., ACL 2022 demos): `aligned_50.pkl` and `unaligned_50.pkl` of CMU-MOSI and CMU-MOSEI.

Padded behind the end. `unaligned_50` says the lengths of audio and vision; text, and all three where they are
aligned, are as long as the attention mask of `text_bert` (N, 3, T) says. `id` is "video$_$clip".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concord.data.formats.sentiment import Array, Format, Spans
from concord.errors import DataError

_JOINT = "$_$"


def _names(split: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    ids = [str(name) for name in np.asarray(split["id"]).reshape(-1).tolist()]
    return ids, [name.rpartition(_JOINT)[0] or name for name in ids]


def _spans(split: Mapping[str, Any], arrays: Mapping[str, Array], where: str) -> Spans:
    bert = np.asarray(split["text_bert"])
    steps = arrays["text"].shape[1]
    if bert.ndim != 3 or bert.shape[1] != 3 or bert.shape[2] != steps:
        raise DataError(f"{where}: text_bert must have shape (N, 3, {steps}), as text has steps; found {bert.shape}")
    mask = bert[:, 1] > 0
    words = mask.sum(1)
    if not np.array_equal(mask, np.arange(steps) < words[:, None]):
        raise DataError(f"{where}: the attention mask of text_bert must be ones and then zeros")
    found = {"text": _from_start(words)}
    for modality in ("audio", "vision"):
        most = arrays[modality].shape[1]
        key = f"{modality}_lengths"
        if key in split:
            lengths = np.asarray(split[key]).reshape(-1)
        elif most == steps:
            lengths = words
        else:
            raise DataError(f"{where}: {modality} has {most} steps where text has {steps}, so {key} is needed")
        if len(lengths) != len(words) or lengths.dtype.kind not in "iuf" or (lengths < 0).any() or lengths.max() > most:
            raise DataError(f"{where}: {key} must be {len(words)} lengths from 0 to {most}; found {_range(lengths)}")
        found[modality] = _from_start(lengths.astype(np.int64))
    return found


def _from_start(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.stack([np.zeros(len(lengths), np.int64), lengths.astype(np.int64)], 1)


def _range(lengths: Array) -> str:
    numbers = lengths.dtype.kind in "iuf" and lengths.size > 0
    return f"{len(lengths)} from {lengths.min()} to {lengths.max()}" if numbers else f"{lengths.dtype} {lengths.shape}"


MMSA = Format(
    name="MMSA",
    keys=("text", "audio", "vision", "id", "text_bert", "regression_labels"),
    labels="regression_labels",
    names=_names,
    spans=_spans,
    drop=lambda spans: np.zeros(len(spans["text"]), np.bool_),
    notes=(),
)
