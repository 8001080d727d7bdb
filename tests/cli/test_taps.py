"""The command taps as a user sees it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from concordant.cli.taps import taps_command
from concordant.errors import UsageError

app = typer.Typer()
app.command("taps")(taps_command)

SOURCE = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.v, self.head = nn.Linear(3, 4), nn.Conv1d(5, 4, 1), nn.Linear(8, 2)

    def forward(self, sound, film):
        return self.head(torch.cat([self.a(sound), self.v(film).mean(2)], 1))

def batch():
    return torch.randn(4, 3), torch.randn(4, 5, 7)

def both():
    return Model(), batch()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_taps_model.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)


def run(*words):
    return CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.mark.parametrize(
    "words", [("my_taps_model:both",), ("my_taps_model:Model", "--example", "my_taps_model:batch")]
)
def test_the_table_and_the_line_to_copy_are_printed(words):
    done = run(*words)
    assert done.exit_code == 0
    assert done.output.splitlines()[0].endswith("meets others in  normalised behind  goes past")
    assert (
        done.output.splitlines()[-1]
        == "attach(model, {'sound': 'a', 'film': 'v'}, layout={'sound': 'bd', 'film': 'bdt'})"
    )


def test_modalities_are_named_and_written_as_json():
    done = run("my_taps_model:both", "--inputs", "audio=sound", "--inputs", "visual=film", "--json", "-")
    document = json.loads(done.stdout)
    assert document["schema"] == "concordant.taps/1"
    best = document["candidates"][0]
    assert best["points"]["visual"] == {
        "tap": "v",
        "layout": "bdt",
        "shape": [4, 4, 7],
        "meets": "cat in forward",
        "normalised": False,
        "whole": True,
        "raw": False,
    }
    assert best["line"].startswith("attach(model, {'audio': 'a', 'visual': 'v'}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("my_taps_model",), "FACTORY must be package.module:name; found 'my_taps_model'"),
        (("my_taps_model:none",), "FACTORY 'my_taps_model:none' cannot be imported"),
        (("math:sqrt",), r"FACTORY 'math:sqrt' raised TypeError \(.*takes exactly one argument"),
        (("my_taps_model:Model",), "returns a model without an example; name one batch of inputs by --example"),
        (("my_taps_model:batch",), r"must return a model, or \(model, example\); found tuple"),
        (("my_taps_model:both", "--inputs", "audio"), "--inputs must be modality=argument,argument; found 'audio'"),
    ],
)
def test_wrong_use_is_one_sentence(words, message):
    with pytest.raises(UsageError, match=message):
        run(*words)
