"""The page: every question with its files, and the committed one against the committed files."""

import re

import pytest

from concordant.files import read_json
from studies.paper.blocks import read_table
from studies.paper.page import SHOWN, proof_page
from studies.paper.summary import read_summary
from studies.paper.table import Table
from studies.paper.verdict import made_line, what_came
from studies.paper.writing import score_lines

FIGURES = ("leads.png", "shares.png")


@pytest.fixture
def summary(committed):
    return read_summary(read_json(committed / "summary.json"))


@pytest.fixture
def tables(rows):
    return [
        Table("clean", "(a) First?", "Note of a.", [rows.score("context", 0.123)], [rows.row("self", 0.1)]),
        Table("detection", "(b) Second?", "Note of b.", [rows.score("context", 0.456)], [rows.row("a guess", 0.1)]),
        Table("cost", "(c) Third?", "Note of c.", [rows.score("context", 789)], unit="", compares=False),
    ]


def changed(summary, **made):
    return summary.model_copy(update={"made_with": {**summary.made_with, **made}})


def sections(page):
    """Return title -> what stands below it."""
    first, *rest = page.split("\n## ")
    return {"": first, **{part.partition("\n")[0]: part.partition("\n")[2] for part in rest}}


def test_every_question_has_its_note_its_files_and_its_scores(summary, tables):
    found = sections(proof_page(summary, tables, FIGURES))
    assert list(found) == ["", "What came of it", "(a) First?", "(b) Second?", "(c) Third?"]
    assert found["(a) First?"].strip() == (
        "Note of a. [clean.md](proof/clean.md), [scores](proof/clean-scores.csv), [comparisons](proof/clean.csv).\n\n"
        + score_lines(tables[0]).strip()
    )
    assert found["(b) Second?"].strip() == (  # long: in its file alone
        "Note of b. [detection.md](proof/detection.md), [scores](proof/detection-scores.csv), "
        "[comparisons](proof/detection.csv)."
    )
    assert "[scores](proof/cost-scores.csv).\n" in found["(c) Third?"]
    assert "789" in found["(c) Third?"]


def test_what_came_of_it_stands_first_with_the_figures(summary, tables):
    found = sections(proof_page(summary, tables, FIGURES))
    assert what_came(summary) in found["What came of it"]
    assert re.findall(r"!\[(.*?)\]\((.*?)\)", found["What came of it"]) == [(name, f"proof/{name}") for name in FIGURES]
    assert made_line(summary.made_with) in found[""]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"severities": [1, 5], "resamples": 20000, "steps": 1}, "Severities 1, 5 of 1 to 5; 20,000 resamples.\n"),
        ({"severities": [3], "resamples": 500, "steps": 0.5}, " 500 resamples. Trained for 0.5 of the recipe's steps."),
        (
            {"steps": 1.0, "searched": {"a": True, "b": False, "c": False}},
            " Not searched, with the benchmark's own recipe: b, c.\n",
        ),
    ],
)
def test_how_it_was_made_is_said(summary, tables, made, said):
    head = sections(proof_page(changed(summary, **{"searched": {"a": True}, **made}), tables, FIGURES))[""]
    assert said in head
    assert ("Trained for" in head) == (made["steps"] != 1)
    assert ("Not searched" in head) == ("searched" in made)


def test_what_the_committed_page_links_to_is_there(committed):
    links = re.findall(r"\]\(([^)]+)\)", (committed / "PROOF.md").read_text(encoding="utf-8"))
    assert len(links) > 20
    assert [link for link in links if not (committed / link).exists()] == []


def test_the_committed_page_says_what_the_committed_files_say(committed, summary):
    page = (committed / "PROOF.md").read_text(encoding="utf-8")
    assert what_came(summary) in page
    assert made_line(summary.made_with) in page
    for name in SHOWN:
        assert score_lines(read_table(committed / "proof", name)) in page
