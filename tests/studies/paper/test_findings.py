"""The findings, against plain counts over the rows of the tables."""

import re

import numpy as np
import pytest

from concordant.files import read_json
from concordant.report.format import shown
from concordant.report.record import markdown
from studies.paper.cells import read_cell_files
from studies.paper.findings import (
    READING,
    Findings,
    every_loss,
    leads,
    losses,
    made_line,
    made_with,
    rows_of,
    shares,
    standing,
    summarise,
    swaps,
    what_came,
)
from studies.paper.grid import FULL, Family, Grid
from studies.paper.tables import Table

MADE = {
    "command": "make results",
    "quick": False,
    "finished": 2,
    "planned": 2,
    "missing": [],
    "made": [{"versions": {"torch": "2.7"}, "hardware": {"cores": 2}, "commit": None, "cells": ["a/tfn", "b/tfn"]}],
}
NAMES = ("clean", "corruption", "removal", "oracle", "detection")
CONDITIONS = {"clean": "clean", "corruption": "corruption.mean", "removal": "removal.worst"}
COUNTS = {"three modalities or more": range(3, 13), "two modalities": (2,)}  # in the order of the table


@pytest.fixture
def findings_of(rows):
    """Return a function that makes tables of entries (family, against, keywords), each score as (difference, p)."""

    def make(*entries):
        found = {name: Table(name, "", "", [], []) for name in NAMES}
        for family, against, more in entries:
            here = {"family": family, "fusion": "tfn", "modalities": more.get("modalities", 2)}
            for name, condition in CONDITIONS.items():
                difference, p = more.get(name, (0.0, 1.0))
                found[name].rows.append(rows.row(against, difference, p, condition=condition, **here))
                found[name].rows.append(rows.row(against, -0.9, 0.001, condition="another", **here))
            if more.get("share") is not None and family not in {row["family"] for row in found["oracle"].scores}:
                found["oracle"].scores.extend(rows.score(one, more["share"], **here) for one in ("context", "none"))
            if more.get("swap") is not None and family not in {row["family"] for row in found["detection"].scores}:
                for what, area in zip(("which", "whether"), more["swap"], strict=True):
                    for severity, shift in ((1, -0.3), (5, 0.0)):
                        if area is not None:
                            condition = f"{what}.swap.{severity}"
                            found["detection"].scores.append(
                                rows.score("context", area + shift, condition=condition, **here)
                            )
        found["clean"].rows[:] = [row for row in found["clean"].rows if row["condition"] == "clean"]
        return Findings(Grid((), severities=(1, 5)), found, MADE)

    return make


@pytest.fixture
def many(findings_of):
    draws = np.random.default_rng(0)
    return findings_of(
        *(
            (
                f"b{number}",
                against,
                {
                    "modalities": 2 + number % 3,
                    "clean": (draws.uniform(-0.1, 0.1), draws.choice([0.01, 0.049, 0.05, 0.8])),
                    "corruption": (draws.uniform(-0.1, 0.1), draws.choice([0.01, 0.049, 0.05, 0.8])),
                    "share": [None, 0.2, 0.7, -0.1, 0.5, 0.9][number],
                    "swap": [None, (0.9, 0.8), (0.7, None), (0.6, 0.5), None, (1.0, 0.9)][number],
                },
            )
            for number in range(6)
            for against in ("none", "none+perturbed", "self")
        )
    )


@pytest.fixture(params=["drawn", "committed"])
def findings(request, many, known):
    return many if request.param == "drawn" else known


def tallied(findings, name, against, counts):
    """Return mean, cells, above, ahead and behind, counted one by one."""
    gaps, above, ahead, behind = [], 0, 0, 0
    for row in findings.tables[name].rows:
        if row["condition"] == CONDITIONS[name] and row["to"] == against and row["modalities"] in counts:
            gap, p = row["difference"], row["p_holm"]
            gaps.append(gap)
            above += gap > 0
            ahead += p < 0.05 and gap > 0
            behind += p < 0.05 and gap < 0
    return (100 * sum(gaps) / len(gaps) if gaps else None), len(gaps), above, ahead, behind


