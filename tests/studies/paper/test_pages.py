"""The files made of the tables: Markdown and CSV, the page, and the blocks in documents."""

import csv
import io
import re

import pytest

from concordant.errors import DataError
from concordant.files import read_json
from concordant.report.format import shown
from studies.paper.findings import Findings, made_line, summarise, what_came
from studies.paper.pages import (
    MARKS,
    PENDING,
    as_csv,
    comparison_lines,
    difference_text,
    fill_docs,
    proof_page,
    score_lines,
    value_text,
    write_table_files,
)
from studies.paper.run import FIGURES as RUN_FIGURES
from studies.paper.tables import Table


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
    assert head == ["family", "fusion", "modalities", "seeds", "", "none, clean", "self", "Concordant"]
    assert found == [
        ["scene15", "lf-dnn", "2", "10", "clean", "50.0 ± 1.0 +", "62.0 -", "60.0 ± 2.0"],
        ["scene15", "lf-dnn", "2", "10", "swap", "25.0 ± 1.0", "-", "75.0 ± 2.0"],
    ]
    assert score_lines(table).endswith(f"|\n\n{MARKS}\n")


def test_where_less_is_better_marks_turn_round(rows):
    scores = [rows.score("none", 2.0, None), rows.score("self", 0.5, None), rows.score("context", 1.0, None)]
    table = Table(
        "stability", "", "", scores, [rows.row("none", -1.0, 0.01), rows.row("self", 0.5, 0.01)], "", less=True
    )
    assert parsed(score_lines(table))[1][0][5:] == ["2 +", "0.5 -", "1"]


def test_where_methods_are_not_compared_nothing_says_that_they_are(rows):
    scores = [rows.score("self", 0.7), rows.score("context", 0.9)]
    guessed = [rows.row("a guess", 0.4, 0.001), {**rows.row("a guess", 0.2, 0.001), "of": "self"}]
    alone = score_lines(Table("detection", "", "", scores, guessed, ""))
    assert MARKS not in alone
    assert parsed(alone)[1][0][5:] == ["0.7 ± 0.01", "0.9 ± 0.01"]


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


def test_a_page_has_what_there_is(table, tmp_path):
    write_table_files(table, tmp_path, head="Made so.")
    page = (tmp_path / "clean.md").read_text(encoding="utf-8")
    assert page.startswith("# Which is ahead?\n\nAccuracy.\n\nMade so.\n\n| family |")
    assert page.count("## Differences") == 1
    assert page.endswith(comparison_lines(table))
    write_table_files(Table("cost", "What?", "Note.", table.scores, compares=False), tmp_path)
    bare = (tmp_path / "cost.md").read_text(encoding="utf-8")
    assert bare.startswith("# What?\n\nNote.\n\n| family |")
    assert "Differences" not in bare


def test_what_is_not_known_is_empty_and_every_column_is_there():
    text = as_csv([{"a": 1, "b": None}, {"b": "x, y", "c": 0.1}])
    assert text.splitlines() == ["a,b,c", "1,,", ',"x, y",0.1']
    assert list(csv.DictReader(io.StringIO(text)))[1] == {"a": "", "b": "x, y", "c": "0.1"}
    assert list(csv.DictReader(io.StringIO(as_csv([])))) == []


def test_written_numbers_are_short_and_none_is_in_powers_of_ten():
    for number in (999.49, 999.5, 999.7, -999.96, 1000.0, 12345.6):
        text = value_text(number, None, "")
        assert "e" not in text
        assert float(text.replace(",", "")) == pytest.approx(number, abs=0.5)
    assert value_text(0.01234, 1234.5, "") == "0.0123 ± 1,234"
    assert value_text(123456, None, "") == "123,456"
    assert value_text(None, None, "%") == "-"
    assert [difference_text(x, "") for x in (0.0, -999.9)] == ["+0", "-1,000"]


def test_files_and_folder_are_made(table, tmp_path):
    write_table_files(table, tmp_path / "new", head="Made so.")
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()}
    assert found.keys() == {"clean.md", "clean.csv", "clean-scores.csv"}
    assert found["clean.csv"] == as_csv(table.rows)
    assert found["clean-scores.csv"] == as_csv(table.scores)


@pytest.mark.parametrize("name", ["clean", "corruption", "removal", "stability"])
def test_what_people_read_of_the_committed_tables_is_what_their_numbers_are(known, name):
    table = known.tables[name]
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


FIGURES = ("leads.png", "shares.png")


@pytest.fixture
def findings(rows, known):
    found = [
        Table("clean", "(a) First?", "Note of a.", [rows.score("context", 0.123)], [rows.row("self", 0.1)]),
        Table("detection", "(b) Second?", "Note of b.", [rows.score("context", 0.456)], [rows.row("a guess", 0.1)]),
        Table("cost", "(c) Third?", "Note of c.", [rows.score("context", 789)], unit="", compares=False),
        *(Table(name, f"({name})?", "", [], [], unit="") for name in ("corruption", "removal", "oracle")),
    ]
    return Findings(known.grid, {table.name: table for table in found}, known.made)


