"""What docs/deploy.md prints can be run, and its tables name what there is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("datasets")
pytest.importorskip("huggingface_hub")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

import pyarrow.parquet as pq  # noqa: E402

from concordant.benchmarks import small  # noqa: E402
from concordant.fusion import FUSIONS  # noqa: E402
from concordant.training.runs import open_runs  # noqa: E402

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("#")[0].strip() for line in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)[0].splitlines()]
NAMES = ("left", "right", "profile")


@pytest.fixture(scope="module")
def folder(digits_run, shell, tmp_path_factory):
    """Where the commands of the page have run, with RUN a run on digits and DIR a dataset of other digits."""
    where = tmp_path_factory.mktemp("deploy")
    everything = small.load_digits(None).take(np.arange(40))
    names = np.array(list("0123456789"))
    np.savez(where / "some.npz", label=everything.labels, classes=names, group=np.arange(40), **everything.inputs)
    lines = ["concordant data from-numpy some.npz --out DIR", *COMMANDS]
    for line in lines:
        done = shell(re.sub(r"\bRUN\b", str(digits_run), line), where)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    return where


@pytest.fixture(scope="module")
def test_part(digits_run):
    """The unscaled test part of the run's first seed."""
    runs = open_runs(digits_run)
    return small.split_digits(small.load_digits(None), 0, runs.config.protocol).test


def test_there_is_a_command_for_each_way():
    assert [command.split()[:2] for command in COMMANDS] == [
        ["concordant", "predict"],
        ["concordant", "share"],
        ["concordant", "export"],
    ]


def test_predictions_have_the_columns_of_the_text(folder):
    table = pq.read_table(folder / "predictions.parquet")
    listed = re.search(r"by the suffix of `--out`: (.*?)\(", TEXT, re.DOTALL)[1]
    columns = [*re.findall(r"`(\w+)`", listed), *(f"reliability_{name}" for name in NAMES)]
    assert table.column_names == columns
    assert table.num_rows == 40


def test_a_shared_folder_has_the_files_of_the_text_and_the_snippet_runs(folder, test_part, monkeypatch):
    assert {path.name for path in (folder / "FOLDER").iterdir()} == {"model.safetensors", "config.json", "README.md"}
    pushed = []
    monkeypatch.setattr(
        "concordant.deploy.pretrained.PretrainedModel.push_to_hub", lambda self, name: pushed.append((self, name))
    )
    monkeypatch.chdir(folder)
    given = {name: torch.from_numpy(test_part.inputs[name][:8]) for name in NAMES}
    names = {"inputs": given, "masks": {}, "present": {"left": torch.tensor([False] + 7 * [True])}}
    code, _ = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)  # the other is of test_sharing.py
    exec(compile(code, "deploy.md", "exec"), names)  # noqa: S102
    assert names["out"].logits.shape == (8, 10)
    assert names["out"].calibration.reliability.shape == (8, 3)
    assert (names["out"].calibration.reliability[:, 0] == 0).tolist() == [True] + 7 * [False]
    assert pushed == [(names["model"], "me/my-model")]


def test_the_exported_file_takes_and_gives_what_the_text_says(folder, test_part):
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} == {
        f"{kind}_{name}" for kind in ("inputs", "present") for name in NAMES
    }  # no sequence among them, so no masks
    assert [one.name for one in session.get_outputs()] == ["logits", "reliability"]
    for count in (1, 5):  # batches are of any size
        given = {f"inputs_{name}": test_part.inputs[name][:count] for name in NAMES}
        given |= {f"present_{name}": np.ones(count, bool) for name in NAMES}
        logits, reliability = session.run(None, given)
        assert logits.shape == (count, 10)
        assert reliability.shape == (count, 3)
    broken = {**given, "inputs_left": np.full_like(given["inputs_left"], np.nan)}
    assert (session.run(None, broken)[1][:, 0] == 0).all()  # what is not finite is absent
    (about,) = [one.value for one in onnx.load(folder / "model.onnx").metadata_props if one.key == "concordant"]
    assert json.loads(about)["label"] == "context"


def test_the_table_names_every_fusion_once():
    rows = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([\w-]+)`", row)]
    assert sorted(listed) == sorted(FUSIONS)


def test_the_benchmark_that_is_named_says_how_it_is_used():
    (module,) = re.findall(r"`python -m (benchmarks\.\w+)`", TEXT)
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--repetitions" in done.stdout