def numbers(text):
    return [float(one) for one in re.findall(r"[+-]?\d+\.?\d*", text)]


def test_the_table_of_leads_has_what_is_counted(findings):
    table = leads(findings)
    assert table.columns == ["points ahead of", "clean", *(f"corrupted, {name}" for name in COUNTS)]
    columns = [("clean", range(2, 13)), *(("corruption", counts) for counts in COUNTS.values())]
    labels = {shown(row["to"]): row["to"] for row in findings.tables["clean"].rows}
    assert [row[0] for row in table.rows] == list(labels)
    for label, *cells in table.rows:
        for text, (name, counts) in zip(cells, columns, strict=True):
            mean, count, above, *sure = tallied(findings, name, labels[label], counts)
            assert numbers(text) == ([pytest.approx(mean, abs=0.0501), above, count, *sure] if count else [])


def test_shares_are_counted_once_per_cell(findings):
    for name, counts in COUNTS.items():
        ours = [
            row for row in findings.tables["oracle"].scores if row["label"] == "context" and row["modalities"] in counts
        ]
        found = [100 * row["mean"] for row in ours]
        (line,) = [one for one in shares(findings) if one.startswith(name)]
        assert numbers(line.partition(": ")[2]) == [
            pytest.approx(sum(found) / len(found), abs=0.501),
            len(found),
            pytest.approx(min(found), abs=0.501),
        ]


def test_losses_are_those_that_are_significant_and_no_others(findings_of):
    found = findings_of(
        ("a", "none", {"clean": (-0.02, 0.049), "corruption": (-0.3, 0.05), "removal": (0.1, 0.001)}),
        ("b", "none+perturbed", {"modalities": 3, "corruption": (-0.004, 0.0), "removal": (-0.123, 0.01)}),
    )
    assert losses(found) == (
        "Significantly behind: a (random, 2 modalities), tfn, clean, against none, clean (-2.0); "
        "b (random, 3 modalities), tfn, corrupted, against none, perturbed (-0.4); "
        "b (random, 3 modalities), tfn, worst removal, against none, perturbed (-12.3)."
    )
    assert losses(findings_of(("a", "none", {}))) == (
        "Nowhere significantly behind: not clean, not in the mean over corruptions, not in the worst removal."
    )


def test_every_loss_in_the_findings_of_accuracies_is_named_and_no_other(rows):
    won, lost = rows.row("self", 0.1, p_holm=0.01), rows.row("gmu", -0.1, p_holm=0.049)
    level = rows.row("joint", -0.1, p_holm=0.05)
    tables = {
        "clean": Table("clean", "", "", [], [won, level]),
        "removal": Table("removal", "", "", [], [lost | {"condition": "removal.left"}]),
        "oracle": Table("oracle", "", "", [], [lost]),  # of shares, not of accuracies
    }
    assert every_loss(Findings(FULL, tables, MADE)) == (
        "Of all 3 comparisons of accuracies in the tables, every kind of corruption and every removal by itself, "
        "ours is significantly ahead in 1 and behind in 1: scene15, lf-dnn, removal.left, against gmu (-10.0)."
    )
    assert every_loss(Findings(FULL, {"clean": tables["clean"]}, MADE)).endswith("in 1 and behind in 0.")


def test_swaps_are_of_cells_that_have_both_areas_at_the_highest_severity(many):
    assert swaps(many).splitlines()[2:] == [
        "| b1 (random, 3 modalities), tfn | 0.90 | 0.80 |",
        "| b3 (random, 2 modalities), tfn | 0.60 | 0.50 |",
        "| b5 (random, 4 modalities), tfn | 1.00 | 0.90 |",
    ]


def test_what_is_absent_has_no_column_and_no_sentence(findings_of):
    found = findings_of(("a", "self", {"modalities": 3, "corruption": (0.02, 0.01)}))
    assert leads(found).columns == ["points ahead of", "clean", "corrupted, three modalities or more"]
    assert leads(found).rows[0][2] == "+2.0 (above in 1 of 1; 1 ahead, 0 behind)"
    assert swaps(found) == ""
    assert shares(found) == []


