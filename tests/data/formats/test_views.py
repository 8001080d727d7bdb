import re

import numpy as np
import pytest
from scipy.io import savemat

from concordant.benchmarks.small import HANDWRITTEN_SIZES, SCENE15_SIZES
from concordant.data.formats.views import TABLES, read_views
from concordant.errors import DataError


def cell(views):
    found = np.empty((1, len(views)), object)
    found[0, :] = views
    return found


def drawn(rows, sizes):
    draws = np.random.default_rng(0)
    return [draws.normal(size=(rows, size)) for size in sizes.values()]


@pytest.mark.parametrize("turned", [False, True])
def test_the_matlab_file_of_rcml(tmp_path, turned):
    views = drawn(30, SCENE15_SIZES)
    labels = np.arange(30)[:, None] % 15 + 1
    savemat(tmp_path / "scene15_mtv.mat", {"X": cell([x.T if turned else x for x in views]), "gt": labels})
    for source in (tmp_path, tmp_path / "scene15_mtv.mat"):
        found = read_views(source, "scene15_mtv.mat", SCENE15_SIZES)
        assert found["label"].tolist() == (labels.ravel() - 1).tolist()
        for values, wanted in zip(list(found.values())[1:], views, strict=True):
            np.testing.assert_array_equal(values, wanted.astype(np.float32))


def test_the_tables_of_uci_give_the_views_of_the_matlab_file(tmp_path):
    views = [np.round(x, 3) for x in drawn(400, HANDWRITTEN_SIZES)]
    for table, values in zip(TABLES, views, strict=True):
        np.savetxt(tmp_path / f"mfeat-{table}", values, fmt=" %.3f")
    (tmp_path / "rcml").mkdir()
    savemat(tmp_path / "rcml" / "handwritten.mat", {"X": cell(views), "Y": np.repeat([0, 1], 200)[:, None]})
    one, other = (read_views(place, "handwritten.mat", HANDWRITTEN_SIZES) for place in (tmp_path, tmp_path / "rcml"))
    assert list(one) == list(other) == ["label", *HANDWRITTEN_SIZES]
    for key, values in one.items():
        np.testing.assert_array_equal(values, other[key])


@pytest.mark.data
def test_the_archives_come_back_from_files_in_the_published_layout(data_folder, tmp_path):
    for name, sizes, label in (("scene15", SCENE15_SIZES, "gt"), ("handwritten", HANDWRITTEN_SIZES, "Y")):
        with np.load(data_folder / f"{name}.npz") as archive:
            arrays = dict(archive)
        file = tmp_path / f"{name}.mat"
        savemat(
            file, {"X": cell([arrays[view].T.astype(np.float64) for view in sizes]), label: arrays["label"][:, None]}
        )
        found = read_views(file, file.name, sizes)
        assert set(found) == set(arrays)
        for key, values in arrays.items():
            assert found[key].dtype == values.dtype
            np.testing.assert_array_equal(found[key], values)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no scene15_mtv\.mat; name the published file or its folder"):
        read_views(tmp_path, "scene15_mtv.mat", SCENE15_SIZES)
    with pytest.raises(DataError, match=r"has no handwritten\.mat, nor mfeat-pix, mfeat-fou"):
        read_views(tmp_path, "handwritten.mat", HANDWRITTEN_SIZES)
    path = tmp_path / "scene15_mtv.mat"
    savemat(path, {"X": cell(drawn(30, SCENE15_SIZES)), "other": np.ones(3)})
    with pytest.raises(
        DataError, match=re.escape(f"{path} must have a cell array X and labels gt or Y; found X, other")
    ):
        read_views(path, path.name, SCENE15_SIZES)
    savemat(path, {"X": cell(drawn(29, SCENE15_SIZES)), "gt": np.ones((30, 1))})
    with pytest.raises(DataError, match=r"must hold views of shapes \[\(30, 20\), .*; found \[\(29, 20\)"):
        read_views(path, path.name, SCENE15_SIZES)
