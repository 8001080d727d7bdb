from pathlib import Path

import pytest

from concordant.errors import ConcordantError
from concordant.files import read_json
from concordant.report.markdown import END, START, brief, fill, page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results():
    return read_json(ROOT / "results" / "digits.json")


def cells(text, start):
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_number_is_a_mean_over_the_runs(results):
    import numpy as np

    values = [100 * run["clean"]["accuracy"] for run in results["runs"] if run["calibrator"] == "context"]
    text = f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert text in cells(brief(results), "context")[2]


def test_the_best_of_a_column_is_bold(results):
    import numpy as np

    def mean(name):
        return np.mean([run["corruption"]["swap"]["accuracy"] for run in results["runs"] if run["calibrator"] == name])

    best = max(("self", "joint", "context"), key=mean)
    column = cells(brief(results), "calibrator").index("swap")
    assert cells(brief(results), best)[column].startswith("**")


def test_the_page_has_a_section_for_each_result(results):
    text = page({"one": results, "two": results})
    assert text.count("## one\n") == text.count("## two\n") == 1
    assert f"torch {results['versions']['torch']}" in text


def test_a_remark_stands_before_the_tables(results):
    text = page({"one": {**results, "remark": "Older than the code."}, "two": results})
    assert text.count("**Older than the code.**\n\n| calibrator |") == 1


def test_fill_replaces_what_stands_between_the_marks_and_nothing_else():
    before = f"a\n{START}\nold\n{END}\nz\n"
    assert fill(before, "new\n") == f"a\n{START}\n\nnew\n\n{END}\nz\n"
    assert fill(fill(before, "new\n"), "new\n") == fill(before, "new\n")
    with pytest.raises(ConcordantError, match="the document has no lines"):
        fill("nothing", "new")
