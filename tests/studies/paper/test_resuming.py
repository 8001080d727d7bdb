"""A proof that is not whole: it says what is missing, and goes on from what is committed."""

import importlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from concordant.errors import ConcordantError, DataError
from concordant.files import read_json
from studies.paper import making
from studies.paper.blocks import blocks
from studies.paper.grid import Family
from studies.paper.making import Places, make_proof, write_tables
from studies.paper.verdict import made_line, standing

ROOT = Path(__file__).parents[3]
MISSING = "1 of 2 cells so far; not run yet: digits (lmf)."


@pytest.fixture
def kept(made, tmp_path):
    """Return a fresh clone: what is committed, and no runs."""
    shutil.copytree(made.results, tmp_path / "results")
    return Places(tmp_path / "runs", tmp_path / "results")


@pytest.fixture
def larger(made):
    """Return the grid with one cell more."""
    family = replace(made.grid.families[0], fusions=("lf-dnn", "lmf"))
    return replace(made.grid, families=(family,))


def test_a_fresh_clone_trains_nothing_and_writes_the_same(made, kept, monkeypatch):
    for name in ("train_all", "stress_all", "time_cell", "search"):
        monkeypatch.setattr(making, name, None)  # not even called
    assert make_proof(made.grid, kept, command="here") == made.summary
    assert not kept.out.exists()
    for path in made.results.rglob("*.*"):
        if path.suffix in (".md", ".csv", ".json"):
            assert (kept.results / path.relative_to(made.results)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("changed", [{"resamples": 201}, {"severities": (1,)}, {"ablations": ("context-no-support",)}])
def test_a_changed_question_is_asked_anew(made, kept, changed, monkeypatch):
    asked = []

    def refused(experiments, **_):
        asked.extend(one.name for one in experiments)
        raise ConcordantError("not here")

    monkeypatch.setattr(making, "train_all", refused)
    with pytest.raises(
        ConcordantError, match="1 of 1 cells failed, the tables are of the others: digits/lf-dnn: not here"
    ):
        make_proof(replace(made.grid, **changed), kept)
    assert asked == ["digits/lf-dnn", "digits/lf-dnn ablations"]


def test_a_part_says_everywhere_that_it_is_one(made, kept, larger):
    summary = make_proof(larger, kept, stop_after=0, command="here")
    made_with = summary.made_with
    assert standing(made_with) == MISSING
    assert (made_with["finished"], made_with["planned"], made_with["missing"]) == (1, 2, ["digits/lmf"])
    assert read_json(kept.results / "summary.json")["made_with"] == made_with
    pages = [kept.results / "PROOF.md", *(kept.results / "proof").glob("*.md")]
    assert len(pages) == 11
    assert all(f"**{MISSING}**" in page.read_text() for page in pages)
    assert all(block.count(MISSING) == 1 for block in blocks(kept.results).values())
    assert not kept.out.exists()
    assert all("so far" not in block for block in blocks(made.results).values())


def test_tables_come_of_the_files_alone(made, kept, larger):
    assert write_tables(made.grid, kept, "here") == made.summary
    assert standing(write_tables(larger, kept).made_with) == MISSING
    shutil.rmtree(kept.kept_cells)
    with pytest.raises(
        DataError, match="has no cell that is what the grid asks for now; without --tables they are run"
    ):
        write_tables(made.grid, kept)


def test_the_time_is_up_after_the_run_that_has_begun(made, tmp_path, monkeypatch):
    seen, now = [], [0.0]
    monkeypatch.setattr(making.time, "monotonic", lambda: now[0])

    def progress(done, total, line):
        seen.append(line)
        now[0] += 60.0

    found = make_proof(
        made.grid, Places(tmp_path / "runs", tmp_path / "results"), stop_after=3, jobs=1, progress=progress
    )
    assert found is None  # no cell is finished
    assert len(seen) == 3
    assert len(list(tmp_path.rglob("candidate.json"))) == 3
    assert not (tmp_path / "results").exists()


def test_what_cannot_be_run_leaves_the_others_alone(made, kept):
    other = Family("none", "scene15", ("lf-dnn",), "lf-dnn", 2)
    grid = replace(made.grid, families=(other, *made.grid.families), budget=0)
    with pytest.raises(
        ConcordantError, match=r"1 of 2 cells failed, the tables are of the others: none/lf-dnn: .*nowhere"
    ):
        make_proof(grid, kept, data=kept.results / "nowhere", jobs=1)
    assert read_json(kept.results / "summary.json")["made_with"]["missing"] == ["none/lf-dnn"]


def test_families_choose_what_is_run_and_not_what_is_shown(made, kept, larger):
    written = []
    summary = make_proof(larger, kept, families=["another"], command="here", after=lambda: written.append(1))
    assert standing(summary.made_with) == MISSING
    assert written == [1]


def test_cells_of_several_machines_are_told_apart(made):
    (here,) = made.summary.made_with["made"]
    there = {**here, "hardware": {**here["hardware"], "cores": 99}, "cells": ["a", "b"]}
    line = made_line({**made.summary.made_with, "made": [here, {**here, "commit": "def"}, there]})
    assert line.count("Versions:") == 2
    assert "2 cells: Versions" in line
    assert "cores: 99" in line
    assert made_line(made.summary.made_with).count("cell") == 0


@pytest.fixture
def script():
    return importlib.import_module("studies.paper.__main__")


def run(script, monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["studies.paper", *map(str, words)])
    return script.main()


def test_the_command_stops_and_makes_tables(made, kept, script, monkeypatch, capsys):
    monkeypatch.setattr(script, "FULL", made.grid)
    monkeypatch.setattr(script, "SEARCH", kept.results / "search")
    common = ("--out", kept.out, "--results", kept.results)
    assert run(script, monkeypatch, *common, "--tables") == 0
    assert run(script, monkeypatch, *common, "--stop-after", 0, "digits") == 0
    shutil.rmtree(kept.kept_cells)
    capsys.readouterr()
    assert run(script, monkeypatch, *common, "--stop-after", 0) == 0
    assert capsys.readouterr().out == "0 of 1 cells so far; there is nothing to write yet\n"
    with pytest.raises(DataError, match="has no cell"):
        run(script, monkeypatch, *common, "--tables")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["neither", "nor"], "unknown family 'neither', 'nor'; choose from: scene15, cmu-mosi-folds"),
        (["--stop-after", "-1"], "--stop-after must be 0 minutes or more; found -1.0"),
        (["--quick", "--wide"], "not allowed with argument --quick"),
    ],
)
def test_what_the_command_does_not_understand_is_said(script, monkeypatch, capsys, words, said):
    with pytest.raises(SystemExit):
        run(script, monkeypatch, *words)
    assert said in capsys.readouterr().err
