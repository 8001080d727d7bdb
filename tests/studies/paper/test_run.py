"""The files of a proof: complete, in agreement with each other, and made anew without training."""

import csv
import importlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from concordant.dynamics.recorder import DEFAULT_EVERY
from concordant.errors import ConcordantError, DataError
from concordant.files import read_json, write_json
from concordant.report.format import shown
from concordant.training.config import Variant, make_config
from concordant.training.runs import prepare_of
from concordant.training.train import train
from studies.paper import run as making
from studies.paper.grid import FULL, Cell, Experiment, Family, Grid, make_plan
from studies.paper.pages import PENDING, blocks, fill, fill_docs, read_table, score_lines
from studies.paper.run import TIMING as FILE
from studies.paper.run import Places, run_study, stepper, time_cell, train_all, write_tables
from studies.paper.sentences import leads, losses, made_line, standing, verdict, what_came
from studies.paper.summary import read_summary

ROOT = Path(__file__).parents[3]
QUESTIONS = {
    *("clean", "corruption", "corruption-kinds", "removal", "oracle"),
    *("detection", "stability", "ablation", "place", "cost"),
}


def test_every_question_has_its_files(made):
    folder = made.results / "proof"
    assert {path.stem for path in folder.glob("*.md")} == QUESTIONS
    assert {path.stem.removesuffix("-scores") for path in folder.glob("*.csv")} == QUESTIONS
    assert {path.name for path in folder.glob("*.png")} == {"leads.png", "shares.png", "detection.png"}
    with (folder / "clean.csv").open() as file:
        rows = list(csv.DictReader(file))
    needed = {"mean_of", "std_of", "difference", "low", "high", "p", "p_holm", "p_wilcoxon"}
    assert needed <= set(rows[0])
    page = (made.results / "PROOF.md").read_text()
    assert all(f"(proof/{name}.md)" in page for name in QUESTIONS)
    assert (made.out / "report.html").stat().st_size > 10_000


def test_the_summary_is_the_tables(made):
    values = json.loads((made.results / "summary.json").read_text())
    assert values["schema"] == "concordant.summary/1"
    assert read_summary(values) == made.summary
    assert values["made_with"]["command"] == "here"
    assert values["made_with"]["searched"] == {"digits": True}
    rows = read_table(made.results / "proof", "corruption").rows
    for one in values["cells"]:
        row = next(r for r in rows if r["to"] == one["against"] and r["condition"] == "corruption.mean")
        assert one["corrupted_mean"] == {
            "mean": row["mean_of"],
            "difference": row["difference"],
            "p_holm": row["p_holm"],
        }
    assert {one["against"] for one in values["cells"]} == {
        *("none", "none+perturbed", "self", "uncertainty", "after-fusion"),
    }


def test_a_summary_that_is_none_is_refused_with_all_its_faults(made):
    values = read_json(made.results / "summary.json")
    values["cells"][0]["clean"]["p_holm"] = 2
    values["cells"][1]["extra"] = 1
    with pytest.raises(DataError, match=r"this is no concordant.summary/1 document: .*p_holm.*; .*extra"):
        read_summary(values)


def test_the_same_command_trains_nothing_and_writes_the_same(made, tmp_path):
    seen = []
    again = run_study(
        made.grid,
        Places(made.out, tmp_path, made.results / "search", made.results / "proof" / "cells"),
        command="here",
        jobs=1,
        progress=lambda *state: seen.append(state),
    )
    assert again == made.summary
    assert seen == []
    for path in (made.results / "proof").glob("*.md"):
        assert (tmp_path / "proof" / path.name).read_text() == path.read_text()
    assert not list(tmp_path.glob("proof/cells/*"))


def test_a_quick_one_says_so_everywhere(made, tmp_path):
    values = read_json(made.results / "summary.json")
    values["made_with"]["quick"] = True
    (tmp_path / "proof").mkdir()
    for path in (made.results / "proof").glob("*.csv"):
        (tmp_path / "proof" / path.name).write_bytes(path.read_bytes())
    write_json(tmp_path / "summary.json", values)
    assert "**This is the quick version" in blocks(tmp_path)["headline"]
    assert "quick version" not in blocks(made.results)["headline"]


