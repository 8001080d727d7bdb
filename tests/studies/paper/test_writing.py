"""Tables as files: what people read says what the numbers say."""

import csv
import io

import pytest

from concordant.report.table import shown
from studies.paper.blocks import read_table
from studies.paper.table import Table
from studies.paper.writing import (
    MARKS,
    as_csv,
    as_page,
    comparison_lines,
    difference_text,
    lines_of,
    score_lines,
    value_text,
    write_table_files,
)


def parsed(text):
    """Return the head and the rows of the first Markdown table, read by bars alone."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, rule, *rows = ([part.strip() for part in line.strip("|").split("|")] for line in lines)
    assert set("".join(rule)) <= set("-:")
    assert all(len(row) == len(head) for row in rows)
    return head, rows


@pytest.fixture
def table(rows):
    scores = [
        rows.score("none", 0.50, 0.01),
        rows.score("self", 0.62, None),
        rows.score("context", 0.60, 0.02),
        rows.score("none", 0.25, 0.01, condition="swap"),
        rows.score("context", 0.75, 0.02, condition="swap"),
    ]
    compared = [
        rows.row("none", 0.10, 0.01),
        rows.row("self", -0.02, 0.04),
        rows.row("none", 0.50, 0.06, condition="swap"),
    ]
    return Table("clean", "Which is ahead?", "Accuracy.", scores, compared)


def test_scores_have_a_row_a_condition_and_a_column_a_method(table):
    head, found = parsed(score_lines(table))
    assert head == ["family", "fusion", "modalities", "seeds", "", "none, clean", "self", "context"]
    assert found == [
        ["scene15", "lf-dnn", "2", "10", "clean", "50.0 ± 1.0 +", "62.0 -", "60.0 ± 2.0"],
        ["scene15", "lf-dnn", "2", "10", "swap", "25.0 ± 1.0", "-", "75.0 ± 2.0"],
    ]
    assert score_lines(table).endswith(f"|\n\n{MARKS}\n")


def test_some_scores_alone_have_their_own_methods(table):
    head, found = parsed(score_lines(table, table.scores[3:]))
    assert head[5:] == ["none, clean", "context"]
    assert [row[4:] for row in found] == [["swap", "25.0 ± 1.0", "75.0 ± 2.0"]]


def test_where_less_is_better_marks_turn_round(rows):
    scores = [rows.score("none", 2.0, None), rows.score("self", 0.5, None), rows.score("context", 1.0, None)]
    table = Table(
        "stability", "", "", scores, [rows.row("none", -1.0, 0.01), rows.row("self", 0.5, 0.01)], "", less=True
    )
    assert parsed(score_lines(table))[1][0][5:] == ["2 +", "0.5 -", "1"]


def test_where_methods_are_not_compared_nothing_says_that_they_are(rows, table):
    scores = [rows.score("self", 0.7), rows.score("context", 0.9)]
    guessed = [rows.row("a guess", 0.4, 0.001), {**rows.row("a guess", 0.2, 0.001), "of": "self"}]
    alone = score_lines(Table("detection", "", "", scores, guessed, ""))
    assert MARKS not in alone
    assert parsed(alone)[1][0][5:] == ["0.7 ± 0.01", "0.9 ± 0.01"]
    assert MARKS not in score_lines(table, [rows.score("none", 0.5, fusion="lmf")])


def test_comparisons_have_their_interval_and_all_p_values(rows):
    first = {**rows.row("none+perturbed", 0.1234, 0.04), "p_wilcoxon": 0.0019, "std_to": 0.01}
    second = rows.row("self", -0.05, 0.0002, mean=0.4)
    head, found = parsed(comparison_lines(Table("clean", "", "", [], [first, second])))
    assert head[3:7] == ["difference", "of", "to", "points"]
    assert found[0][2:] == [
        *("clean", "context - none, perturbed", "50.0 ± 2.0", "37.7 ± 1.0", "+12.3", "+11.3 to +14.3"),
        *("0.020", "0.040", "0.002"),
    ]
    assert found[1][4:] == ["40.0 ± 2.0", "45.0", "-5.0", "-6.0 to -3.0", "<0.001", "<0.001", "-"]
    numbers = Table("detection", "", "", [], [second], "")
    assert parsed(comparison_lines(numbers))[0][6] == "difference"
    assert parsed(comparison_lines(numbers))[1][0][6:8] == ["-0.05", "-0.06 to -0.03"]


def test_a_page_has_what_there_is(table):
    page = as_page(table, head="Made so.")
    assert page.startswith("# Which is ahead?\n\nAccuracy.\n\nMade so.\n\n| family |")
    assert page.count("## Differences") == 1
    assert page.endswith(comparison_lines(table))
    bare = as_page(Table("cost", "What?", "Note.", table.scores, compares=False))
    assert bare.startswith("# What?\n\nNote.\n\n| family |")
    assert "Differences" not in bare


def test_what_is_not_known_is_empty_and_every_column_is_there():
    text = as_csv([{"a": 1, "b": None}, {"b": "x, y", "c": 0.1}])
    assert text.splitlines() == ["a,b,c", "1,,", ',"x, y",0.1']
    assert list(csv.DictReader(io.StringIO(text)))[1] == {"a": "", "b": "x, y", "c": "0.1"}
    assert list(csv.DictReader(io.StringIO(as_csv([])))) == []


def test_written_numbers_are_short_and_none_is_in_powers_of_ten():
    for number in (999.49, 999.5, 999.7, -999.96, 1000.0, 12345.6):
        text = value_text({"mean": number, "std": None}, "")
        assert "e" not in text
        assert float(text.replace(",", "")) == pytest.approx(number, abs=0.5)
    assert value_text({"mean": 0.01234, "std": 1234.5}, "") == "0.0123 ± 1,234"
    assert value_text({"mean": 123456, "std": None}, "") == "123,456"
    assert value_text({"mean": None, "std": None}, "%") == "-"
    assert [difference_text(x, "") for x in (0.0, -999.9)] == ["+0", "-1,000"]


def test_the_first_columns_are_aligned_to_the_left():
    assert (
        lines_of(["a", "b", "c"], [["1", "2", "3"]], left=2) == "| a | b | c |\n| --- | --- | ---: |\n| 1 | 2 | 3 |\n"
    )


def test_files_and_folder_are_made(table, tmp_path):
    write_table_files(table, tmp_path / "new", head="Made so.")
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()}
    assert found == {
        "clean.md": as_page(table, head="Made so."),
        "clean.csv": as_csv(table.rows),
        "clean-scores.csv": as_csv(table.scores),
    }


@pytest.mark.parametrize("name", ["clean", "corruption", "removal", "stability"])
def test_what_people_read_of_the_committed_tables_is_what_their_numbers_are(committed, name):
    table = read_table(committed / "proof", name)
    head, found = parsed(score_lines(table))
    labels = {shown(row["label"]): row["label"] for row in table.scores}
    scale, compared, seen = (1 if name == "stability" else 100), 0, 0
    for line in found:
        here = dict(zip(("family", "fusion", "condition"), (line[0], line[1], line[4]), strict=True))
        mine = {row["label"]: row for row in table.scores if {**row, **here} == row}
        for column, text in zip(head[5:], line[5:], strict=True):
            row = mine.get(labels[column])
            if row is None:
                assert text == "-"
                continue
            number = float(text.split(" ")[0].replace(",", ""))
            assert number == pytest.approx(scale * row["mean"], rel=0.01, abs=0.051 if scale == 100 else 0)
            seen += 1
            pair = [one for one in table.rows if {**one, **here, "to": row["label"]} == one]
            sign = ""
            if pair and pair[0]["p_holm"] < 0.05:
                ahead = pair[0]["difference"] < 0 if name == "stability" else pair[0]["difference"] > 0
                sign = "+" if ahead else "-"
                compared += 1
            assert text.endswith(f" {sign}" if sign else tuple("0123456789"))
    assert seen == len(table.scores)
    assert compared == sum(row["p_holm"] < 0.05 for row in table.rows)
