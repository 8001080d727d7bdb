"""Vectors of two ResNet-18 as ReconBoost publishes them (Hua et al., ICML 2024): `all_feat/<set>/<training>_fts/*.npy`.

`audio_features.npy` and `visual_features.npy` hold the test clips (N, 512), in the order of the list of the test split,
which names them: OGM-GE's `test.csv` of CREMA-D, or AVE's `Annotations.txt` with `test_order.h5`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from concordant.data.arrays import Array, read_npy
from concordant.data.formats import ave, cremad
from concordant.data.formats.hdf5 import open_dataset, read_rows
from concordant.data.formats.listing import find_lists
from concordant.data.formats.listing import read_rows as read_list
from concordant.errors import DataError

TRAININGS = ("normal", "ogm_ge")
Names = tuple[list[str], list[int], tuple[str, ...]]  # ids, labels, classes


def read_cremad_vectors(folder: Path, lists: Path | None = None) -> dict[str, Array]:
    """Return the vectors of CREMA-D's test clips in `all_feat/CREMAD`, with `id`, `label` and `class_names`.

    `lists` is the folder of test.csv; None = it is in `folder` or below it.

    Raises:
        DataError: a file is absent or damaged, or the list and the arrays do not fit each other.
    """
    place = find_lists(folder, ("test.csv",), lists)
    rows = read_list(place, {"test": "test.csv"}, cremad.parse_row)
    return _vectors(folder, ([row.id for row in rows], [row.label for row in rows], cremad.EMOTIONS))


def read_ave_vectors(folder: Path, lists: Path | None = None) -> dict[str, Array]:
    """Return the vectors of AVE's test clips in `all_feat/AVE`, as `read_cremad_vectors` does.

    `lists` is the folder of Annotations.txt and test_order.h5.
    """
    place = find_lists(folder, (ave.ANNOTATIONS, ave.ORDERS["test"]), lists)
    annotations = ave.read_annotations(place / ave.ANNOTATIONS)
    with open_dataset(place / ave.ORDERS["test"], "order") as order:
        rows = read_rows(place / ave.ORDERS["test"], order).ravel()
    if rows.dtype.kind not in "iu" or not len(rows) or rows.min() < 0 or rows.max() >= len(annotations):
        raise DataError(
            f"{place / ave.ORDERS['test']} must hold rows of {ave.ANNOTATIONS}, 0 to {len(annotations) - 1}"
        )
    clips, classes = [annotations[row] for row in rows.tolist()], ave.class_names(annotations)
    return _vectors(folder, ([clip.video for clip in clips], [classes.index(clip.category) for clip in clips], classes))


def _vectors(folder: Path, names: Names) -> dict[str, Array]:
    ids, labels, classes = names
    found = {"id": np.array(ids), "class_names": np.array(classes), "label": np.array(labels, np.int64)}
    for training in TRAININGS:
        place = folder / f"{training}_fts"
        for modality in ("audio", "visual"):
            values = read_npy(place / f"{modality}_features.npy")
            if values.shape != (len(ids), 512) or values.dtype.kind != "f":
                raise DataError(
                    f"{place / f'{modality}_features.npy'} must be numbers ({len(ids)}, 512), one row per clip of the "
                    f"list; found {values.dtype} {values.shape}"
                )
            found[f"{modality}_{training}"] = values.astype(np.float32)
    published = folder / "ogm_ge_fts" / "all_labels.npy"
    if published.is_file() and not np.array_equal(read_npy(published), found["label"]):
        raise DataError(f"{published} has other labels than the list of the test split; are they of one version?")
    return found
