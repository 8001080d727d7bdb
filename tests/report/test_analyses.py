"""The analyses as tables, of real documents of a short run."""

import shutil
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from concordant.report.analyses import corruption_tables, explanation_table, feature_tables, removal_tables
from concordant.report.analyses_page import analyses_page, numbers_of
from concordant.report.html import read_documents
from concordant.report.severity_picture import curves_of, draw_severity
from concordant.study.stress import stress_corruption, stress_removal
from concordant.training.runs import open_runs
from concordant.visualisation.inspection import explain_sample, inspect_features, open_inspected


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


def text_of(tables):
    out = StringIO()
    console = Console(file=out, width=200)
    for table in tables:
        console.print(table)
    return out.getvalue()


def mean(document, label, read):
    return 100 * np.mean([read(run) for run in document["runs"] if run["label"] == label])


def test_removal_shows_every_subset_value_and_rate(documents):
    text = text_of(removal_tables(documents.removal))
    for word in ("left + right + profile", "Shapley value", "90 %", "area", "none, perturbed"):
        assert word in text
    full = mean(documents.removal, "context", lambda run: run["full"])
    line = next(line for line in text.splitlines() if "left + right + profile" in line)
    assert f"{full:.1f} (100.0)" in line


def test_corruption_shows_kinds_summaries_and_detection(documents):
    text = text_of(corruption_tables(documents.corruption))
    for word in ("gaussian-noise *", "of the oracle's way", "error/twin's", "which modality was hit", "worst"):
        assert word in text
    line = next(line for line in text.splitlines() if " swap *" in line)
    assert f"{mean(documents.corruption, 'context', lambda run: np.mean(run['kinds']['swap']['scores'])):.1f}" in line
    twin = next(line for line in text.splitlines() if "error/twin's" in line)
    assert twin.split()[4] == "1.00" or "1.00" in twin


def test_features_show_separation_and_distrust(documents):
    text = text_of(feature_tables(documents.features))
    first = documents.features["distrusted"][0]
    assert first["id"] in text
    assert f"{documents.features['separation']['left']['silhouette']['after']:.3f}" in text


def test_an_explanation_shows_a_line_a_modality(folder, documents):
    one = documents.features["distrusted"][0]
    text = text_of([explanation_table(explain_sample(open_inspected(open_runs(folder)), one["id"]))])
    assert text.splitlines()[0].startswith(f"{one['id']}: {one['label']}, taken for {one['prediction']}")
    for name in ("left", "right", "profile"):
        assert name in text
    assert "(usual " in text


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
