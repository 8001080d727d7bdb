"""What is kept of a cell: all that tables need, small, and refused with all its faults where it is none."""

import json

import pytest

from concordant.errors import DataError
from concordant.files import read_json, write_json
from studies.paper.cells import path_of, read_cell_files, request_of
from studies.paper.tables import tables_of


@pytest.fixture
def path(made):
    return path_of(made.results / "proof" / "cells", made.grid.cells[0])


def same(kept, known):
    if isinstance(known, float):
        return kept == pytest.approx(known, rel=1e-5)
    return kept == known


def test_the_tables_of_a_cell_are_those_of_its_runs(made, cell, path):
    timing = read_json(made.out / "digits" / "lf-dnn" / "timing.json")
    kept = read_cell_files(path.parent, [cell.cell])[cell.cell.name].tables_of(cell.cell)
    for name, table in tables_of(cell, timing, resamples=made.grid.resamples).items():
        assert (kept[name].title, kept[name].unit, kept[name].by) == (table.title, table.unit, table.by)
        for mine, theirs in ((kept[name].scores, table.scores), (kept[name].rows, table.rows)):
            assert len(mine) == len(theirs)
            for one, other in zip(mine, theirs, strict=True):
                assert list(one) == list(other)
                assert all(same(one[key], value) for key, value in other.items() if key != "p_holm")
                assert one.get("p_holm") is None  # of a whole table


def test_the_file_says_what_was_asked_and_what_it_was_made_with(made, cell, path):
    values = json.loads(path.read_text())
    assert values["schema"] == "concordant.cell/1"
    assert (values["family"], values["fusion"], values["commit"]) == ("digits", "lf-dnn", "abc")
    assert values["asked"] == request_of(made.grid, made.plan)
    assert values["asked"]["config"]["seeds"] == 2
    assert set(values["asked"]["config"]["tuned"]) == set(cell.labels)
    assert values["asked"]["ablations"]["calibrators"] == list(cell.ablations)
    assert {"torch", "concordant"} <= set(values["versions"])
    assert "processor" in values["hardware"]
    assert not set(cell.cell.columns) & set(values["tables"]["clean"]["scores"])


def test_the_file_is_small(path):
    assert path.stat().st_size < 100_000


def test_a_file_that_is_none_is_refused_with_all_its_faults(made, path, tmp_path):
    values = read_json(path)
    values["schema"] = "another"
    values["extra"] = 1
    del values["tables"]["clean"]["rows"]["p"]
    values["tables"]["removal"]["scores"]["mean"].pop()
    values["tables"]["place"]["scores"]["label"]["at"][0] = 99
    write_json(path_of(tmp_path, made.grid.cells[0]), values)
    expected = (
        r"digits--lf-dnn.json is no concordant.cell/1 document: schema: .*; tables.clean: rows lacks the columns p; "
        r"tables.removal: columns of scores have 2 different lengths; tables.place: scores has a column that points to "
        r"words that are not there; .*extra.*; remove it to run the cell again"
    )
    with pytest.raises(DataError, match=expected):
        read_cell_files(tmp_path, made.grid.cells)


def test_questions_that_are_missing_or_unknown_are_named(made, path, tmp_path):
    values = read_json(path)
    values["tables"]["another"] = values["tables"].pop("clean")
    write_json(path_of(tmp_path, made.grid.cells[0]), values)
    with pytest.raises(DataError, match="tables lacks clean; tables has another, which no question makes"):
        read_cell_files(tmp_path, made.grid.cells)


def test_the_faults_of_all_files_are_named(made, tmp_path):
    from dataclasses import replace

    cells = [replace(made.grid.cells[0], fusion=name) for name in ("lf-dnn", "lmf", "tfn")]
    (tmp_path / "digits--lf-dnn.json").write_text("{")
    write_json(tmp_path / "digits--lmf.json", {"schema": "concordant.cell/1"})
    with pytest.raises(DataError, match=r"(?s)digits--lf-dnn.json cannot be read as JSON.*digits--lmf.json is no"):
        read_cell_files(tmp_path, cells)
