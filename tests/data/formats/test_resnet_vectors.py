import re
import shutil

import numpy as np
import pytest

pytest.importorskip("h5py")

from concordant.data.formats.resnet_vectors import read_ave_vectors, read_cremad_vectors
from concordant.errors import DataError

pytestmark = pytest.mark.data
SETS = {"cremad": read_cremad_vectors, "ave": read_ave_vectors}


def publish(folder, arrays):
    """Write the arrays of an archive as ReconBoost publishes them."""
    for training in ("normal", "ogm_ge"):
        place = folder / f"{training}_fts"
        place.mkdir(parents=True)
        for modality in ("audio", "visual"):
            np.save(place / f"{modality}_features.npy", arrays[f"{modality}_{training}"])
    np.save(folder / "ogm_ge_fts" / "all_labels.npy", arrays["label"])


@pytest.mark.parametrize("name", SETS)
def test_the_archive_comes_back_from_published_arrays_and_lists(name, data_folder, tmp_path):
    with np.load(data_folder / f"{name}_features.npz") as archive:
        arrays = dict(archive)
    publish(tmp_path / "all", arrays)
    lists = data_folder / "formats" / name
    found = SETS[name](tmp_path / "all", lists)
    assert set(found) == set(arrays)
    for key, values in arrays.items():
        np.testing.assert_array_equal(found[key], values)
    if name == "cremad":
        shutil.copy(lists / "test.csv", tmp_path / "all")
        assert SETS[name](tmp_path / "all")["id"].tolist() == arrays["id"].tolist()
    np.save(tmp_path / "all" / "ogm_ge_fts" / "all_labels.npy", arrays["label"][::-1])
    with pytest.raises(DataError, match=r"all_labels\.npy has other labels than the list of the test split"):
        SETS[name](tmp_path / "all", lists)
    np.save(tmp_path / "all" / "normal_fts" / "visual_features.npy", arrays["visual_normal"][1:])
    said = f"must be numbers ({len(arrays['id'])}, 512), one row per clip of the list; found float32"
    with pytest.raises(DataError, match=re.escape(said)):
        SETS[name](tmp_path / "all", lists)
    (tmp_path / "all" / "normal_fts" / "audio_features.npy").unlink()
    with pytest.raises(DataError, match=r"audio_features\.npy cannot be read as a NumPy array"):
        SETS[name](tmp_path / "all", lists)
