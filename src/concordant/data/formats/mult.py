"""The pickles of MulT (Tsai et al., ACL 2019) and MultiBench (Liang et al., NeurIPS 2021): text, audio, vision, labels.

MulT pads behind the end and says no lengths: steps of zeros at the end are cut off, in aligned files those that all
three modalities share. MultiBench pads in front: what lies before the first word is cut off, of all three, and
instances without a word are left out. `id`, where there is one, is a video with its start and end.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from concordant.data.formats.sentiment import Array, Format, Spans, shown, text_of


def _names(split: Mapping[str, Array]) -> tuple[list[str], list[str]] | None:
    if "id" not in split:
        return None
    rows = split["id"]
    if rows.ndim == 2 and rows.shape[1] > 1:  # video, start, end
        parts = [[text_of(cell) for cell in row] for row in rows.tolist()]
        return ["_".join(row) for row in parts], [row[0] for row in parts]
    ids = [text_of(name) for name in rows.reshape(-1).tolist()]
    return ids, [name.partition("[")[0] for name in ids]  # MOSEI writes video[clip]


def _ends(split: Mapping[str, Array], arrays: Mapping[str, Array], where: str) -> Spans:
    lengths = {modality: _last(shown(array)) for modality, array in arrays.items()}
    if len({array.shape[1] for array in arrays.values()}) == 1:  # aligned: one length for all
        common = np.max(list(lengths.values()), axis=0)
        lengths = dict.fromkeys(lengths, common)
    return {modality: np.stack([np.zeros_like(ends), ends], 1) for modality, ends in lengths.items()}


def _starts(split: Mapping[str, Array], arrays: Mapping[str, Array], where: str) -> Spans:
    steps = arrays["text"].shape[1]
    words = shown(arrays["text"])
    first = np.where(words.any(1), words.argmax(1), steps)
    found = {}
    for modality, array in arrays.items():
        if array.shape[1] == steps:
            begin = first
        else:  # of another rate, so the first word does not say where it begins
            there = shown(array)
            begin = np.where(there.any(1), there.argmax(1), array.shape[1])
        found[modality] = np.stack([begin, np.full_like(begin, array.shape[1])], 1)
    return found


def _last(there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return one more than the last step that is there, 0 where none is (N,)."""
    steps = there.shape[1]
    return np.where(there.any(1), steps - there[:, ::-1].argmax(1), 0)


def _wordless(spans: Spans) -> NDArray[np.bool_]:
    return np.asarray(spans["text"][:, 0] >= spans["text"][:, 1], dtype=np.bool_)


_KEYS = ("text", "audio", "vision", "labels")
MULT = Format(
    name="MulT",
    keys=_KEYS,
    labels="labels",
    names=_names,
    spans=_ends,
    drop=lambda spans: np.zeros(len(spans["text"]), np.bool_),
    notes=("the file does not say how long sequences are: steps of zeros at the end count as padding",),
)
MULTIBENCH = Format(
    name="MultiBench",
    keys=_KEYS,
    labels="labels",
    names=_names,
    spans=_starts,
    drop=_wordless,
    notes=("the file does not say how long sequences are: what lies before the first word counts as padding",),
)
