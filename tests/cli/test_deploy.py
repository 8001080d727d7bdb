"""The commands export, share and predict as a user sees them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from concordant.cli.deploy import export_command, predict_command, share_command
from concordant.errors import UsageError

app = typer.Typer()
app.command("export")(export_command)
app.command("share")(share_command)
app.command("predict")(predict_command)


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_export_prints_the_inputs_and_how_well_the_file_agrees(digits_run, tmp_path):
    path = tmp_path / "model.pt2"
    done = run("export", digits_run, "--format", "torch-export", "--out", path, "--json", tmp_path / "told.json")
    assert done.exit_code == 0
    assert "inputs_left: float32 (batch, 1, 8, 4)" in done.output
    assert "context before concat, seed 0" in done.output
    assert "from PyTorch on 64 test samples" in done.output
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["schema"] == "concordant.export/1"
    assert told["bytes"] == path.stat().st_size


def test_share_then_predict_by_the_shared_folder(digits_run, tmp_path):
    pytest.importorskip("huggingface_hub")
    done = run("share", digits_run, "--out", tmp_path / "model", "--calibrator", "self", "--seed", 1)
    assert done.exit_code == 0
    assert "README.md, config.json, model.safetensors; self, seed 1" in done.output
    done = run("predict", tmp_path / "model", "--out", tmp_path / "said.csv", "--json", "-")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["instances"] == 360
    assert set(told["reliability"]) == {"left", "right", "profile"}
    assert len((tmp_path / "said.csv").read_text().splitlines()) == 361


def test_predict_says_how_many_were_right_and_the_mean_reliabilities(digits_run, tmp_path):
    done = run("predict", digits_run, "--out", tmp_path / "said.parquet")
    assert done.exit_code == 0
    assert "360 instances by context, seed 0, " in done.output
    assert "% right; mean reliability: left " in done.output
    done = run("predict", digits_run, "--out", tmp_path / "twin.parquet", "--calibrator", "none")
    assert "mean reliability" not in done.output


def test_wrong_use_is_an_error_in_a_sentence(digits_run, tmp_path):
    with pytest.raises(UsageError, match=r"^--format must be one of onnx, torch-export; found 'caffe'$"):
        run("export", digits_run, "--format", "caffe")
    with pytest.raises(UsageError, match=r"^--out must end in .parquet or .csv"):
        run("predict", digits_run, "--out", tmp_path / "said.xls")