def test_blocks_are_filled_from_the_files(made, tmp_path):
    (tmp_path / "docs").mkdir()
    text = "Text.\n\n<!-- proof:ablation -->\nold\n<!-- /proof:ablation -->\n\nMore.\n"
    (tmp_path / "README.md").write_text("No block.\n")
    (tmp_path / "docs" / "method.md").write_text(text)
    assert fill_docs(tmp_path, made.results) == [tmp_path / "docs" / "method.md"]
    filled = (tmp_path / "docs" / "method.md").read_text()
    assert score_lines(read_table(made.results / "proof", "ablation")) in filled
    assert filled.startswith("Text.\n\n<!-- proof:ablation -->\n\n| family")
    assert filled.endswith("<!-- /proof:ablation -->\n\nMore.\n")
    assert fill(filled, blocks(made.results)) == filled
    assert (tmp_path / "README.md").read_text() == "No block.\n"


def test_a_block_that_there_is_not_is_refused(made):
    text = "<!-- proof:nothing -->\n<!-- /proof:nothing -->"
    with pytest.raises(DataError, match="the document asks for proof:nothing; there are: headline, losses"):
        fill(text, blocks(made.results))


def test_without_a_proof_blocks_say_that_there_is_none(tmp_path):
    assert set(blocks(tmp_path).values()) == {PENDING}


def test_the_verdict_counts_what_the_summary_holds(made):
    lines = verdict(made.summary)
    against = [one for one in made.summary.cells if one.against == "self"]
    points = 100 * against[0].corrupted_mean.difference
    assert any(
        line.startswith(
            f"three modalities or more, corrupted, against self: {points:+.1f} points in the mean over 1 cell"
        )
        for line in lines
    )
    behind = [
        score
        for one in made.summary.cells
        for score in (one.clean, one.corrupted_mean, one.removal_worst)
        if score.p_holm < 0.05 and score.difference < 0
    ]
    assert losses(made.summary).count("against") == len(behind)


def test_the_table_of_leads_has_the_numbers_of_the_sentences(made):
    head, rows = leads(made.summary)
    assert head == ["points ahead of", "clean", "corrupted, three modalities or more"]
    assert [row[0] for row in rows] == [shown(cell.against) for cell in made.summary.cells]
    for row, cell in zip(rows, made.summary.cells, strict=True):
        for text, score in zip(row[1:], (cell.clean, cell.corrupted_mean), strict=True):
            sure = score.p_holm < 0.05
            ahead, behind = int(sure and score.difference > 0), int(sure and score.difference < 0)
            counts = f"(above in {int(score.difference > 0)} of 1; {ahead} ahead, {behind} behind)"
            assert text == f"{100 * score.difference:+.1f} {counts}"
    assert rows[0][1] in what_came(made.summary)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_the_numbers_in_documents_are_those_of_the_results(path):
    text = path.read_text(encoding="utf-8")
    assert fill(text, blocks(ROOT / "results")) == text


@pytest.mark.parametrize(("words", "options"), [(["QUICK=1"], " --quick"), ([], "")], ids=["quick", "full"])
def test_make_results_is_the_proof(words, options):
    command = ["make", "--no-print-directory", "-n", "results", *words]  # which make under make would add
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith(f"studies.paper{options}")


