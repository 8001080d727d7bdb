import pytest

from concordant.report.tables.grids import grid_scores, legend, mark


@pytest.fixture
def a_grid(maker):
    return maker.small_grid


def texts(row):
    return [str(cell) for cell in row]


def test_a_row_has_clean_and_mean_of_every_method_marked_where_significant(a_grid):
    table = grid_scores(a_grid())
    assert table.columns == ["fusion", "calibrated at", "best alone", "none, clean", "none, perturbed", "Concordant"]
    assert texts(table.cells[0]) == ["sum", "maps", "a 70.0 =", "82.0 / 51.0+", "21.0+ / 60.0-", "82.0 / 71.0"]
    assert texts(grid_scores(a_grid(), deviations=True).cells[1]) == [
        *("concat", "pooled", "a 70.0 >", "82.0 ± 2.8 / 51.0 ± 1.4+"),
        *("21.0 ± 1.4+ / 60.0 ± 0.0+", "82.0 ± 1.4 / 71.0 ± 1.4"),
    ]
    assert table.numeric == [False, False, False, True, True, True]
    assert table.cells[0][3].value == pytest.approx(82)


@pytest.mark.parametrize(("p_holm", "difference", "expected"), [(0.04, 1, "+"), (0.04, -1, "-"), (0.05, 1, "")])
def test_marks_need_significance(p_holm, difference, expected):
    row = {"comparisons": [{"to": "x", "condition": "clean", "difference": difference, "p_holm": p_holm}]}
    assert mark(row, "x", "clean") == expected
    assert mark(row, "x", "corruption.mean") == ""


def test_the_legend_names_the_marks_that_there_are(a_grid, shown):
    grid = a_grid()
    text = " ".join(" ".join(shown(grid_scores(grid))).split())
    assert "bench · a, b · accuracy %, clean / mean over corruptions, over 2 seeds" in text
    assert "82.0 / 51.0+" in text
    assert "Concordant is compared with each: + it is significantly better" in legend(grid)
    assert "Best alone" in legend(grid)
    without = a_grid(alone=False)
    assert "Best alone" not in legend(without)
    assert "best alone" not in grid_scores(without).columns
    for row in without["rows"]:
        row["comparisons"] = []
    assert legend(without) == "clean / mean over the corruptions, accuracy in percent."


def test_a_committed_grid_has_a_row_per_fusion(real):
    table = grid_scores(real("grid-av-digits").grid)
    assert list(table.columns[:3]) == ["fusion", "calibrated at", "best alone"]
    assert len(table.rows) == 8
    assert texts(table.cells[-1])[:2] == ["concat", "pooled"]
