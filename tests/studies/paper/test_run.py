"""The files of a study: complete, in agreement with each other, and made anew without training."""

import csv
import importlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer

from concordant.dynamics.recorder import DEFAULT_EVERY
from concordant.errors import ConcordantError, DataError
from concordant.files import read_json
from concordant.study.experiment import Execution
from concordant.training.config import Variant, make_config
from concordant.training.runs import prepare_of
from concordant.training.train import train
from studies.common import fill
from studies.paper import run as running
from studies.paper.findings import standing
from studies.paper.grid import FULL, Cell, Experiment, Family, Grid
from studies.paper.pages import PENDING, blocks, fill_docs, score_lines
from studies.paper.run import TIMING, stepper, time_cell, train_all

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


def test_the_summary_is_the_tables(made):
    values = json.loads((made.results / "summary.json").read_text())
    assert values["schema"] == "concordant.summary/1"
    assert values["made_with"] == made.findings.made
    assert values["made_with"]["command"] == "here"
    assert values["made_with"]["searched"] == {"digits/lf-dnn": True}
    rows = made.findings.tables["corruption"].rows
    for one in values["cells"]:
        row = next(r for r in rows if r["to"] == one["against"] and r["condition"] == "corruption.mean")
        assert one["corrupted_mean"] == {
            "mean": row["mean_of"],
            "difference": row["difference"],
            "p_holm": row["p_holm"],
        }
    assert {one["against"] for one in values["cells"]} == {"none", "none+perturbed", "self", "after-fusion"}


def test_the_same_command_trains_nothing_and_writes_the_same(made, tmp_path):
    seen = []
    how = Execution(jobs=1, progress=lambda *state: seen.append(state))
    assert replace(made.study, results=tmp_path, how=how).run() == made.findings
    assert seen == []
    for path in (made.results / "proof").glob("*.md"):
        assert (tmp_path / "proof" / path.name).read_text() == path.read_text()
    assert not list(tmp_path.glob("proof/cells/*"))


def test_the_quick_version_is_named_as_such(made):
    quick = made.findings._replace(made={**made.findings.made, "quick": True})
    assert "**This is the quick version" in blocks(quick)["headline"]
    assert "quick version" not in blocks(made.findings)["headline"]


def test_blocks_are_filled_from_the_findings(made, tmp_path):
    (tmp_path / "docs").mkdir()
    text = "Text.\n\n<!-- proof:ablation -->\nold\n<!-- /proof:ablation -->\n\nMore.\n"
    (tmp_path / "README.md").write_text("No block.\n")
    (tmp_path / "docs" / "method.md").write_text(text)
    assert fill_docs(tmp_path, made.findings) == [tmp_path / "docs" / "method.md"]
    filled = (tmp_path / "docs" / "method.md").read_text()
    assert score_lines(made.findings.tables["ablation"]) in filled
    assert filled.startswith("Text.\n\n<!-- proof:ablation -->\n\n| family")
    assert filled.endswith("<!-- /proof:ablation -->\n\nMore.\n")
    assert fill(filled, blocks(made.findings), "proof") == filled
    assert (tmp_path / "README.md").read_text() == "No block.\n"


def test_a_block_that_there_is_not_is_refused(made):
    text = "<!-- proof:nothing -->\n<!-- /proof:nothing -->"
    with pytest.raises(
        DataError, match="the document has the unknown proof:nothing; there are: leads, headline, losses"
    ):
        fill(text, blocks(made.findings), "proof")


def test_without_findings_blocks_say_that_there_are_none():
    assert set(blocks(None).values()) == {PENDING}


def test_the_numbers_in_documents_are_those_of_the_results(known):
    filled = blocks(known)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        assert fill(text, filled, "proof") == text, path


@pytest.mark.parametrize(("words", "options"), [(["QUICK=1"], " --quick"), ([], "")], ids=["quick", "full"])
def test_make_results_is_the_proof(words, options):
    command = ["make", "--no-print-directory", "-n", "results", *words]  # which make under make would add
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith(f"studies.paper{options}")


