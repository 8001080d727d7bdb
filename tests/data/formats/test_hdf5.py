import numpy as np
import pytest

from concordant.data.formats.hdf5 import open_dataset, read_rows
from concordant.errors import DataError

h5py = pytest.importorskip("h5py")


def virtual(file, other):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "x", (3,))
    file.create_virtual_dataset("x", layout)


def external(file, other):
    file.create_dataset("x", (3,), "f4", external=[(str(other), 0, 12)])


def linked(file, other):
    file["x"] = h5py.ExternalLink(str(other), "x")


def soft(file, other):
    file["x"] = h5py.SoftLink("/y")
    file["y"] = np.ones(3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (virtual, "x lies in other files, which are not read"),
        (external, "x lies in other files, which are not read"),
        (linked, r"has no dataset 'x'; found x \(links are not followed\)"),
        (soft, r"has no dataset 'x'; found x, y \(links are not followed\)"),
        (lambda file, other: file.create_dataset("x", data=h5py.Empty("f4")), "x must be numbers; found float32 None"),
        (lambda file, other: file.create_dataset("x", (1 << 40,), "f8", chunks=(1 << 10,)), "announces 8,796,093,022"),
    ],
)
def test_only_what_lies_in_the_file_and_fits_is_read(tmp_path, make, said):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(3, np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, tmp_path / "other.h5")
    with pytest.raises(DataError, match=said), open_dataset(tmp_path / "a.h5", "x"):
        pass


def test_rows_are_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(6).reshape(3, 2)
    with open_dataset(tmp_path / "a.h5", "x") as found:
        assert read_rows(tmp_path / "a.h5", found, 1).tolist() == [[2, 3], [4, 5]]
