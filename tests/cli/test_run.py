"""The options of `concordant run` that say where a run is trained; experiment/test_ranked starts two processes."""

import pytest
from typer.testing import CliRunner

from concordant.cli.main import app
from concordant.cli.run import training_bar
from concordant.errors import UsageError
from concordant.files import read_json


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--devices", "0"), "devices must be 1 or more; found 0"),
        (("--strategy", "dp"), "unknown strategy 'dp'; choose from: auto, ddp, fsdp"),
        (("--across", "all"), "unknown across 'all'; choose from: gather, local"),
        (("--accelerator", "cpu", "--precision", "16-mixed"), "--precision 16-mixed needs CUDA"),
        (("--devices", "2", "--accelerator", "cpu", "--jobs", "2"), "leave --jobs out"),
        (("--devices", "2", "--accelerator", "cpu", "--dynamics"), "leave --devices and --accumulate out"),
        (("--checkpoint-every", "0"), "checkpoint_every must be 1 or more"),
        (("--epochs", "2"), "steps and epochs are two lengths of one training; name one of them"),
        (
            ("--batch-size", "1", "--dropout", "1"),
            "batch: input should be greater than or equal to 2; found 1; recipe.dropout: input should be less than 1",
        ),
    ],
)
def test_wrong_use_is_one_sentence_and_takes_no_folder(tmp_path, monkeypatch, options, text):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["run", "digits", "--steps", "4", "--no-alone", *options])
    assert isinstance(done.exception, UsageError)
    assert text in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_parts_and_precision_belong_to_the_folder(tmp_path):
    words = ["run", "digits", "--calibrators=none", "--seeds=1", "--steps=4", "--jobs=1", "--no-alone", "--out"]
    parts = ["--accumulate", "2", "--accelerator", "cpu"]
    assert CliRunner().invoke(app, [*words, str(tmp_path / "r"), *parts]).exit_code == 0
    done = CliRunner().invoke(app, [*words, str(tmp_path / "r")])
    assert "belongs to another configuration (numerics: there {'accumulate': 2}, here None)" in str(done.exception)


def test_the_recipe_is_recorded_and_none_is_one_twin(tmp_path):
    words = "run digits --calibrators none --seeds 1 --jobs 1 --epochs 1 --batch-size 256 --learning-rate 0.01"
    words += " --weight-decay 0 --dropout 0.2 --width 16 --patience 3"
    assert CliRunner().invoke(app, [*words.split(), "--out", str(tmp_path)]).exit_code == 0
    recipe = read_json(tmp_path / "config.json")["recipe"]
    wanted = {"epochs": 1, "batch": 256, "learning_rate": 0.01, "weight_decay": 0, "dropout": 0.2, "width": 16}
    assert recipe == {**wanted, "evaluations": 10, "patience": 3}
    (run,) = read_json(tmp_path / "results.json")["runs"]
    assert (run["calibrator"], run["perturbed_training"]) == ("none", False)
    history = read_json(tmp_path / "runs" / "none" / "seed-0" / "history.json")["evaluations"]
    assert len(history) == history[-1]["step"] < 10


def test_only_the_first_process_of_several_shows_a_bar(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with training_bar() as shown:
        assert shown == {}
