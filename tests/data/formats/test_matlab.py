import re

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csr_matrix

from concordant.data.formats.matlab import read_mat, read_matrix
from concordant.errors import DataError

VIEWS = [np.arange(6.0).reshape(2, 3), np.arange(4, dtype=np.uint8).reshape(2, 2)]


def cell(values):
    found = np.empty((1, len(values)), object)
    found[0, :] = values
    return found


def write_73(path, variables):
    """Write variables as MATLAB 7.3 does: axes in reverse order, cells as references, kinds as attributes."""
    with h5py.File(path, "w") as file:

        def put(name, values):
            if isinstance(values, str):
                made = file.create_dataset(name, data=np.array([[ord(one)] for one in values], np.uint16))
                made.attrs["MATLAB_class"] = np.bytes_("char")
            elif isinstance(values, list):
                parts = [put(f"#refs#/{name}{place}", one).ref for place, one in enumerate(values)]
                made = file.create_dataset(name, data=np.array(parts, h5py.ref_dtype)[:, None], dtype=h5py.ref_dtype)
                made.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                made = file.create_dataset(name, data=np.asarray(values, np.uint8 if values.dtype == bool else None).T)
                kind = {"float64": "double", "bool": "logical"}.get(str(values.dtype), str(values.dtype))
                made.attrs["MATLAB_class"] = np.bytes_(kind)
            return made

        for name, values in variables.items():
            put(name, values)
    return path


def write_5(path, variables):
    savemat(path, {name: cell(one) if isinstance(one, list) else one for name, one in variables.items()})
    return path


@pytest.mark.parametrize("write", [write_5, write_73])
def test_matrices_cells_and_text_are_read_alike(tmp_path, write):
    there = np.array([[True, False]])
    path = write(tmp_path / "x.mat", {"X": VIEWS, "gt": np.array([[1.0], [2.0]]), "who": ["anna", "b"], "on": there})
    found, left = read_mat(path)
    assert left == {}
    assert list(found) == ["X", "gt", "who", "on"] or set(found) == {"X", "gt", "who", "on"}
    for values, wanted in zip(found["X"], VIEWS, strict=True):
        np.testing.assert_array_equal(values, wanted)
        assert values.dtype == wanted.dtype
    assert found["gt"].tolist() == [[1], [2]]
    assert found["who"].tolist() == ["anna", "b"]
    assert found["on"].tolist() == [[True, False]]
    assert read_matrix(path, "gt").shape == (2, 1)
    with pytest.raises(DataError, match=re.escape(f"{path} has no Z; found ")):
        read_matrix(path, "Z")
    with pytest.raises(DataError, match=re.escape(f"{path}: X must be numbers; found cell")):
        read_matrix(path, "X")


def test_sparse_matrices_are_filled_and_structures_left_out(tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, {"s": csr_matrix(VIEWS[0]), "info": {"a": 1}, "mixed": cell([VIEWS[0], {"a": 1}])})
    found, left = read_mat(path)
    assert list(found) == ["s"]
    assert left == {"info": "struct", "mixed": "cell"}
    np.testing.assert_array_equal(found["s"], VIEWS[0])
    with pytest.raises(DataError, match="info must be numbers; found struct"):
        read_matrix(path, "info")


def test_complex_matrices_are_refused_and_sparse_ones_of_hdf5_told(tmp_path):
    savemat(tmp_path / "x.mat", {"csi": VIEWS[0] * 1j})
    with h5py.File(tmp_path / "y.mat", "w") as file:
        made = file.create_dataset("csi", data=np.zeros((2, 3), [("real", "f8"), ("imag", "f8")]))
        made.attrs["MATLAB_class"] = np.bytes_("double")
    for name in ("x.mat", "y.mat"):
        with pytest.raises(DataError, match="csi is complex; save its real and imaginary parts"):
            read_mat(tmp_path / name)
    with h5py.File(tmp_path / "z.mat", "w") as file:
        file.create_group("words").attrs["MATLAB_sparse"] = 3
        file.create_group("info")
    assert read_mat(tmp_path / "z.mat") == ({}, {"info": "struct", "words": "sparse"})


def test_cells_that_share_one_matrix_count_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("CONCORDANT_LIMIT", "1MiB")
    path = tmp_path / "x.mat"
    with h5py.File(path, "w") as file:
        one = file.create_dataset("#refs#/a", data=np.zeros(50_000), compression="gzip")
        made = file.create_dataset("X", data=np.array([one.ref] * 10, h5py.ref_dtype), dtype=h5py.ref_dtype)
        made.attrs["MATLAB_class"] = np.bytes_("cell")
    with pytest.raises(DataError, match=r"X announces 4,000,000 bytes, more than the 1,048,576 that CONCORDANT_LIMIT"):
        read_mat(path)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", b"MATLAB 7.3 MAT-file" + bytes(600), b"text" * 100])
def test_what_is_no_matlab_file_is_refused(tmp_path, content):
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.mat cannot be read as a MATLAB file"):
        read_matrix(tmp_path / "x.mat", "X")
