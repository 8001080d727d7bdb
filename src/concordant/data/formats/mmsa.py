"""MMSA's pickles (Mao et al., ACL 2022 demos): `aligned_50.pkl` and `unaligned_50.pkl` of CMU-MOSI and CMU-MOSEI.

Padded behind the end. `unaligned_50` says the lengths of audio and vision; text, and all three where they are
aligned, are as long as the attention mask of `text_bert` (N, 3, T) says. `id` is "video$_$clip".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.formats.sentiment import Array, Format, Spans, text_of
from concordant.errors import DataError

_JOINT = "$_$"


def _names(split: Mapping[str, Array]) -> tuple[list[str], list[str]]:
    ids = [text_of(name) for name in split["id"].reshape(-1).tolist()]
    return ids, [name.rpartition(_JOINT)[0] or name for name in ids]


def _spans(split: Mapping[str, Array], arrays: Mapping[str, Array], where: str) -> Spans:
    bert, count, steps = split["text_bert"], *arrays["text"].shape[:2]
    if bert.dtype.kind not in "fiub" or bert.shape != (count, 3, steps):
        raise DataError(
            f"{where}: text_bert must be numbers ({count}, 3, {steps}), as text has instances and steps; "
            f"found {bert.dtype} {bert.shape}"
        )
    mask = bert[:, 1] > 0
    words = mask.sum(1)
    if not np.array_equal(mask, np.arange(steps) < words[:, None]):
        raise DataError(f"{where}: the attention mask of text_bert must be ones and then zeros")
    found = {"text": _from_start(words)}
    for modality in ("audio", "vision"):
        most = arrays[modality].shape[1]
        key = f"{modality}_lengths"
        if key in split:
            lengths = split[key].reshape(-1)
        elif most == steps:
            lengths = words
        else:
            raise DataError(f"{where}: {modality} has {most} steps where text has {steps}, so {key} is needed")
        broken = _broken(lengths, most)
        if len(lengths) != count or broken.size:
            such = f", such as {broken[0]}" if broken.size else ""
            raise DataError(
                f"{where}: {key} must be {count} whole numbers from 0 to {most}; "
                f"found {len(lengths)} of {lengths.dtype}{such}"
            )
        found[modality] = _from_start(lengths.astype(np.int64))
    return found


def _from_start(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.stack([np.zeros(len(lengths), np.int64), lengths.astype(np.int64)], 1)


def _broken(lengths: Array, most: int) -> Array:
    """Return the lengths that cannot be; all of them where they are no numbers."""
    if lengths.dtype.kind not in "iuf":
        return lengths
    broken: Array = lengths[~((lengths >= 0) & (lengths <= most) & (lengths == np.floor(lengths)))]
    return broken


MMSA = Format(
    name="MMSA",
    keys=("text", "audio", "vision", "id", "text_bert", "regression_labels"),
    labels="regression_labels",
    names=_names,
    spans=_spans,
    drop=lambda spans: np.zeros(len(spans["text"]), np.bool_),
    notes=(),
)
