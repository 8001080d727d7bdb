"""The page and the picture of the analyses, made of committed numbers and of example documents."""

from pathlib import Path

import pytest

from concordant.files import read_json
from studies.analyses import EXPERIMENTS, analyses_page, curves_of, draw_severity, numbers_of
from studies.common import read_found
from tests.report import example as example_documents

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def documents():
    return example_documents.example()


def test_the_committed_page_is_made_of_the_committed_numbers():
    page = (ROOT / "results" / "ANALYSES.md").read_text(encoding="utf-8")
    assert analyses_page(read_found(ROOT / "results" / "analyses", EXPERIMENTS)) == page


def test_all_numbers_of_a_report_are_kept_but_points_and_curves(documents):
    kept = numbers_of(documents, "python -m studies.analyses x")
    assert "points" not in kept["features"]
    assert kept["features"]["gates"] == documents.features["gates"]
    assert (kept["corruption"], kept["removal"]) == (documents.corruption, documents.removal)
    assert kept["dynamics"]["summary"] == documents.dynamics["summary"]
    assert all("series" not in run and "stability" in run for run in kept["dynamics"]["runs"])
    committed = read_json(ROOT / "results" / "analyses" / "ravdess.json")
    assert set(kept) == set(committed) - {"remark"}


def test_what_was_not_measured_is_a_dash(documents):
    kept = numbers_of(documents, "python -m studies.analyses x")
    kept["results"]["config"] |= {"modalities": ["audio", "image"], "protocol": "random"}
    kept["dynamics"] = {
        "summary": [
            {
                "label": "context",
                "loss_variance": {"mean": 0.00123, "std": None},
                "spikes": {"mean": 1.5, "std": 0.5},
                "sharpness": {"mean": None, "std": None},
                "final_score": {"mean": 0.9, "std": 0.01},
            }
        ],
        "runs": [{"label": "context", "seconds": 10.0, "observing_seconds": 0.5}],
    }
    page = analyses_page({"x": kept})
    assert "| context | 0.00123 | 1.5 | - | 0.900 ± 0.010 | 5.0 % |" in page
    assert "| gaussian-noise \\* | " in page
    assert "Made by `python -m studies.analyses x`" in page
    assert "**Older.**\n\n" in analyses_page({"x": {**kept, "remark": "Older."}})


def test_the_picture_draws_every_kind(documents, tmp_path):
    draw_severity(documents.corruption, tmp_path / "severity.svg")
    assert "<svg" in (tmp_path / "severity.svg").read_text()
    curves = curves_of(documents.corruption, "context", "swap")
    runs = [run for run in documents.corruption["runs"] if run["label"] == "context"]
    assert curves.shape == (len(runs), 6)
    assert curves[0, 0] == pytest.approx(100 * runs[0]["clean"])
