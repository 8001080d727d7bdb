"""The files of a proof: complete, in agreement with each other, and made anew without training."""

import csv
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from concordant.errors import DataError
from concordant.files import read_json, write_json
from concordant.report.table import shown
from studies.paper.blocks import PENDING, blocks, fill, fill_documents, read_table
from studies.paper.grid import FULL, Grid
from studies.paper.making import Places, make_proof
from studies.paper.summary import read_summary
from studies.paper.verdict import leads, losses, verdict, what_came
from studies.paper.writing import score_lines

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
    again = make_proof(
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
    assert fill_documents(tmp_path, made.results) == [tmp_path / "docs" / "method.md"]
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
    summary = make_proof(grid, Places(tmp_path / "runs", tmp_path / "results"), data=data_folder, jobs=1)
    assert [cell.against for cell in summary.cells] == ["none", "none+perturbed"]
    assert summary.cells[0].benchmark == "scene15"
    assert summary.cells[0].clean.mean > 0.4  # of fifteen classes
    assert summary.made_with["searched"] == {"scene15": False}
    assert set(summary.cells[0].detection_auroc) == {
        *("gaussian-noise", "impulse", "dimension-dropout", "dimension-replacement", "scale-drift", "clipping"),
        *("quantisation", "swap", "same-class-swap", "stale"),
    }
