import copy
import re

import pytest

from concordant.errors import DataError
from concordant.files import write_json
from concordant.report.page import read_all, read_documents, render


def test_a_folder_is_read_as_it_was_written(example, write, tmp_path):
    folder = write(example, tmp_path / "run")
    found = read_documents(folder)
    assert found.name == "run"
    assert found.folder == str(folder)
    for kind in ("results", "removal", "corruption", "dynamics", "features", "checks"):
        assert getattr(found, kind) == getattr(example, kind)
    assert found.grid is None
    assert found.rows == {}


def test_an_analysis_that_was_not_made_is_none(example, write, tmp_path):
    folder = write(example, tmp_path)
    (folder / "analyses" / "removal.json").unlink()
    (folder / "analyses" / "check-0.json").unlink()
    found = read_documents(folder)
    assert found.removal is None
    assert found.checks is None
    assert found.analysed


def test_a_grid_keeps_the_rows_that_were_analysed(example_grid, write, tmp_path):
    folder = write(example_grid, tmp_path / "grid")
    for path in (folder / "fusion1" / "analyses").iterdir():
        path.unlink()
    (folder / "other" / "analyses").mkdir(parents=True)
    found = read_documents(folder)
    assert list(found.rows) == ["fusion0", "fusion2"]
    assert found.rows["fusion2"].corruption == example_grid.rows["fusion2"].corruption


def test_a_row_that_names_a_folder_elsewhere_is_not_followed(example, example_grid, write, tmp_path):
    grid = copy.deepcopy(example_grid.grid)
    grid["rows"][0]["row"] = "../elsewhere"
    write(example, tmp_path / "elsewhere")
    write_json(tmp_path / "grid" / "grid.json", grid)
    assert read_documents(tmp_path / "grid").rows == {}


def test_an_absent_folder_and_a_file_are_named(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere does not exist; name the folder of a run, as concordant run printed it"
    ):
        read_documents(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file, not a folder; name the folder of a run"):
        read_documents(tmp_path / "file")


def test_an_unfinished_run_is_named(tmp_path):
    text = re.escape(f"{tmp_path} holds no finished run; give the concordant run command again to finish it")
    with pytest.raises(DataError, match=f"^{text}$"):
        read_documents(tmp_path)


def test_a_sweep_is_its_grids_and_single_experiments(example, example_grid, write, tmp_path):
    grid, single = write(example_grid, tmp_path / "s" / "digits"), write(example, tmp_path / "s" / "utd" / "mult")
    experiments = [{"name": f"digits/{row}", "group": "digits"} for row in ("a", "b")]
    experiments += [{"name": f"utd/{row}", "group": "utd"} for row in ("mult", "unfinished")]
    write_json(
        tmp_path / "s" / "sweep.json", {"schema": "concordant.sweep/1", "state": "failed", "experiments": experiments}
    )
    found = read_all(tmp_path / "s")
    assert [one.name for one in found] == ["digits", "utd, mult"]
    assert found[0].grid == read_documents(grid).grid
    assert found[1].results == read_documents(single).results
    assert "utd, mult" in render(found)
    assert [one.name for one in read_all(single)] == ["mult"]


@pytest.mark.parametrize(
    ("sweep", "text"),
    [
        (
            {"schema": "concordant.sweep/1", "state": "started", "experiments": []},
            "holds no finished experiment; give the",
        ),
        ({"schema": "concordant.sweep/2", "state": "started", "experiments": []}, "was written by a newer Concordant"),
        ({"schema": "concordant.sweep/1", "state": "started"}, "lacks experiments, which concordant.sweep/1 must have"),
        ({"state": "started"}, "is not a document of schema concordant.sweep/1; found no schema"),
    ],
)
def test_a_sweep_that_cannot_be_reported(tmp_path, sweep, text):
    write_json(tmp_path / "sweep.json", sweep)
    with pytest.raises(DataError, match=re.escape(text)):
        read_all(tmp_path)
