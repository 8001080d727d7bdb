"""The command line as a user sees it: what goes where, which exit status, one sentence for each wrong use."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from concordant import __version__
from concordant.cli.listing import list_command
from concordant.cli.main import app
from concordant.errors import UsageError
from concordant.rivals import CALIBRATORS
from tests import commands

pytestmark = pytest.mark.process

SOURCE = Path(__file__).parents[2] / "src"
SHORT = ("--calibrators", "none,context", "--seeds", "1", "--steps", "10")


def concordant(*words, cwd, **environment):
    return commands.concordant(*words, cwd=cwd, env=environment)


def refused(done, status):
    """Check that a command said one sentence on standard error and nothing else; return the sentence."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("concordant: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    return folder, concordant("run", "digits", *SHORT, "--json", "-", cwd=folder)


def test_json_has_standard_output_to_itself(run):
    folder, done = run
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["schema"] == "concordant.results/1"
    assert json.loads((folder / "runs" / "digits-concat" / "results.json").read_text()) == results
    assert "digits · concat · accuracy %" in done.stderr
    assert "\x1b" not in done.stderr  # no bar and no colours in a pipe


def test_the_same_command_goes_on_and_prints_the_tables(run):
    folder, _ = run
    done = concordant("run", "digits", *SHORT, "--json", "again.json", cwd=folder)
    assert done.returncode == 0
    assert done.stderr == ""
    for text in ("none, clean", "none, perturbed", "Concordant minus each", "which modality"):
        assert text in done.stdout
    assert json.loads((folder / "again.json").read_text())["runs"]