def sections(page):
    """Return title -> what stands below it."""
    first, *rest = page.split("\n## ")
    return {"": first, **{part.partition("\n")[0]: part.partition("\n")[2] for part in rest}}


def test_every_question_has_its_note_its_files_and_its_scores(findings):
    found = sections(proof_page(findings, FIGURES))
    assert list(found)[:5] == ["", "What came of it", "(a) First?", "(b) Second?", "(c) Third?"]
    assert found["(a) First?"].strip() == (
        "Note of a. [clean.md](proof/clean.md), [scores](proof/clean-scores.csv), [comparisons](proof/clean.csv).\n\n"
        + score_lines(findings.tables["clean"]).strip()
    )
    assert found["(b) Second?"].strip() == (  # long: in its file alone
        "Note of b. [detection.md](proof/detection.md), [scores](proof/detection-scores.csv), "
        "[comparisons](proof/detection.csv)."
    )
    assert "[scores](proof/cost-scores.csv).\n" in found["(c) Third?"]
    assert "789" in found["(c) Third?"]


def test_what_came_of_it_stands_first_with_the_figures(findings):
    found = sections(proof_page(findings, FIGURES))
    assert what_came(findings) in found["What came of it"]
    assert re.findall(r"!\[(.*?)\]\((.*?)\)", found["What came of it"]) == [(name, f"proof/{name}") for name in FIGURES]
    assert made_line(findings.made) in found[""]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"severities": [1, 5], "resamples": 20000, "steps": 1}, "Severities 1, 5 of 1 to 5; 20,000 resamples."),
        ({"severities": [3], "resamples": 500, "steps": 0.5}, " 500 resamples. Trained for 0.5 of the recipe's steps."),
        (
            {"steps": 1.0, "searched": {"a": True, "b": False, "c": False}},
            " Not searched, with the benchmark's own recipe: b, c.",
        ),
    ],
)
def test_sizes_are_named(findings, changed, said):
    made = {**findings.made, "searched": {"a": True}, **changed}
    head = sections(proof_page(findings._replace(made=made), FIGURES))[""]
    assert said in head
    assert ("Trained for" in head) == (changed["steps"] != 1)
    assert ("Not searched" in head) == ("searched" in changed)
    borrowed = [cell.name for cell in findings.grid.cells if cell.fusion in cell.family.borrowed]
    assert f"With the recipes of their family's first fusion: {', '.join(borrowed)}." in head


def test_what_the_committed_page_links_to_is_there(committed):
    links = re.findall(r"\]\(([^)]+)\)", (committed / "PROOF.md").read_text(encoding="utf-8"))
    assert len(links) > 20
    assert [link for link in links if not (committed / link).exists()] == []


def test_the_committed_files_are_made_of_the_committed_cells(committed, known, tmp_path):
    assert proof_page(known, RUN_FIGURES) == (committed / "PROOF.md").read_text(encoding="utf-8")
    assert summarise(known) == read_json(committed / "summary.json")
    for table in known.tables.values():
        write_table_files(table, tmp_path, head=made_line(known.made))
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (committed / "proof" / path.name).read_bytes()


def block(name, body="old"):
    return f"<!-- proof:{name} -->\n{body}\n<!-- /proof:{name} -->"


def test_all_faults_of_all_documents_are_named_and_none_is_written(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "README.md").write_text(block("headline"))
    (docs / "a.md").write_text(f"{block('nothing')}\n<!-- proof:cost -->\n{block('nor-this')}")
    (docs / "b.md").write_text("<!-- /proof:place -->")
    (docs / "c.md").write_text("nothing to fill")
    with pytest.raises(DataError) as caught:
        fill_docs(tmp_path, None)
    first, second = str(caught.value).split(f"; {docs / 'b.md'}")
    assert first.startswith(
        f"{docs / 'a.md'}: the document has the unknown proof:nothing, proof:nor-this; there are: leads, headline"
    )
    assert first.endswith("; the document has <!-- proof:cost --> without its other half")
    assert second == ": the document has <!-- /proof:place --> without its other half"
    assert (tmp_path / "README.md").read_text() == block("headline")


def test_documents_are_filled_before_there_is_a_proof(tmp_path):
    (tmp_path / "README.md").write_text(block("swaps"))
    assert fill_docs(tmp_path, None) == [tmp_path / "README.md"]
    assert (tmp_path / "README.md").read_text() == block("swaps", f"\n{PENDING}")
    assert fill_docs(tmp_path / "nowhere", None) == []


@pytest.mark.parametrize(("name", "unit"), [("clean", "%"), ("cost", "")])
def test_csv_has_every_digit(rows, tmp_path, name, unit):
    scores = [
        rows.score("none+perturbed", 0.1 + 0.2, None, family="a, with a comma"),
        rows.score("context", -1e-17, 1.0, fusion='"quoted"'),
    ]
    write_table_files(Table(name, "Title", "Note.", scores, unit=unit, compares=name != "cost"), tmp_path)
    assert (tmp_path / f"{name}.csv").exists() == (name != "cost")
    with (tmp_path / f"{name}-scores.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["family"], float(row["mean"]), row["std"]) for row in found] == [
        ("a, with a comma", 0.1 + 0.2, ""),
        ("scene15", -1e-17, "1.0"),
    ]
