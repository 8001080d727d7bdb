import json
import os
import re
import sys
from functools import partial

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch import nn

from concordant import ContextualCalibrator, attach
from concordant.attach.harm import Guarantee
from concordant.deploy.opening import open_deployed
from concordant.deploy.sharing import share_attached, share_run
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
    learnt = dict(open_deployed(shared_run, label="self", seed=1)[0].named_parameters())
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


class LateFusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.audio, self.head = nn.Linear(4, 6), nn.Linear(5, 3), nn.Linear(9, 2)

    def forward(self, text, audio):
        return self.head(torch.cat([self.text(text), self.audio(audio)], 1))


@pytest.fixture
def attached():
    sizes, build = {"text": 6, "audio": 3}, partial(ContextualCalibrator, fill="context", classes=2)
    model = attach(LateFusion(), {"text": "text", "audio": "audio"}, layout="bd", sizes=sizes, calibrator=build)
    for parameter in model.calibrator.parameters():
        nn.init.normal_(parameter, std=0.3)
    model.calibrator.tolerate(0.5)
    model.guarantee = Guarantee(0.02, 0.9, 400, 0.5, 3, 0.0166)
    return model.eval()


def test_an_attached_model_is_shared_with_its_guarantee_and_the_code_of_the_card_loads_it(
    attached, tmp_path, monkeypatch
):
    share_attached(attached, tmp_path / "model", license="mit", datasets=["me/data"], base_model="me/late-fusion")
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert (card.data.license, card.data.datasets, card.data.base_model) == ("mit", ["me/data"], "me/late-fusion")
    assert (
        "With 90% confidence at most 2.0% of the answers that are right without the calibrator are harmed by it, on "
        "data like the validation rows. Of 400 tested 3 were harmed at the tolerance 0.5; the upper bound is 1.66%."
    ) in card.text
    monkeypatch.chdir(tmp_path / "model")
    names = {"model": LateFusion(), "inputs": (torch.randn(8, 4), torch.randn(8, 5))}
    exec(card.text.split("```python\n")[1].split("```")[0], names)  # noqa: S102
    assert torch.equal(names["out"], attached(*names["inputs"]))
    assert names["attached"].guarantee == attached.guarantee


def test_what_is_not_attached_is_not_shared(attached, tmp_path):
    with pytest.raises(UsageError, match="attached must be what attach or fit_plugin returned"):
        share_attached(attached.model, tmp_path / "model")
