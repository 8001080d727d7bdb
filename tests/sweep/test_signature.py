import shutil
from pathlib import Path

import concordant
from concordant.sweep.signature import code_of, signature
from concordant.training.provenance import versions

SOURCE = Path(concordant.__file__).parent


def test_a_signature_is_versions_and_the_code():
    found = signature()
    assert found["concordant"] == concordant.__version__
    assert found["torch"] == versions()["torch"].split("+")[0]
    assert found["python"].count(".") == 1
    assert found["code"] == code_of(SOURCE)


def test_other_code_of_the_same_version_has_another_digest(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    assert code_of(tmp_path / "copy") == code_of(SOURCE)
    file = tmp_path / "copy" / "sweep" / "search.py"
    file.write_text(file.read_text() + "# changed\n")
    assert code_of(tmp_path / "copy") != code_of(SOURCE)
    shutil.rmtree(tmp_path / "copy" / "sweep")
    file.parent.mkdir()
    shutil.copy(SOURCE / "sweep" / "search.py", tmp_path / "copy" / "sweep" / "other.py")
    assert code_of(tmp_path / "copy") != code_of(SOURCE)
