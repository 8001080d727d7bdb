"""What the README prints can be run: its Python, its commands, its links; it fits on a screen or two."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

import concordant
from concordant.files import read_json

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 120


def test_the_layer_finds_the_spoilt_view(capsys):
    exec(compile(blocks("python")[0], "README.md", "exec"), {})  # noqa: S102
    intact, spoilt = (
        {name: float(value) for name, value in re.findall(r"'(\w+)': ([\d.]+)", line)}
        for line in capsys.readouterr().out.splitlines()
    )
    assert min(intact.values()) > 0.85
    assert spoilt["left"] < 0.5
    assert min(spoilt["right"], spoilt["sums"]) > 0.85


class LateFusion(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.text_encoder, self.audio_encoder = torch.nn.Linear(6, 8), torch.nn.Linear(5, 8)
        self.head = torch.nn.Linear(16, 3)

    def forward(self, text, audio):
        return self.head(torch.cat([self.text_encoder(text), self.audio_encoder(audio)], 1))


@pytest.mark.filterwarnings("ignore:fit_plugin")  # of so few rows that validation may reject the calibrator
def test_the_plug_in_goes_around_a_trained_model(monkeypatch):
    monkeypatch.setattr(concordant, "fit_plugin", partial(concordant.fit_plugin, steps=20))
    text, audio = torch.randn(8, 6), torch.randn(8, 5)
    batches = [((text, audio), torch.arange(8) % 3)]
    given = {"model": LateFusion(), "train_loader": batches, "valid_loader": batches, "text": text, "audio": audio}
    exec(compile(blocks("python")[1], "README.md", "exec"), given)  # noqa: S102
    assert given["logits"].shape == (8, 3)
    assert given["reliability"].shape == (8, 2)
    assert len(blocks("python")) == 2


def test_its_numbers_are_those_of_the_results():
    found = read_json(ROOT / "results" / "plugin.json")["cells"]["scene15/lf-dnn"]["differences"]
    before, after = (100 * found["context"]["mean"][when] for when in ("before", "after"))
    anew = 100 * found["modality-dropout"]["mean"]["after"]
    numbers = f"{before:.1f} % right; trained anew with modality dropout {anew:.1f} %; plugged in {after:.1f} %"
    assert f"corrupted: {numbers}" in " ".join(TEXT.split())


def test_every_command_is_an_installation_or_a_target_that_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in "".join(blocks("sh")).splitlines():
        if not command.startswith("pip install "):
            assert re.search(rf"^{command.removeprefix('make ')}:", makefile, flags=re.MULTILINE), command
