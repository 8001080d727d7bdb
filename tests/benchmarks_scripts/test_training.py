"""The plain network of the comparison is the published one, and the page is made of its file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.store import MOSI
from benchmarks.training import PlainNetwork, page
from concordant.files import read_json
from concordant.training.config import make_config
from concordant.training.model import assemble

ROOT = Path(__file__).parents[2]


def test_the_plain_network_computes_what_the_published_model_computes():
    config = make_config("own", modalities=tuple(MOSI), fusion="lf-dnn", preset="published")
    inputs = {name: ("btd", shape) for name, shape in MOSI.items()}
    how = {"fusion": "lf-dnn", "calibrator": "none", "outputs": 1, "real": True, "seed": 0, "preset": "published"}
    model = assemble(inputs, config.recipe, **how).eval()
    plain = PlainNetwork().eval()
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in model.parameters())
    parts = model.fusion.subnetworks
    plain.lstm.load_state_dict(parts["text"].lstm.state_dict())
    plain.text.load_state_dict(parts["text"].project.state_dict())
    for name, network in (("audio", plain.audio), ("vision", plain.vision)):
        theirs = [parts[name].normalise, *parts[name].layers]
        for one, other in zip(network, theirs, strict=True):
            one.load_state_dict(other.state_dict())
    for one, other in zip(plain.joined, [*model.fusion.hidden, model.fusion.head], strict=True):
        one.load_state_dict(other.state_dict())
    with torch.no_grad():  # the plain one has the modalities in another order
        first = plain.joined[1].weight
        audio, text, vision = first.split([16, 256, 128], 1)
        first.copy_(torch.cat([audio, vision, text], 1))
        x = {
            name: torch.from_numpy(np.random.default_rng(0).normal(size=(3, *shape))).float()
            for name, shape in MOSI.items()
        }
        found = plain(x["text"], x["audio"].mean(1), x["vision"].mean(1))
        torch.testing.assert_close(found, model(x).logits[:, 0])


@pytest.mark.skipif(not (ROOT / "results" / "training.json").exists(), reason="not measured yet")
def test_the_page_is_made_of_the_file():
    text = (ROOT / "docs" / "performance-training.md").read_text(encoding="utf-8")
    assert page(read_json(ROOT / "results" / "training.json")) == text
