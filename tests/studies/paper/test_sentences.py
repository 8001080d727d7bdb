"""The sentences, against plain counts over the summary's document."""

import re

import numpy as np
import pytest

from concordant.files import read_json
from concordant.report.format import shown
from studies.paper.sentences import (
    READING,
    every_loss,
    leads,
    losses,
    made_line,
    shares,
    standing,
    swaps,
    verdict,
    what_came,
)
from studies.paper.summary import read_summary
from studies.paper.tables import Table

MADE = {
    "command": "make results",
    "quick": False,
    "finished": 2,
    "planned": 2,
    "missing": [],
    "made": [{"versions": {"torch": "2.7"}, "hardware": {"cores": 2}, "commit": None, "cells": ["a/tfn", "b/tfn"]}],
}
NOTHING = (0.0, 1.0)
COUNTS = {"three modalities or more": range(3, 13), "two modalities": (2,)}  # in the order of the table


def entry(
    benchmark, against, *, modalities=2, clean=NOTHING, corrupted=NOTHING, removal=NOTHING, share=None, swap=None
):
    scores = {"clean": clean, "corrupted_mean": corrupted, "removal_worst": removal}
    return {
        "benchmark": benchmark,
        "protocol": "random",
        "fusion": "tfn",
        "setting": "vector",
        "modalities": [f"m{number}" for number in range(modalities)],
        "seeds": 10,
        "calibrator": "context",
        "against": against,
        **{name: {"mean": 0.5, "difference": gap, "p_holm": p} for name, (gap, p) in scores.items()},
        "oracle_share": share,
        "detection_auroc": {} if swap is None else {"swap": {"which": swap[0], "whether": swap[1]}},
    }


def document(*cells):
    return {"schema": "concordant.summary/1", "made_with": MADE, "cells": list(cells)}


DRAWN = np.random.default_rng(0)
MANY = document(
    *(
        entry(
            f"b{number}",
            against,
            modalities=2 + number % 3,
            clean=(DRAWN.uniform(-0.1, 0.1), DRAWN.choice([0.01, 0.049, 0.05, 0.8])),
            corrupted=(DRAWN.uniform(-0.1, 0.1), DRAWN.choice([0.01, 0.049, 0.05, 0.8])),
            share=[None, 0.2, 0.7, -0.1, 0.5, 0.9][number],
            swap=[None, (0.9, 0.8), (0.7, None), (0.6, 0.5), None, (1.0, 0.9)][number],
        )
        for number in range(6)
        for against in ("none", "none+perturbed", "self")
    )
)


@pytest.fixture(params=["drawn", "committed"])
def values(request, committed):
    return MANY if request.param == "drawn" else read_json(committed / "summary.json")


def tallied(values, what, against, counts):
    """Return mean, cells, above, ahead and behind, counted one by one."""
    gaps, above, ahead, behind = [], 0, 0, 0
    for cell in values["cells"]:
        if cell["against"] == against and len(cell["modalities"]) in counts:
            gap, p = cell[what]["difference"], cell[what]["p_holm"]
            gaps.append(gap)
            above += gap > 0
            ahead += p < 0.05 and gap > 0
            behind += p < 0.05 and gap < 0
    return (100 * sum(gaps) / len(gaps) if gaps else None), len(gaps), above, ahead, behind


def numbers(text):
    return [float(one) for one in re.findall(r"[+-]?\d+\.?\d*", text)]


def test_every_sentence_says_what_is_counted(values):
    said = verdict(read_summary(values))
    others = list(dict.fromkeys(cell["against"] for cell in values["cells"]))
    asked = [("clean", "clean", "none", range(2, 13))]
    asked += [(f"{name}, corrupted", "corrupted_mean", one, c) for name, c in COUNTS.items() for one in others]
    for where, what, against, counts in asked:
        mean, cells, *counted = tallied(values, what, against, counts)
        mine = [one for one in said if one.startswith(f"{where}, against {shown(against)}: ")]
        found = [numbers(line.partition(": ")[2]) for line in mine]
        assert found == ([[pytest.approx(mean, abs=0.0501), cells, *counted]] if cells else [])
        said = [one for one in said if one not in mine]
    assert said == shares(read_summary(values))


def test_the_table_of_leads_says_the_same(values):
    head, rows = leads(read_summary(values))
    assert head == ["points ahead of", "clean", *(f"corrupted, {name}" for name in COUNTS)]
    columns = [("clean", range(2, 13)), *(("corrupted_mean", counts) for counts in COUNTS.values())]
    known = {shown(cell["against"]): cell["against"] for cell in values["cells"]}
    assert [row[0] for row in rows] == list(known)
    for label, *cells in rows:
        for text, (what, counts) in zip(cells, columns, strict=True):
            mean, count, above, *sure = tallied(values, what, known[label], counts)
            assert numbers(text) == ([pytest.approx(mean, abs=0.0501), above, count, *sure] if count else [])


