"""The pages and the picture of the experiments, made of the committed results and of a small grid."""

from pathlib import Path

import pytest

from concordant.files import read_json
from studies.common import read_found
from studies.experiments import EXPERIMENTS, GRIDS, REFERENCES, draw, grids_page, results_page
from tests.report import example as example_documents

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results():
    return read_json(ROOT / "results" / "digits.json")


@pytest.fixture(scope="module")
def grid():
    return example_documents.small_grid()


def test_the_page_has_a_section_for_each_result(results):
    text = results_page({"one": results, "two": results}, {"digits": "a reference"})
    assert text.count("## one\n") == text.count("## two\n") == 1
    assert f"torch {results['versions']['torch']}" in text
    assert text.count("Elsewhere: a reference\n") == 2


def test_the_committed_pages_are_made_of_the_committed_numbers():
    folder = ROOT / "results"
    assert results_page(read_found(folder, EXPERIMENTS), REFERENCES) == (folder / "README.md").read_text("utf-8")
    assert grids_page(read_found(folder, GRIDS)) == (folder / "GRIDS.md").read_text("utf-8")


def test_a_remark_stands_before_the_tables(results):
    text = results_page({"one": {**results, "remark": "Older than the code."}, "two": results})
    assert text.count("**Older than the code.**\n\n| calibrator |") == 1


def test_the_page_of_grids_has_minutes_versions_and_hardware(grid):
    page = grids_page({"one": grid, "two": grid})
    assert page.startswith("# Grids")
    assert page.count("\n## ") == 2
    assert "| sum | maps | a 70.0 = | 82.0 ± 2.8 / 51.0 ± 1.4+ |" in page
    assert "Training took 2 minutes of one core in all, by row: sum 1.2, concat@pooled 1.2." in page
    assert "Majority class: 25.0." in page
    assert "Recipe: steps 5. Versions: torch: 2. Hardware: cpu: x." in page


def test_a_remark_of_a_grid_stands_before_its_table(grid):
    text = grids_page({"one": {**grid, "remark": "Older than the code."}})
    assert text.index("**Older than the code.**") < text.index("| --- |")
    assert "**Older" not in grids_page({"one": grid})


def test_the_picture_names_every_method_and_condition(results, tmp_path):
    draw(results, tmp_path / "deep" / "picture.svg")
    text = (tmp_path / "deep" / "picture.svg").read_text()
    for word in ("none, clean", "context", "noise", "swap", "accuracy, %"):
        assert f"<!-- {word} -->" in text
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["picture.svg"]


def test_one_seed_has_no_spread_and_still_draws(results, tmp_path):
    one = {**results, "runs": [run for run in results["runs"] if run["seed"] == 0]}
    draw(one, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