def test_a_method_that_some_cells_lack_has_an_empty_place(findings_of):
    table = leads(findings_of(("a", "self", {"modalities": 2}), ("b", "gmu", {"modalities": 3})))
    found = [[name for name, text in zip(table.columns, row, strict=True) if not text] for row in table.rows]
    assert found == [table.columns[2:3], table.columns[3:]]


def test_what_came_has_the_table_how_to_read_it_and_every_sentence(many):
    text = what_came(many)
    assert text.startswith(markdown(leads(many)))
    assert READING in text
    assert all(f"\n- {line}\n" in text for line in shares(many))
    assert text.endswith(f"\n\n{losses(many)}\n")


def test_command_versions_and_hardware_are_named():
    assert made_line(MADE) == "Made by `make results`. Versions: torch 2.7. Hardware: cores: 2."
    quick = made_line({**MADE, "quick": True, "missing": ["a/mbt"], "finished": 1})
    assert quick.startswith("**This is the quick version: ")
    assert "** **1 of 2 cells so far; not run yet: a (mbt).** Made by" in quick
    assert standing(MADE) == ""
    (here,) = MADE["made"]
    there = {**here, "hardware": {"cores": 99}}
    line = made_line({**MADE, "made": [here, {**here, "commit": "def", "cells": ["c"]}, there]})
    assert (
        "3 cells: Versions: torch 2.7. Hardware: cores: 2. 2 cells: Versions: torch 2.7. Hardware: cores: 99." in line
    )


SCORE = {"mean", "difference", "p_holm"}
KEYS = {
    *("benchmark", "protocol", "fusion", "setting", "modalities", "seeds", "calibrator", "against"),
    *("clean", "corrupted_mean", "removal_worst", "oracle_share", "detection_auroc"),
}
GRID = Grid(
    (
        Family("scenes", "scene15", ("lf-dnn", "lmf"), 7),
        Family("maps", "av-digits", ("sum",), 5, protocol="leave-subject-out"),
    ),
    severities=(1, 5),
)


@pytest.fixture
def tables(rows):
    """Return tables of three cells, in which every number tells where it belongs."""
    found = {name: Table(name, "", "", [], []) for name in (*CONDITIONS, "corruption-kinds", "oracle", "detection")}
    for number, cell in enumerate(GRID.cells):
        here = {"family": cell.family.name, "fusion": cell.fusion}
        for to, lead in (("none", 0.01), ("self", -0.02)):
            for place, (name, condition) in enumerate(CONDITIONS.items()):
                gap = lead + number / 10 + place / 1000
                found[name].rows.append(rows.row(to, gap, 0.1 + gap, mean=0.4 + gap, condition=condition, **here))
                if condition != "clean":
                    found[name].rows.append(rows.row(to, 0.9, condition="another", **here))
        for label in ("self", "context"):
            found["oracle"].scores.append(rows.score(label, number + (label == "self"), **here))
            for kind, severity in (("swap", 1), ("swap", 5), ("blur", 5)):
                area = 0.5 + number / 10 + severity / 100 + (label == "self") / 1000
                found["detection"].scores.append(rows.score(label, area, condition=f"which.{kind}.{severity}", **here))
        for kind in ("swap", "blur"):
            found["corruption-kinds"].scores.append(rows.score("context", 0.5, condition=f"corruption.{kind}", **here))
    return found


def test_the_summary_has_the_keys_of_its_schema_and_no_others(tables):
    document = summarise(Findings(GRID, tables, {"command": "here"}))
    assert set(document) == {"schema", "made_with", "cells"}
    assert document["schema"] == "concordant.summary/1"
    assert document["made_with"] == {"command": "here"}
    for cell in document["cells"]:
        assert set(cell) == KEYS
        assert set(cell["clean"]) == set(cell["corrupted_mean"]) == set(cell["removal_worst"]) == SCORE
        assert all(set(areas) == {"which", "whether"} for areas in cell["detection_auroc"].values())