def test_a_folder_of_another_configuration_is_left_alone(run):
    folder, _ = run
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    done = concordant("run", "digits", "--seeds", "4", cwd=folder)
    assert "belongs to another configuration" in refused(done, 2)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("run", "digitz"), "unknown benchmark 'digitz'; choose from: digits, scene15, handwritten"),
        (("run", "digits", "--fusion", "glue"), "unknown fusion 'glue'; choose from: lf-dnn, ef-lstm"),
        (("run", "digits", "--calibrators", "none,magic"), "unknown calibrator 'magic'; choose from: none, self"),
        (("run", "digits", "--seeds", "0"), "seeds: input should be greater than or equal to 1; found 0"),
        (("run", "digits", "--modalities", "left,ear"), "unknown modality of digits 'ear'; choose from: left, right"),
        (("run", "digits", "--protocol", "x"), "unknown protocol of digits 'x'; choose from: random"),
        (("run", "digits", "--jobs", "0"), "jobs must be 1 or more"),
        (("run", "digits", "--steps", "-3"), "recipe.steps: input should be greater than or equal to 1; found -3"),
        (("run", "digits", "--seeds", "1_0"), "--seeds must be a whole number such as 3; found '1_0'"),
        (("inspect", "r", "--seed", "1_0"), "--seed must be a whole number such as 3; found '1_0'"),
        (("data", "prepare", "ave", "--source", "x", "--fps", " 1"), "--fps must be a number such as 0.01 or 1e-2"),
        (
            ("run", "digits", "--learning-rate", "\u0663"),
            "--learning-rate must be a number such as 0.01 or 1e-2; found",
        ),
        (("list", "fusion"), "unknown kind 'fusion'; choose from: benchmarks, fusions, calibrators"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(tmp_path, arguments, text):
    assert text in refused(concordant(*arguments, cwd=tmp_path), 2)
    assert list(tmp_path.iterdir()) == []


@given(text=st.from_regex(r"[ +-]?[0-9\u0663_]{1,3}([.][0-9_]{0,2})?(e-?[0-9]{1,2})?[ ]?", fullmatch=True))
@settings(max_examples=100, deadline=None)
def test_numbers_of_options_are_plain_numerals(text):
    from concordant.cli.analyses import inspect_command
    from concordant.cli.run import run_command

    for kind, command, name in ((int, inspect_command, "seed"), (float, run_command, "learning_rate")):
        parse = get_type_hints(command, include_extras=True)[name].__metadata__[0].parser
        if re.fullmatch(r"[+-]?(0|[1-9][0-9]*)" if kind is int else r"[+-]?[0-9]+([.][0-9]*)?(e-?[0-9]+)?", text):
            assert parse(text) == kind(text)
        else:
            with pytest.raises(UsageError, match="number such as"):
                parse(text)
    assert parse(0.5) == 0.5  # a default


def test_a_missing_data_folder_says_which_file_is_expected(tmp_path):
    text = refused(concordant("run", "scene15", "--data", "nowhere", cwd=tmp_path), 1)
    assert "the data folder nowhere is not there (named by --data); name the folder that holds scene15.npz" in text
    text = refused(concordant("run", "utd-mhad", cwd=tmp_path), 1)
    assert "utd_mhad.npz with --data or CONCORDANT_DATA" in text


def test_faults_of_a_data_file_are_one_sentence_and_leave_no_folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = 40
    arrays = {f"view{i}": np.ones((rows, size), np.float32) for i, size in enumerate((20, 59, 40))}
    arrays["label"] = np.arange(rows) % 15
    spoilt = {
        "label must be class indices 0 to 14; found 0 to 99": {"label": np.where(np.arange(rows) == 3, 99, 0)},
        "view1 must be finite; found NaN or infinity in 40 rows": {"view1": np.full((rows, 59), np.nan, np.float32)},
        "view2 must have shape (images, 40)": {"view2": np.ones((rows, 41), np.float32)},
    }
    for text, change in spoilt.items():
        np.savez(data / "scene15.npz", **{**arrays, **change})
        assert text in refused(concordant("run", "scene15", CONCORDANT_DATA=str(data), cwd=tmp_path), 1)
    whole = (data / "scene15.npz").read_bytes()
    (data / "scene15.npz").write_bytes(whole[: len(whole) // 2])
    text = refused(concordant("run", "scene15", CONCORDANT_DATA=str(data), cwd=tmp_path), 1)
    assert "cannot be read as a NumPy archive" in text
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_list_shows_a_line_each(tmp_path):
    done = concordant("list", "calibrators", cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["name", "setting", "modalities", "parameters", "small", "preset", "paper", "summary"]
    assert [line.split()[0] for line in lines[1:]] == list(CALIBRATORS)
    assert "Joze et al., CVPR 2020" in done.stdout


def test_list_as_json_is_an_array_of_objects(tmp_path):
    everything = json.loads(concordant("list", "--json", "-", cwd=tmp_path).stdout)
    assert {entry["kind"] for entry in everything} == {"benchmark", "fusion", "calibrator", "method", "corruption"}
    assert all({"name", "setting", "summary"} <= set(entry) for entry in everything)
    fusions = json.loads(concordant("list", "fusions", "--json", "-", cwd=tmp_path).stdout)
    assert {entry["setting"] for entry in fusions} == {"vector", "sequence", "convolutional"}


def test_an_unwritable_json_path_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    assert "--json: cannot write to file/x.json" in concordant("list", "--json", "file/x.json", cwd=tmp_path).stderr


def test_several_fusions_make_a_grid_with_one_table(tmp_path):
    options = ("--calibrators", "none,context", "--seeds", "1", "--steps", "4", "--json", "grid.json")
    done = concordant(
        "run", "digits", "--fusion", "concat@pooled,lf-lstm", "--method", "ogm-ge", *options, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith((" concat", " lf-lstm"))]
    assert rows == [["concat", "pooled"], ["lf-lstm", "features"]]
    for text in ("best alone", "+ it is significantly better", "2 rows in runs/digits-grid-ogm-ge", "· ogm-ge ·"):
        assert text in done.stdout
    grid = json.loads((tmp_path / "grid.json").read_text())
    assert grid["schema"] == "concordant.grid/1"
    assert json.loads((tmp_path / "runs" / "digits-grid-ogm-ge" / "grid.json").read_text()) == grid


def test_faults_of_a_grid_are_one_sentence(tmp_path):
    done = concordant("run", "digits", "--fusion", "concat@here,glue", cwd=tmp_path)
    text = refused(done, 2)
    assert "concat can be calibrated at maps or pooled; found 'here'" in text
    assert "unknown fusion 'glue'" in text
    assert not (tmp_path / "runs").exists()


def test_calibrators_that_decide_need_a_late_fusion(tmp_path):
    done = concordant("run", "digits", "--fusion", "film", "--calibrators", "none,evidential", cwd=tmp_path)
    assert "evidential decides for each modality alone and needs a late fusion, one of lf-dnn" in refused(done, 2)


def test_data_may_be_a_url(tmp_path):
    (tmp_path / "data").mkdir()
    draws = np.random.default_rng(0)
    arrays = {f"view{i}": draws.standard_normal((300, size), np.float32) for i, size in enumerate((20, 59, 40))}
    np.savez(tmp_path / "data" / "scene15.npz", label=np.arange(300) % 15, **arrays)
    options = ("--calibrators", "none", "--seeds", "1", "--steps", "2", "--jobs", "1", "--data")
    done = concordant(
        "run", "scene15", *options, (tmp_path / "data").as_uri(), cwd=tmp_path, CONCORDANT_CACHE=str(tmp_path / "cache")
    )
    assert done.returncode == 0, done.stderr
    (copy,) = (tmp_path / "cache").rglob("scene15.npz")
    assert copy.read_bytes() == (tmp_path / "data" / "scene15.npz").read_bytes()
    assert len(json.loads((tmp_path / "runs" / "scene15-lf-dnn" / "config.json").read_text())["files"]) == 1


def test_commands_that_compute_nothing_start_without_pytorch(tmp_path):
    """Start-up is bound by imports: --help and list stay quick as long as neither PyTorch nor a model is loaded."""
    code = (
        "import sys; from typer.testing import CliRunner; from concordant.cli.main import app; "
        "outputs = [CliRunner().invoke(app, words).output for words in (['--help'], ['list'], ['list', 'fusions'])]; "
        "print(all(outputs), *{'torch', 'numpy', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True"]


def test_shell_completion_knows_the_names(tmp_path):
    words = {
        "_TYPER_COMPLETE_ARGS": "concordant run digits --calibrators none,con",
        "_CONCORDANT_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from concordant.cli.main import app; app(prog_name='concordant')"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCE), "COMP_WORDS": words["_TYPER_COMPLETE_ARGS"], "COMP_CWORD": "4", **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "none,context" in done.stdout.split()


def test_version_and_the_short_form_of_help(tmp_path):
    assert concordant("--version", cwd=tmp_path).stdout == f"concordant {__version__}\n"
    assert concordant("run", "-h", cwd=tmp_path).stdout == concordant("run", "--help", cwd=tmp_path).stdout


def test_every_command_has_an_example_that_its_options_accept():
    root = get_command(app)
    leaves = [*root.commands.values(), *root.commands["data"].commands.values()]
    for leaf in leaves:
        if leaf.name == "data":
            continue
        program, *words = shlex.split(leaf.epilog.removeprefix("Example: "))
        assert program == "concordant"
        command = root
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        assert command is leaf
        command.make_context(leaf.name, words)


def test_no_column_of_a_list_is_cut_off_in_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for width, lines in (("80", "  modalities    1 or more"), ("220", " 1 or more ")):
        monkeypatch.setenv("COLUMNS", width)
        list_command("calibrators")
        printed = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
        assert lines in printed
        assert "…" not in printed
        assert max(map(len, printed.splitlines())) <= int(width)
