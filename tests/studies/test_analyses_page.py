"""The page and the picture of the analyses, of real documents of a short run."""

import shutil

import pytest

from concordant.report.page import read_documents
from concordant.report.tables.insight import explanation
from concordant.study.stress import stress_corruption, stress_removal
from concordant.training.runs import open_runs
from concordant.visualisation.inspection import explain_sample, inspect_features, open_inspected
from studies.analyses_page import analyses_page, numbers_of
from studies.pictures import curves_of, draw_severity


@pytest.fixture(scope="module")
def folder(digits_run, tmp_path_factory):
    folder = shutil.copytree(digits_run, tmp_path_factory.mktemp("tables") / "digits")
    runs = open_runs(folder)
    stress_removal(runs, jobs=1)
    stress_corruption(runs, kinds=["gaussian-noise", "swap"], jobs=1)
    inspect_features(open_inspected(runs))
    return folder


@pytest.fixture(scope="module")
def documents(folder):
    return read_documents(folder)


def test_an_explanation_of_a_real_instance_has_a_row_per_modality(folder, documents):
    one = documents.features["distrusted"][0]
    table = explanation(explain_sample(open_inspected(open_runs(folder)), one["id"]))
    assert table.caption.startswith(f"{one['id']}: {one['label']}, taken for {one['prediction']}")
    assert [cells[0].text for cells in table.cells] == ["left", "right", "profile"]
    assert "(usual " in table.cells[0][-1].text


def test_the_page_is_made_of_what_is_kept(documents):
    kept = numbers_of(documents, "python -m studies.analyses x")
    assert "points" not in kept["features"]
    assert kept["corruption"] == documents.corruption
    assert kept["dynamics"] is None
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
    assert "| left + right + profile | " in page
    assert "| gaussian-noise \\* | " in page
    assert "Made by `python -m studies.analyses x`" in page
    assert "**Older.**\n\n" in analyses_page({"x": {**kept, "remark": "Older."}})
    rows = [line for line in page.splitlines() if line.startswith("| none, perturbed | ")]
    assert any(" | 1.00 | - | " in line for line in rows)


def test_the_picture_draws_every_kind(documents, tmp_path):
    draw_severity(documents.corruption, tmp_path / "severity.svg")
    text = (tmp_path / "severity.svg").read_text()
    assert "<svg" in text
    curves = curves_of(documents.corruption, "context", "swap")
    assert curves.shape == (2, 6)
    assert curves[0, 0] == pytest.approx(100 * documents.corruption["runs"][-2]["clean"])
