"""The folder of a sweep: one grid, one writer, no remains of stopped trials, and sweep.json."""

import json

import pytest

from concordant.errors import UsageError
from concordant.sweep.folder import SCHEMA, SweepFolder, document_of
from concordant.sweep.grid_file import Grid, Resources
from concordant.sweep.plan import make_plan
from concordant.sweep.trial import ABOUT
from concordant.training.runs import RunFolder

GRID = Grid(benchmarks=("digits",), seeds=2)
SEARCHED = Grid(
    benchmarks=("digits",),
    fusions=("concat", "sum"),
    calibrators=("none", "context"),
    seeds=2,
    search={"budget": 3, "seeds": 2, "space": {"dropout": [0.1]}},
)


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


def test_a_document_tells_what_is_there(tmp_path):
    folder, plan = SweepFolder(tmp_path / "s"), make_plan(SEARCHED)
    folder.claim(SEARCHED)
    out = RunFolder(folder.path / "digits" / "concat")
    machines = [{"versions": {"torch": "1"}, "hardware": {"cores": n}} for n in (2, 2, 4)]
    for variant, machine in zip(plan[0].config.variants, machines, strict=True):
        run = out.run(variant, 1)
        run.mkdir(parents=True)
        (run / "run.json").write_text("{}")
        (run / ABOUT).write_text(json.dumps({"cpus": 1, **machine}))
    (out.path / "search.json").write_text(json.dumps({"chosen": {"none": None}}))
    found = document_of(
        SEARCHED,
        plan,
        folder,
        {"digits/sum: none, seed 0": "why"},
        state="stopped",
        command="concordant sweep x",
        retried=1,
    )
    assert (found["schema"], found["state"], found["command"], found["retried"]) == (
        SCHEMA,
        "stopped",
        "concordant sweep x",
        1,
    )
    assert (found["trials"], found["runs"], found["finished"]) == (2 * 3 * (2 + 3 * 2), 12, 3)
    assert found["failed"] == [{"trial": "digits/sum: none, seed 0", "error": "why"}]
    assert [(one["name"], one["finished"], one["results"], one["chosen"]) for one in found["experiments"]] == [
        ("digits/concat", 3, False, {"none": None}),
        ("digits/sum", 0, False, None),
    ]
    assert sorted(one["hardware"]["cores"] for one in found["machines"]) == [2, 4]  # each kind once
    json.dumps(found, allow_nan=False)
