from io import StringIO

import pytest
from rich.console import Console

from concordant.report.grid import cells_of, grid_lines, grid_page, grid_section, grid_table, headings_of, legend, mark


def comparison(to, condition, difference, p_holm):
    return {"of": "context", "to": to, "condition": condition, "difference": difference, "p_holm": p_holm}


def a_row(name, alone=True):
    return {
        "row": name,
        "fusion": name.partition("@")[0],
        "calibrate": name.partition("@")[2] or "maps",
        "scores": {
            "none": {"clean": [0.8, 0.84], "corruption.mean": [0.5, 0.52]},
            "none+perturbed": {"clean": [0.2, 0.22], "corruption.mean": [0.6, 0.6]},
            "context": {"clean": [0.81, 0.83], "corruption.mean": [0.7, 0.72]},
        },
        "comparisons": [
            comparison("none", "clean", 0.0, 1.0),
            comparison("none", "corruption.mean", 0.2, 0.001),
            comparison("none+perturbed", "clean", 0.61, 0.0001),
            comparison("none+perturbed", "corruption.mean", -0.05 if name == "sum" else 0.11, 0.02),
        ],
        "majority": 0.25,
        "alone": {"a": [0.7, 0.7], "b": [0.1, 0.1]} if alone else {},
        "best_alone": "a" if alone else None,
        "against_alone": {"none": {"difference": 0.12, "p_holm": 0.3 if name == "sum" else 0.01}} if alone else {},
        "train_minutes": 1.25,
    }


def a_grid(**options):
    return {
        "benchmark": "bench",
        "config": {
            "seeds": 2,
            "modalities": ["a", "b"],
            "protocol": "given",
            "preset": "small",
            "encoders": "small",
            "method": "none",
            "recipe": {"steps": 5},
        },
        "versions": {"torch": "2"},
        "hardware": {"cpu": "x"},
        "rows": [a_row("sum", **options), a_row("concat@pooled", **options)],
        "overall": [
            comparison("none", "clean", 0.0, 1.0),
            comparison("none", "corruption.mean", 0.2, 0.0004),
            comparison("none+perturbed", "clean", 0.61, 0.0001),
            comparison("none+perturbed", "corruption.mean", 0.03, 0.04),
        ],
    }


def text_of(table):
    out = StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def test_a_row_has_clean_and_mean_of_every_method_marked_where_significant():
    grid = a_grid()
    assert headings_of(grid) == [
        *("fusion", "calibrated at", "best alone", "none, clean", "none, perturbed", "context"),
    ]
    assert cells_of(grid, grid["rows"][0]) == [
        *("sum", "maps", "a 70.0 =", "82.0 / 51.0+", "21.0+ / 60.0-", "82.0 / 71.0"),
    ]
    assert cells_of(grid, grid["rows"][1], spread=True) == [
        *("concat", "pooled", "a 70.0 >", "82.0 ± 2.8 / 51.0 ± 1.4+"),
        *("21.0 ± 1.4+ / 60.0 ± 0.0+", "82.0 ± 1.4 / 71.0 ± 1.4"),
    ]


@pytest.mark.parametrize(("p_holm", "difference", "expected"), [(0.04, 1, "+"), (0.04, -1, "-"), (0.05, 1, "")])
def test_marks_need_significance(p_holm, difference, expected):
    row = {"comparisons": [comparison("x", "clean", difference, p_holm)]}
    assert mark(row, "x", "clean") == expected
    assert mark(row, "x", "corruption.mean") == ""


def test_sentences_say_wins_and_losses_alike():
    lines = grid_lines(a_grid())
    assert lines[0] == (
        "clean, context against none, clean: +0.0 points in the mean over 2 rows (p 1.000), above in 0; "
        "by row significantly better in 0, worse in 0"
    )
    assert lines[3] == (
        "corrupted (mean), context against none, perturbed: +3.0 points in the mean over 2 rows (p 0.040), above in 1; "
        "by row significantly better in 1, worse in 1"
    )
    assert (
        lines[4] == "not significantly above its best modality alone, without calibration: sum (+12.0 points, p 0.300)"
    )
    assert lines[5] == (
        "not above always saying the most frequent class: sum with none, perturbed, concat@pooled with none, perturbed"
    )
    assert len(lines) == 6


def test_the_table_and_the_legend_say_what_there_is():
    grid = a_grid()
    text = text_of(grid_table(grid))
    assert "bench · a, b · accuracy %, clean / mean over corruptions, mean over 2 seeds" in text
    assert "82.0 / 51.0+" in text
    assert "context is compared with each: + it is significantly better" in legend(grid)
    assert "Best alone" in legend(grid)
    without = a_grid(alone=False)
    assert "Best alone" not in legend(without)
    assert "best alone" not in headings_of(without)
    for row in without["rows"]:
        row["comparisons"] = []
    assert legend(without) == "clean / mean over the corruptions, accuracy in percent."
    assert grid_lines(without)[0].startswith("not above always")


def test_the_page_has_every_grid_with_its_minutes_and_surroundings():
    page = grid_page({"one": a_grid(), "two": a_grid()})
    assert page.startswith("# Grids")
    assert page.count("\n## ") == 2
    section = grid_section("one", a_grid())
    assert "| sum | maps | a 70.0 = | 82.0 ± 2.8 / 51.0 ± 1.4+ |" in section
    assert "Training took 2 minutes of one core in all, by row: sum 1.2, concat@pooled 1.2." in section
    assert "Majority class: 25.0." in section
    assert "Recipe: steps 5. Versions: torch: 2. Hardware: cpu: x." in section


def test_a_remark_of_a_grid_stands_before_its_table():
    text = grid_section("one", {**a_grid(), "remark": "Older than the code."})
    assert "**Older than the code.**" in text
    assert text.index("**Older") < text.index("| --- |")
    assert "**Older" not in grid_section("one", a_grid())
