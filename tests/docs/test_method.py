"""The numbers of docs/method.md that no script fills in are those of the results."""

from pathlib import Path
from statistics import fmean

import pytest

from concordant.files import read_json

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["digits", "scene15"])
def test_what_the_losses_teach_is_what_was_measured(name):
    runs = read_json(ROOT / "results" / f"{name}-losses.json")["runs"]
    means = []
    for calibrator in ("none", "context-losses-only", "context"):
        kinds = [run["corruption"].values() for run in runs if run["calibrator"] == calibrator]
        means.append(100 * fmean(kind["accuracy"] for one in kinds for kind in one))
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}`, ")]
    assert [float(cell) for cell in row.split("|")[2:5]] == pytest.approx(means, abs=0.05)
