import hashlib
import platform

import torch

from concordant import __version__
from concordant.training.provenance import digests, hardware, versions


def test_versions_are_those_that_are_installed():
    found = versions()
    assert found["concordant"] == __version__
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()


def test_hardware_has_a_processor_and_cores():
    found = hardware()
    assert found["processor"]
    assert found["cores"] >= 1


def test_digests_are_of_the_files_that_are_there(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"x" * 5_000_000)
    found = digests(tmp_path, ["a.npz", "b.npz"])
    assert found == {"a.npz": hashlib.sha256(b"x" * 5_000_000).hexdigest()}
    assert digests(None, ["a.npz"]) == {}
