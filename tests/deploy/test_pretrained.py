import json
import shutil

import pytest
import torch

pytest.importorskip("huggingface_hub")

from concordant.deploy.opening import load_shared, open_deployed
from concordant.deploy.pretrained import PretrainedModel
from concordant.deploy.sharing import share_run
from concordant.errors import DataError


@pytest.fixture(scope="module")
def shared(shared_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "model"
    return share_run(shared_run, folder), folder


@pytest.fixture
def copy(shared, tmp_path):
    return shutil.copytree(shared[1], tmp_path / "copy")


def test_a_folder_holds_safetensors_a_configuration_and_a_card(shared):
    document, folder = shared
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert document["files"]["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert (document["label"], document["seed"]) == ("context", 0)


@pytest.mark.parametrize("load", [PretrainedModel.from_pretrained, load_shared])
def test_a_loaded_model_answers_bit_for_bit_as_the_run_does(load, shared, shared_run):
    model = load(shared[1])
    assert not model.training
    test = shared_run.task(0, None).test
    trained = shared_run.model(shared_run.task(0, None), shared_run.variant("context"), 0)
    raw = open_deployed(shared_run)[1].test
    assert raw.ids.tolist() == test.ids.tolist()
    with torch.no_grad():
        expected = trained({name: torch.from_numpy(x) for name, x in test.inputs.items()})
        found = model({name: torch.from_numpy(x) for name, x in raw.inputs.items()})
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.calibration.reliability, expected.calibration.reliability)


def test_saving_a_loaded_model_gives_the_same_files(shared, tmp_path):
    PretrainedModel.from_pretrained(shared[1]).save_pretrained(tmp_path / "again")
    for path in shared[1].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_pushing_uploads_those_files_and_no_others(shared, monkeypatch):
    uploaded = {}

    class Api:
        def __init__(self, **options):
            pass

        def create_repo(self, repo_id, **options):
            return type("Url", (), {"repo_id": f"me/{repo_id}"})()

        def upload_folder(self, *, repo_id, folder_path, **options):
            from pathlib import Path

            uploaded[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())
            return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert PretrainedModel.from_pretrained(shared[1]).push_to_hub("digits") == "done"
    assert uploaded == {"me/digits": ["README.md", "config.json", "model.safetensors"]}


def test_the_card_has_results_inputs_classes_and_what_the_calibrator_does(shared, shared_run):
    from huggingface_hub import ModelCard

    from concordant.files import read_json
    from concordant.report.tables.scores import brief

    card = ModelCard.load(shared[1] / "README.md")
    assert card.data.library_name == "concordant"
    assert "calibration" in card.data.tags
    assert brief(read_json(shared_run.path / "results.json")) in card.text
    assert "| left | map (channels, rows, columns) | (B, 1, 8, 4) |" in card.text
    assert "Classes, in the order of the logits: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in card.text
    assert "`context`: scaled by the support and conflict of the other modalities (ours)." in card.text


def test_the_twins_card_says_that_nothing_is_calibrated(shared_run, tmp_path):
    share_run(shared_run, tmp_path / "twin", label="none", seed=1)
    text = (tmp_path / "twin" / "README.md").read_text()
    assert "Nothing: this is the model without calibration" in text
    assert "calibrator none, clean" in text


@pytest.mark.parametrize("load", [PretrainedModel.from_pretrained, load_shared])
def test_broken_weights_are_told(load, copy):
    from safetensors.torch import load_file, save_file

    path = copy / "model.safetensors"
    state = load_file(path)
    removed = state.pop("scales.left.mean")
    state["scales.right.mean"] = torch.zeros(3)
    save_file({**state, "other": removed}, path)
    with pytest.raises(
        DataError,
        match=r"does not match config.json: scales.left.mean is missing; other is not of this model; scales.right",
    ):
        load(copy)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"model.safetensors cannot be read as safetensors \(.*\); share the"):
        load(copy)
    path.unlink()
    with pytest.raises(DataError, match=r"model.safetensors cannot be read as safetensors"):
        load(copy)


@pytest.mark.parametrize("load", [PretrainedModel.from_pretrained, load_shared])
def test_a_configuration_that_describes_nothing_is_told(load, copy):
    values = json.loads((copy / "config.json").read_text())
    values["description"]["label"] = "other"
    (copy / "config.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"config.json describes no model of Concordant: label 'other' is none of its"):
        load(copy)
    (copy / "config.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"config.json .*describes no model; name a folder that `concordant share` made"
    ):
        load(copy)


def test_pickled_weights_are_never_read(shared):
    with pytest.raises(DataError, match=r"x.bin is pickled, and pickled weights are not read; convert them"):
        PretrainedModel._load_as_pickle(None, "x.bin", "cpu", True)


def test_a_repository_with_pickled_weights_alone_is_refused(shared, monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def download(repo_id, filename, **options):
        asked.append(filename)
        if filename == "config.json":
            return str(shared[1] / "config.json")
        raise EntryNotFoundError("not there")

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    monkeypatch.setattr("concordant.deploy.pretrained.hf_hub_download", download)
    with pytest.raises(DataError, match=r"^me/digits has no model.safetensors; pickled weights are not read$"):
        PretrainedModel.from_pretrained("me/digits")
    assert asked == ["config.json", "model.safetensors"]