@pytest.mark.data
def test_a_cell_on_real_data(data_folder, tmp_path):
    family = replace(FULL.families[0], fusions=("lf-dnn",), seeds=2, recipe={"steps": 60, "width": 16})
    grid = Grid((family,), ("none", "context"), (), severities=(5,), budget=0, resamples=300)
    summary = run_study(grid, Places(tmp_path / "runs", tmp_path / "results"), data=data_folder, jobs=1)
    assert [cell.against for cell in summary.cells] == ["none", "none+perturbed"]
    assert summary.cells[0].benchmark == "scene15"
    assert summary.cells[0].clean.mean > 0.4  # of fifteen classes
    assert summary.made_with["searched"] == {"scene15": False}
    assert set(summary.cells[0].detection_auroc) == {
        *("gaussian-noise", "impulse", "dimension-dropout", "dimension-replacement", "scale-drift", "clipping"),
        *("quantisation", "swap", "same-class-swap", "stale"),
    }


def test_times_are_measured_once_in_turn(made, tmp_path):
    config = make_config("digits", fusion="lf-dnn", calibrators=("none", "context"), recipe={"width": 8})
    experiment = Experiment(Cell(made.grid.families[0], "lf-dnn", first=True), config, tmp_path)
    threads = torch.get_num_threads()
    found = time_cell(experiment, turns=3)
    assert set(found["methods"]) == {"none", "none+perturbed", "context"}
    assert found["methods"]["none+perturbed"]["relative"] == 1
    assert all(one["median_ms"] > 0 for one in found["methods"].values())
    assert read_json(tmp_path / FILE) == found
    assert time_cell(experiment, turns=3) == found
    assert torch.get_num_threads() == threads


def test_a_timed_step_is_a_step_of_training():
    recipe = {"width": 8, "steps": 1, "dropout": 0.0}
    config = make_config("digits", fusion="lf-dnn", calibrators=("context",), recipe=recipe)
    task, variant = prepare_of(config, None, seed=0), Variant("context", True)
    loss = stepper(task, config, variant)()
    assert float(loss) == pytest.approx(train(task, config, variant, 0).history[0]["loss"])


GRID = Grid(
    (Family("a", "digits", ("lf-dnn", "lmf"), "lf-dnn", 1), Family("b", "digits", ("tfn",), "tfn", 1, ablated=False)),
    ("none", "context"),
    ("context-no-support",),
)


def test_the_first_cell_of_every_family_is_observed_and_nothing_else(tmp_path):
    plan = make_plan(GRID, tmp_path, {})
    assert [one.name for one in plan if one.observed] == ["a/lf-dnn", "b/tfn"]
    assert [one.name for one in plan if not one.observed] == ["a/lf-dnn ablations", "a/lmf"]


def test_everything_is_trained_once_and_what_is_observed_records_its_steps(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(making, "study_all", lambda studies, **asked: calls.append((studies, asked)))
    plan = make_plan(GRID, tmp_path, {})
    train_all(plan, jobs=3, data="here")
    assert [(list(studies), asked["dynamics"]) for studies, asked in calls] == [
        (["a/lf-dnn", "b/tfn"], DEFAULT_EVERY),
        (["a/lf-dnn ablations", "a/lmf"], None),
    ]
    known = {one.name: (one.config, one.folder) for one in plan}
    assert {name: study for studies, _ in calls for name, study in studies.items()} == known
    assert all((asked["jobs"], asked["data"]) == (3, "here") for _, asked in calls)
    calls.clear()
    train_all([one for one in plan if one.ablations])
    assert [(list(studies), asked["dynamics"]) for studies, asked in calls] == [(["a/lf-dnn ablations"], None)]


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
    assert run_study(made.grid, kept, command="here") == made.summary
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
        run_study(replace(made.grid, **changed), kept)
    assert asked == ["digits/lf-dnn", "digits/lf-dnn ablations"]


def test_a_part_says_everywhere_that_it_is_one(made, kept, larger):
    summary = run_study(larger, kept, stop_after=0, command="here")
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

    found = run_study(
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
        run_study(grid, kept, data=kept.results / "nowhere", jobs=1)
    assert read_json(kept.results / "summary.json")["made_with"]["missing"] == ["none/lf-dnn"]


def test_families_choose_what_is_run_and_not_what_is_shown(made, kept, larger):
    written = []
    summary = run_study(larger, kept, families=["another"], command="here", after=lambda: written.append(1))
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
