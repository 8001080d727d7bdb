"""The page of the experiments, made of the committed results."""

from pathlib import Path

import pytest

from concordant.files import read_json
from studies.common import read_found
from studies.experiments import EXPERIMENTS, REFERENCES, results_page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results():
    return read_json(ROOT / "results" / "digits.json")


def test_the_page_has_a_section_for_each_result(results):
    text = results_page({"one": results, "two": results}, {"digits": "a reference"})
    assert text.count("## one\n") == text.count("## two\n") == 1
    assert f"torch {results['versions']['torch']}" in text
    assert text.count("Elsewhere: a reference\n") == 2


def test_the_committed_page_is_made_of_the_committed_numbers():
    folder = ROOT / "results"
    assert results_page(read_found(folder, EXPERIMENTS), REFERENCES) == (folder / "README.md").read_text("utf-8")


def test_a_remark_stands_before_the_tables(results):
    text = results_page({"one": {**results, "remark": "Older than the code."}, "two": results})
    assert text.count("**Older than the code.**\n\n| calibrator |") == 1
