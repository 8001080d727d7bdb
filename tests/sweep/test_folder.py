"""The folder of a sweep: whose it is, who may write, and what is cleared away."""

import json

import pytest

from concordant.errors import UsageError
from concordant.sweep.folder import SweepFolder
from concordant.sweep.grid_file import Grid, Resources

GRID = Grid(benchmarks=("digits",), seeds=2)


def test_a_folder_belongs_to_one_grid(tmp_path):
    folder = SweepFolder(tmp_path / "x" / "s")
    folder.claim(GRID)
    folder.claim(GRID)
    assert json.loads(folder.mark.read_text())["schema"] == "concordant.sweep/1"
    folder.claim(GRID.model_copy(update={"resources": Resources(cpus=2), "retries": 9}))  # how, not what
    with pytest.raises(UsageError) as caught:
        folder.claim(Grid(benchmarks=("digits",), seeds=3))
    assert str(caught.value) == (
        f"{tmp_path / 'x' / 's'} belongs to another grid (seeds: there 2, here 3); name another folder with --out, or "
        "move this one away"
    )


def test_what_is_no_folder_of_a_sweep_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file; name a folder with --out"):
        SweepFolder(tmp_path / "file").claim(GRID)
    with pytest.raises(UsageError, match="is not empty and holds no sweep; name another folder with --out"):
        SweepFolder(tmp_path).claim(GRID)
    with pytest.raises(UsageError, match=r"cannot write to .* \(.+\); name another folder with --out"):
        SweepFolder(tmp_path / "file" / "below").claim(GRID)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_one_sweep_writes(tmp_path):
    folder = SweepFolder(tmp_path / "s")
    folder.claim(GRID)
    with folder.locked(), pytest.raises(UsageError, match="another process is writing to"), folder.locked():
        pass
    with folder.locked():
        pass


def test_what_stopped_attempts_left_is_removed_and_nothing_else(tmp_path):
    folder = SweepFolder(tmp_path / "s")
    folder.claim(GRID)
    runs = folder.path / "digits" / "concat" / "runs" / "none"
    for name, file in (("seed-0", "run.json"), ("seed-1", "weights.safetensors"), (".seed-2.abc.tmp", "run.json")):
        (runs / name).mkdir(parents=True)
        (runs / name / file).write_text("{}")
    (folder.path / "search").mkdir()
    (folder.path / "search" / ".candidate-0.12.tmp.json").write_text("half")
    (folder.path / "search" / "candidate-0.json").write_text("{}")
    folder.clean()
    assert [path.name for path in runs.iterdir()] == ["seed-0"]
    assert [path.name for path in (folder.path / "search").iterdir()] == ["candidate-0.json"]
    assert folder.mark.is_file()
