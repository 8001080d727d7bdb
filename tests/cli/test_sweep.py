"""`concordant sweep` as a user meets it where nothing is trained: wrong use is one sentence, nothing is left."""

import json
import sys

import pytest

from concordant.cli.main import main
from concordant.sweep import ray_engine

GRID = "benchmarks: [digits]\ncalibrators: [none, context]\nseeds: 1\nrecipe: {steps: 4, width: 8}\n"


@pytest.fixture
def concordant(tmp_path, monkeypatch, capsys):
    """A function that gives a command here; returns exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["concordant", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        out, error = capsys.readouterr()
        return caught.value.code or 0, out, error

    return run


@pytest.mark.parametrize(
    ("words", "text", "status"),
    [
        (("sweep", "nowhere.yaml"), "the grid file nowhere.yaml cannot be read", 2),
        (("sweep", "grid.yaml", "--cpus", "0"), "--cpus must be 1 or more, the cores that are used; found 0", 2),
        (("sweep", "grid.yaml", "--cpus", "1", "--address", "x:1"), "--address names a cluster; leave one of them", 2),
        (("sweep", "grid.yaml", "--out", "grid.yaml"), "grid.yaml is a file; name a folder with --out", 2),
        (("sweep", "grid.yaml", "--out", "."), ". is not empty and holds no sweep; name another folder with --out", 2),
    ],
)
def test_wrong_use_is_one_sentence(concordant, tmp_path, words, text, status):
    before = sorted(tmp_path.rglob("*"))
    code, out, error = concordant(*words)
    assert (code, out) == (status, "")
    assert error.startswith("concordant: ")
    assert text in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_absent_data_are_said_before_anything_is_made(concordant, tmp_path):
    (tmp_path / "data.yaml").write_text("benchmarks: [scene15]\n")
    code, _, error = concordant("sweep", "data.yaml", "--data", (tmp_path / "nothing").as_uri())
    assert code == 1
    assert "scene15.npz is expected at file://" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.yaml", "grid.yaml"]


def test_without_ray_the_command_says_how_it_is_installed(concordant, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, error = concordant("sweep", "grid.yaml")
    assert code == 1
    assert error == "concordant: concordant sweep needs ray, which is not installed: pip install 'concordant[scale]'\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.yaml"]


def test_it_prints_tables_failures_and_json_each_where_they_belong(concordant, tmp_path, monkeypatch, here):
    name = "digits/sum: context, seed 0"
    monkeypatch.setattr(
        ray_engine, "RayEngine", lambda **_: here(outcomes={name: {"state": "failed", "error": "[it] diverged"}})
    )
    (tmp_path / "grid.yaml").write_text(GRID + "fusions: [concat, sum]\n")
    code, out, error = concordant("sweep", "grid.yaml", "--json", "-")
    assert code == 1
    found = json.loads(out)
    assert (found["schema"], found["state"], found["finished"]) == ("concordant.sweep/1", "failed", 5)
    assert "digits · concat · accuracy %" in error
    assert f"failed: {name}: [it] diverged" in error
    assert "5 of 6 runs in runs/grid" in error
    assert error.splitlines()[-1].startswith(
        f"concordant: 1 of 6 trials failed: {name}: [it] diverged; all are in runs/grid"
    )
    monkeypatch.setattr(ray_engine, "RayEngine", lambda **_: here())
    code, out, error = concordant("sweep", "grid.yaml")
    assert code == 0
    assert error == ""
    assert "6 of 6 runs in runs/grid" in out
    assert "Concordant against none, clean" in out  # of the grid
    assert (tmp_path / "runs" / "grid" / "report.html").is_file()


def test_what_a_search_chose_is_printed(concordant, tmp_path, monkeypatch, here):
    monkeypatch.setattr(ray_engine, "RayEngine", lambda **_: here())
    (tmp_path / "grid.yaml").write_text(GRID + "search: {budget: 1, space: {dropout: [0.25]}}\n")
    code, out, _ = concordant("sweep", "grid.yaml")
    assert code == 0
    for label in ("none", "none+perturbed", "context"):
        assert f"digits/concat: {label}: dropout 0.25 (validation 0." in out
