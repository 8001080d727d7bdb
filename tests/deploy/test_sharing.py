import json
import os
import re
import sys

import pytest
from safetensors.torch import load_file

pytest.importorskip("huggingface_hub")

from concordant.deploy.opening import open_deployed
from concordant.deploy.sharing import share_run
from concordant.errors import ConcordantError, UsageError
from concordant.files import read_json


def test_the_document_says_what_the_folder_is(shared_run, tmp_path):
    (tmp_path / "empty").mkdir()
    document = share_run(shared_run, tmp_path / "empty", label="self", seed=1)
    json.dumps(document, allow_nan=False)
    assert document["schema"] == "concordant.shared/1"
    assert document["folder"] == str(tmp_path / "empty")
    assert (document["label"], document["seed"]) == ("self", 1)
    assert document["files"] == {name: os.stat(tmp_path / "empty" / name).st_size for name in document["files"]}
    description = read_json(tmp_path / "empty" / "config.json")["description"]
    assert (description["label"], description["seed"]) == ("self", 1)
    # What can be learnt, without the scaling of the inputs.
    state = load_file(tmp_path / "empty" / "model.safetensors")
    weights = {name: x for name, x in state.items() if not name.startswith("scales.")}
    learnt = dict(open_deployed(shared_run, label="self", seed=1).model.named_parameters())
    assert document["parameters"] == sum(weights[name].numel() for name in learnt)


def test_sharing_twice_gives_the_same_files(shared_run, tmp_path):
    for name in ("one", "two/below"):
        share_run(shared_run, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "below" / path.name).read_bytes()


def test_what_is_in_the_way_stays(shared_run, tmp_path):
    (tmp_path / "file").write_text("dear")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".hidden").write_text("dear")
    for place in ("file", "folder"):
        with pytest.raises(UsageError, match=rf"{place} is in use; name a new folder with --out$"):
            share_run(shared_run, tmp_path / place)
    with pytest.raises(UsageError, match=r"^--out: cannot write to .*file/model \((Not a directory|File exists)\)$"):
        share_run(shared_run, tmp_path / "file" / "model")
    assert (tmp_path / "file").read_text() == "dear"
    assert os.listdir(tmp_path / "folder") == [".hidden"]


def test_a_folder_that_cannot_be_written_to_its_end_is_not_left_half(shared_run, tmp_path, monkeypatch):
    def full(self, folder):
        (folder / "model.safetensors").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("concordant.deploy.pretrained.PretrainedModel.save_pretrained", full)
    with pytest.raises(UsageError, match=r"^--out: cannot write to .*model \(No space left on device\)$"):
        share_run(shared_run, tmp_path / "model")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [({"label": "joint"}, "unknown calibrator 'joint'"), ({"seed": 2}, "seed must be one of 0..1")],
)
def test_a_run_that_is_not_there_makes_no_folder(shared_run, tmp_path, options, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        share_run(shared_run, tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_a_package_that_is_missing_is_named(shared_run, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "concordant.deploy.pretrained", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = "sharing needs huggingface_hub, which is not installed: pip install 'concordant[export]'"
    with pytest.raises(ConcordantError, match=f"^{re.escape(said)}$"):
        share_run(shared_run, tmp_path / "model")
    assert not (tmp_path / "model").exists()