@pytest.mark.data
def test_a_cell_on_real_data(study, data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "TURNS", 1)
    family = replace(
        FULL.families[0], fusions=("lf-dnn",), seeds=1, recipe={"steps": 60, "width": 16, "evaluations": 2}
    )
    grid = Grid((family,), ("none", "context"), (), severities=(5,), budget=0, resamples=300)
    study(tmp_path, grid, how=Execution(data=data_folder, jobs=1)).run()
    summary = read_json(tmp_path / "results" / "summary.json")
    assert [cell["against"] for cell in summary["cells"]] == ["none", "none+perturbed"]
    assert summary["cells"][0]["benchmark"] == "scene15"
    assert summary["cells"][0]["clean"]["mean"] > 0.4  # of fifteen classes
    assert summary["made_with"]["searched"] == {"scene15/lf-dnn": False}
    assert set(summary["cells"][0]["detection_auroc"]) == {
        *("gaussian-noise", "impulse", "dimension-dropout", "dimension-replacement", "scale-drift", "clipping"),
        *("quantisation", "swap", "same-class-swap", "stale"),
    }


def test_times_are_measured_once_in_turn(made, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "TURNS", 2)
    config = make_config("digits", fusion="lf-dnn", calibrators=("none", "context"), recipe={"width": 8})
    experiment = Experiment(Cell(made.grid.families[0], "lf-dnn"), config, tmp_path)
    threads = torch.get_num_threads()
    found = time_cell(experiment)
    assert set(found["methods"]) == {"none", "none+perturbed", "context"}
    assert found["methods"]["none+perturbed"]["relative"] == 1
    assert all(one["median_ms"] > 0 for one in found["methods"].values())
    assert read_json(tmp_path / TIMING) == found
    assert time_cell(experiment) == found
    assert torch.get_num_threads() == threads


def test_a_timed_step_is_a_step_of_training():
    recipe = {"width": 8, "steps": 1, "dropout": 0.0}
    config = make_config("digits", fusion="lf-dnn", calibrators=("context",), recipe=recipe)
    task, variant = prepare_of(config, None, seed=0), Variant("context", True)
    loss = stepper(task, config, variant)()
    assert float(loss) == pytest.approx(train(task, config, variant, 0).history[0]["loss"])


GRID = Grid(
    (Family("a", "digits", ("lf-dnn", "lmf"), 1), Family("b", "digits", ("tfn",), 1, ablated=False)),
    ("none", "context"),
    ("context-no-support",),
)


def test_the_first_cell_of_every_family_is_observed_and_nothing_else(make_plan, tmp_path):
    plan = make_plan(GRID, tmp_path, {})
    assert [one.name for one in plan if one.observed] == ["a/lf-dnn", "b/tfn"]
    assert [one.name for one in plan if not one.observed] == ["a/lf-dnn ablations", "a/lmf"]


