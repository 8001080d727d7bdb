import hashlib

import pytest

from concordant.data.digest import sha256, sources
from concordant.errors import DataError


def test_files_are_named_relative_to_their_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(b"abc" * 100_000)
    (found,) = sources(tmp_path, ["sub/a.bin"])
    assert found.file == "sub/a.bin"
    assert found.sha256 == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone cannot be read \(No such file or directory\)"):
        sha256(tmp_path / "gone")