def test_every_cell_meets_every_method_with_its_own_numbers(tables):
    found = iter(summarise(Findings(GRID, tables, {}))["cells"])
    for number, cell in enumerate(GRID.cells):
        for to, lead in (("none", 0.01), ("self", -0.02)):
            one = next(found)
            assert (one["benchmark"], one["protocol"]) == (cell.family.name, "random")  # as the rows have it
            assert (one["fusion"], one["against"], one["seeds"]) == (cell.fusion, to, 10)
            assert one["modalities"] == list(cell.family.names)
            assert one["setting"] == ("convolutional" if cell.fusion == "sum" else "vector")
            for place, name in enumerate(("clean", "corrupted_mean", "removal_worst")):
                gap = lead + number / 10 + place / 1000
                assert one[name] == {"mean": 0.4 + gap, "difference": gap, "p_holm": 0.1 + gap}
            assert one["oracle_share"] == number
            assert one["detection_auroc"] == {
                kind: {"which": 0.5 + number / 10 + 0.05, "whether": None} for kind in ("swap", "blur")
            }
    assert next(found, None) is None


def test_without_a_way_and_without_reliability_there_are_nulls(tables):
    tables["oracle"] = Table("oracle", "", "", [])
    tables["detection"] = Table("detection", "", "", [])
    for cell in summarise(Findings(GRID, tables, {}))["cells"]:
        assert cell["oracle_share"] is None
        assert cell["detection_auroc"] == {kind: {"which": None, "whether": None} for kind in ("swap", "blur")}


def test_rows_of_a_cell_are_those_of_its_family_and_fusion(tables):
    for cell in GRID.cells:
        mine = rows_of(tables["removal"].rows, cell)
        assert len(mine) == 4
        assert {(row["family"], row["fusion"]) for row in mine} == {(cell.family.name, cell.fusion)}
        assert len(rows_of(tables["removal"].rows, cell, "removal.worst")) == 2


def test_cells_that_were_made_alike_are_told_together(committed):
    files = list(read_cell_files(committed / "proof" / "cells", FULL.cells).items())[:3]
    assert len(files) == 3
    here, there = ({"versions": {"torch": v}, "hardware": {"cores": 2}, "commit": None} for v in ("1", "2"))
    known = {name: one.model_copy(update=made) for (name, one), made in zip(files, (here, there, here), strict=True)}
    first, second, third = known
    made = made_with(FULL, "this", known)
    assert made["made"] == [{**here, "cells": [first, third]}, {**there, "cells": [second]}]
    assert (made["command"], made["finished"], made["planned"]) == ("this", 3, len(FULL.cells))
    assert set(made["missing"]) == {cell.name for cell in FULL.cells} - set(known)
    assert set(made["searched"]) == set(known)


def column(values):
    return values if isinstance(values, list) else [values["words"][place] for place in values["at"]]


def test_the_committed_summary_is_what_the_committed_cells_say(committed):
    summary = read_json(committed / "summary.json")
    names = {name for one in summary["made_with"]["made"] for name in one["cells"]}
    cells = {cell: committed / "proof" / "cells" / f"{cell.replace('/', '--')}.json" for cell in names}
    files = {name: read_json(path)["tables"] for name, path in cells.items()}
    families = {family.name: family for family in FULL.families}
    for table, (condition, key) in {
        "clean": ("clean", "clean"),
        "corruption": ("corruption.mean", "corrupted_mean"),
        "removal": ("removal.worst", "removal_worst"),
    }.items():
        rows = [
            (name, dict(zip(parts["rows"], values, strict=True)))
            for name, file in files.items()
            for parts in [file[table]]
            for values in zip(*map(column, parts["rows"].values()), strict=True)
        ]
        rows.sort(key=lambda one: one[1]["p"])
        expected, least = {}, 0.0
        for rank, (name, row) in enumerate(rows):
            least = min(1.0, max(least, row["p"] * (len(rows) - rank)))
            if row["condition"] == condition:
                family, _, fusion = name.partition("/")
                place = (families[family].benchmark, families[family].split, families[family].names, fusion)
                expected[*place, row["to"]] = (row["mean_of"], row["difference"], pytest.approx(least))
        found = {
            (one["benchmark"], one["protocol"], tuple(one["modalities"]), one["fusion"], one["against"]): (
                one[key]["mean"],
                one[key]["difference"],
                one[key]["p_holm"],
            )
            for one in summary["cells"]
        }
        assert found == expected