def test_shares_are_counted_once_a_cell(values):
    for name, counts in COUNTS.items():
        found = {}
        for cell in values["cells"]:
            if cell["oracle_share"] is not None and len(cell["modalities"]) in counts:
                place = (cell["benchmark"], cell["protocol"], cell["fusion"], tuple(cell["modalities"]))
                found[place] = 100 * cell["oracle_share"]
        mean = sum(found.values()) / len(found)
        (line,) = [one for one in shares(read_summary(values)) if one.startswith(name)]
        assert numbers(line.partition(": ")[2]) == [
            pytest.approx(mean, abs=0.501),
            len(found),
            pytest.approx(min(found.values()), abs=0.501),
        ]


def test_losses_are_those_that_are_significant_and_no_others():
    cells = [
        entry("a", "none", clean=(-0.02, 0.049), corrupted=(-0.3, 0.05), removal=(0.1, 0.001)),
        entry("b", "none+perturbed", modalities=3, corrupted=(-0.004, 0.0), removal=(-0.123, 0.01)),
    ]
    assert losses(read_summary(document(*cells))) == (
        "Significantly behind: a (random, 2 modalities), tfn, clean, against none, clean (-2.0); "
        "b (random, 3 modalities), tfn, corrupted, against none, perturbed (-0.4); "
        "b (random, 3 modalities), tfn, worst removal, against none, perturbed (-12.3)."
    )
    assert losses(read_summary(document(entry("a", "none")))) == (
        "Nowhere significantly behind: not clean, not in the mean over corruptions, not in the worst removal."
    )


def test_every_loss_in_the_tables_of_accuracies_is_named_and_no_other(rows):
    won, lost = rows.row("self", 0.1, p_holm=0.01), rows.row("gmu", -0.1, p_holm=0.049)
    level = rows.row("joint", -0.1, p_holm=0.05)
    tables = [
        Table("clean", "", "", [], [won, level]),
        Table("removal", "", "", [], [lost | {"condition": "removal.left"}]),
        Table("oracle", "", "", [], [lost]),  # of shares, not of accuracies
    ]
    assert every_loss(tables) == (
        "Of all 3 comparisons of accuracies in the tables, every kind of corruption and every removal by itself, "
        "ours is significantly ahead in 1 and behind in 1: scene15, lf-dnn, removal.left, against gmu (-10.0)."
    )
    assert every_loss(tables[:1]).endswith("in 1 and behind in 0.")


def test_swaps_are_of_cells_that_have_both_areas():
    summary = read_summary(MANY)
    assert swaps(summary).splitlines()[2:] == [
        "| b1 (random, 3 modalities), tfn | 0.90 | 0.80 |",
        "| b3 (random, 2 modalities), tfn | 0.60 | 0.50 |",
        "| b5 (random, 4 modalities), tfn | 1.00 | 0.90 |",
    ]


def test_what_there_is_not_is_not_spoken_of():
    summary = read_summary(document(entry("a", "self", modalities=3, corrupted=(0.02, 0.01))))
    assert verdict(summary) == [
        "three modalities or more, corrupted, against self: +2.0 points in the mean over 1 cell, above in 1; "
        "significantly ahead in 1, behind in 0"
    ]
    assert leads(summary)[0] == ["points ahead of", "clean", "corrupted, three modalities or more"]
    assert swaps(summary) == ""
    assert shares(summary) == []


def test_a_method_that_some_cells_lack_has_an_empty_place():
    summary = read_summary(document(entry("a", "self", modalities=2), entry("b", "gmu", modalities=3)))
    head, rows = leads(summary)
    assert [[name for name, text in zip(head, row, strict=True) if not text] for row in rows] == [head[2:3], head[3:]]


def test_what_came_has_the_table_how_to_read_it_and_every_sentence():
    summary = read_summary(MANY)
    text = what_came(summary)
    assert READING in text
    assert all(f"\n- {line}\n" in text for line in shares(summary))
    assert text.endswith(f"\n\n{losses(summary)}\n")
    assert all(f"| {' | '.join(row)} |" in text for row in leads(summary)[1])


def test_what_it_was_made_with_is_said():
    assert made_line(MADE) == "Made by `make results`. Versions: torch 2.7. Hardware: cores: 2."
    quick = made_line({**MADE, "quick": True, "missing": ["a/mbt"], "finished": 1})
    assert quick.startswith("**This is the quick version: ")
    assert "** **1 of 2 cells so far; not run yet: a (mbt).** Made by" in quick
    assert standing(MADE) == ""