def test_everything_is_trained_once_and_what_is_observed_records_its_steps(make_plan, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(running, "study_all", lambda studies, **how: calls.append((studies, how)))
    plan = make_plan(GRID, tmp_path, {})
    train_all(plan, Execution(jobs=3, data="here"))
    assert [(list(studies), how["dynamics"]) for studies, how in calls] == [
        (["a/lf-dnn", "b/tfn"], DEFAULT_EVERY),
        (["a/lf-dnn ablations", "a/lmf"], None),
    ]
    known = {one.name: (one.config, one.folder) for one in plan}
    assert {name: study for studies, _ in calls for name, study in studies.items()} == known
    assert all((how["jobs"], how["data"]) == (3, "here") for _, how in calls)
    calls.clear()
    train_all([one for one in plan if one.ablations], Execution())
    assert [(list(studies), how["dynamics"]) for studies, how in calls] == [(["a/lf-dnn ablations"], None)]


MISSING = "1 of 2 cells so far; not run yet: digits (lmf)."


@pytest.fixture
def kept(made, study, tmp_path, monkeypatch):
    """Return the study of a fresh clone: with what is committed, and no runs; it draws no figures."""
    for name in ("draw_leads", "draw_shares", "draw_detection"):
        monkeypatch.setattr(running, name, lambda *_, **__: None)
    shutil.copytree(made.results, tmp_path / "results")
    return study(tmp_path, made.grid, how=Execution(jobs=1), commit="abc")


@pytest.fixture
def larger(made, kept):
    """Return the study of the fresh clone with one cell more."""
    family = replace(made.grid.families[0], fusions=("lf-dnn", "lmf"))
    return replace(kept, grid=replace(made.grid, families=(family,)))


def test_a_fresh_clone_trains_nothing_and_writes_the_same(made, kept, monkeypatch):
    for name in ("train_all", "stress_all", "time_cell", "search"):
        monkeypatch.setattr(running, name, None)  # not even called
    assert kept.run() == made.findings
    assert not kept.out.exists()
    for path in made.results.rglob("*.*"):
        if path.suffix in (".md", ".csv", ".json"):
            assert (kept.results / path.relative_to(made.results)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("changed", [{"resamples": 201}, {"severities": (1,)}, {"ablations": ("context-no-support",)}])
def test_a_changed_question_is_asked_anew(made, kept, changed, monkeypatch):
    trained = []

    def refused(experiments, _):
        trained.extend(one.name for one in experiments)
        raise ConcordantError("not here")

    monkeypatch.setattr(running, "train_all", refused)
    with pytest.raises(
        ConcordantError, match="1 of 1 cells failed, the tables are of the others: digits/lf-dnn: not here"
    ):
        replace(kept, grid=replace(made.grid, **changed)).run()
    assert trained == ["digits/lf-dnn", "digits/lf-dnn ablations"]


def test_every_page_of_a_part_names_the_missing_cells(made, larger):
    findings = larger.run(stop_after=0)
    made_with = findings.made
    assert standing(made_with) == MISSING
    assert (made_with["finished"], made_with["planned"], made_with["missing"]) == (1, 2, ["digits/lmf"])
    assert read_json(larger.results / "summary.json")["made_with"] == made_with
    pages = [larger.results / "PROOF.md", *(larger.results / "proof").glob("*.md")]
    assert len(pages) == 11
    assert all(f"**{MISSING}**" in page.read_text() for page in pages)
    assert all(block.count(MISSING) == 1 for block in blocks(findings).values())
    assert not larger.out.exists()
    assert all("so far" not in block for block in blocks(made.findings).values())


def test_the_time_is_up_after_the_run_that_has_begun(made, study, tmp_path, monkeypatch):
    seen, now = [], [0.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])

    def progress(done, total, line):
        seen.append(line)
        now[0] += 60.0

    found = study(tmp_path, made.grid, how=Execution(jobs=1, progress=progress)).run(stop_after=3)
    assert found is None  # no cell is finished
    assert len(seen) == 3
    assert len(list(tmp_path.rglob("candidate.json"))) == 3
    assert not (tmp_path / "results").exists()


def test_what_cannot_be_run_leaves_the_others_alone(made, kept):
    other = Family("none", "scene15", ("lf-dnn",), 2)
    grid = replace(made.grid, families=(other, *made.grid.families), budget=0)
    with pytest.raises(
        ConcordantError, match=r"1 of 2 cells failed, the tables are of the others: none/lf-dnn: .*nowhere"
    ):
        replace(kept, grid=grid, how=Execution(data=kept.results / "nowhere", jobs=1)).run()
    assert read_json(kept.results / "summary.json")["made_with"]["missing"] == ["none/lf-dnn"]


def test_families_choose_what_is_run_and_not_what_is_shown(larger):
    written = []
    findings = larger.run(families=["another"], after=written.append)
    assert standing(findings.made) == MISSING
    assert written == [findings]


@pytest.fixture
def script():
    return importlib.import_module("studies.paper.__main__")


def run(script, *words):
    app = typer.Typer()
    app.command()(script.main)
    app([str(word) for word in words], standalone_mode=False)


def test_the_command_stops_and_makes_tables(made, kept, script, monkeypatch, capsys):
    monkeypatch.setattr(script, "FULL", made.grid)
    monkeypatch.setattr(script.common, "RESULTS", kept.results)  # of the searches
    common = ("--out", kept.out, "--results", kept.results)
    run(script, *common, "--tables")
    assert "points ahead of" in capsys.readouterr().out
    run(script, *common, "--stop-after", 0, "digits")
    shutil.rmtree(kept.cells)
    capsys.readouterr()
    run(script, *common, "--stop-after", 0)
    assert capsys.readouterr().out == "0 of 1 cells so far; there is nothing to write yet\n"
    with pytest.raises(DataError, match="has no file of a cell of this grid"):
        run(script, *common, "--tables")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["neither", "nor"], "unknown family 'neither', 'nor'; choose from: scene15, cmu-mosi-folds"),
        (["--stop-after", "-1"], "--stop-after must be 0 minutes or more; found -1.0"),
    ],
)
def test_wrong_arguments_are_named(script, words, error):
    with pytest.raises(Exception, match=error) as caught:
        run(script, *words)
    assert caught.value.exit_code == 2
