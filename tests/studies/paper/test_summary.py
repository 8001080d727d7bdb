"""The summary: its keys, which rows it takes, and the committed one against the committed cells."""

import pytest

from concordant.errors import DataError
from concordant.files import read_json
from studies.paper.cells import read_cell_files
from studies.paper.grid import FULL, Family, Grid
from studies.paper.summary import made_with, read_summary, rows_of, summarise
from studies.paper.tables import Table

SCORE = {"mean", "difference", "p_holm"}
KEYS = {
    *("benchmark", "protocol", "fusion", "setting", "modalities", "seeds", "calibrator", "against"),
    *("clean", "corrupted_mean", "removal_worst", "oracle_share", "detection_auroc"),
}
GRID = Grid(
    (
        Family("scenes", "scene15", ("lf-dnn", "lmf"), "lf-dnn", 7),
        Family("maps", "av-digits", ("sum",), "sum", 5, protocol="leave-subject-out"),
    ),
    severities=(1, 5),
)
CONDITIONS = {"clean": "clean", "corruption": "corruption.mean", "removal": "removal.worst"}


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


def test_the_document_has_the_keys_of_its_schema_and_no_others(tables):
    document = summarise(GRID, tables, {"command": "here"}).document()
    assert set(document) == {"schema", "made_with", "cells"}
    assert document["schema"] == "concordant.summary/1"
    assert document["made_with"] == {"command": "here"}
    for cell in document["cells"]:
        assert set(cell) == KEYS
        assert set(cell["clean"]) == set(cell["corrupted_mean"]) == set(cell["removal_worst"]) == SCORE
        assert all(set(areas) == {"which", "whether"} for areas in cell["detection_auroc"].values())
    assert read_summary(document).document() == document


def test_every_cell_meets_every_method_with_its_own_numbers(tables):
    found = iter(summarise(GRID, tables, {}).document()["cells"])
    for number, cell in enumerate(GRID.cells):
        for to, lead in (("none", 0.01), ("self", -0.02)):
            one = next(found)
            assert (one["benchmark"], one["protocol"]) == (cell.family.benchmark, cell.family.split)
            assert (one["fusion"], one["against"], one["seeds"]) == (cell.fusion, to, cell.family.seeds)
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
    for cell in summarise(GRID, tables, {}).document()["cells"]:
        assert cell["oracle_share"] is None
        assert cell["detection_auroc"] == {kind: {"which": None, "whether": None} for kind in ("swap", "blur")}


def test_rows_of_a_cell_are_those_of_its_family_and_fusion(tables):
    for cell in GRID.cells:
        mine = rows_of(tables["removal"].rows, cell)
        assert len(mine) == 4
        assert {(row["family"], row["fusion"]) for row in mine} == {(cell.family.name, cell.fusion)}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("clean", "mean"), 50.0, "clean.mean: input should be less than or equal to 1"),
        (("modalities",), ["one"], "modalities: tuple should have at least 2 items"),
        (("setting",), "graph", "setting: input should be 'vector', 'sequence' or 'convolutional'"),
        (("detection_auroc", "swap", "which"), -0.1, "swap.which: input should be greater than or equal to 0"),
    ],
)
def test_what_no_summary_can_say_is_refused(tables, place, value, said):
    document = summarise(GRID, tables, {}).document()
    *path, last = place
    inner = document["cells"][0]
    for step in path:
        inner = inner[step]
    inner[last] = value
    with pytest.raises(DataError) as caught:
        read_summary(document)
    assert str(caught.value).startswith("this is no concordant.summary/1 document: cells.0.")
    assert said in str(caught.value)


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
    assert set(made["searched"]) == {one.family for one in known.values()}


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
