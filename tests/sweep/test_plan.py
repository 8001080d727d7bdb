"""From a grid to experiments: which there are, where they lie, and what does not go together."""

import numpy as np
import pytest

from concordant.errors import UsageError
from concordant.sweep.grid_file import Grid
from concordant.sweep.plan import make_plan
from concordant.training.config import make_config


def test_a_grid_is_benchmarks_by_methods_by_fusions():
    grid = Grid(
        benchmarks=("digits", "utd-mhad"),
        fusions=("concat", "concat@pooled"),
        calibrators=("none", "context"),
        methods=("none", "ogm-ge"),
        seeds=2,
        recipe={"steps": 9},
    )
    plan = make_plan(grid)
    assert [one.name for one in plan] == [
        f"{group}/{row}"
        for group in ("digits", "digits-ogm-ge", "utd-mhad", "utd-mhad-ogm-ge")
        for row in ("concat", "concat@pooled")
    ]
    expected = make_config(
        "utd-mhad",
        fusion="concat",
        calibrate="pooled",
        calibrators=("none", "context"),
        method="ogm-ge",
        seeds=2,
        recipe={"steps": 9},
    )
    assert plan[-1].config == expected


def test_without_fusions_each_benchmark_has_its_own():
    plan = make_plan(Grid(benchmarks=("digits", "scene15")))
    assert [one.name for one in plan] == ["digits/concat", "scene15/lf-dnn"]


def test_data_are_named_so_that_every_machine_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONCORDANT_DATA", raising=False)
    grid = Grid(benchmarks=("digits",))
    assert make_plan(grid)[0].data is None
    assert make_plan(grid, data="mine")[0].data == str(tmp_path / "mine")
    assert make_plan(grid, data="s3://bucket/mine")[0].data == "s3://bucket/mine"
    monkeypatch.setenv("CONCORDANT_DATA", "memory://mine")
    assert make_plan(grid)[0].data == "memory://mine"


def test_a_prepared_dataset_goes_by_its_own_name(tmp_path):
    pytest.importorskip("datasets")
    from concordant.data.formats.own import read_numpy
    from concordant.data.writing import write_store

    draws = np.random.default_rng(0)
    arrays = {name: draws.standard_normal((30, 4)) for name in ("a", "b")}
    np.savez(tmp_path / "mine.npz", label=np.arange(30) % 3, **arrays)
    reading = read_numpy(tmp_path / "mine.npz")
    write_store(tmp_path / "folder", reading.card, reading.instances)
    (one,) = make_plan(Grid(benchmarks=(str(tmp_path / "folder"),)))
    assert (one.name, one.data, one.config.benchmark) == ("mine/lf-dnn", str(tmp_path / "folder"), "own")
    assert one.config.modalities == ("a", "b")
    with pytest.raises(UsageError, match="two benchmarks are called mine; rename one, or sweep them apart"):
        make_plan(Grid(benchmarks=(str(tmp_path / "folder"), f"{tmp_path}/../{tmp_path.name}/folder")))


def test_what_does_not_go_together_is_said_at_once(tmp_path):
    grid = Grid(benchmarks=("digits",), fusions=("concat@tail", "lf-dnn"), protocol="given", modalities=("left",))
    with pytest.raises(UsageError) as caught:
        make_plan(grid, file=tmp_path / "x.yaml")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'x.yaml'}: ")
    assert "unknown protocol of digits 'given'" in text
    assert "concat can be calibrated at maps or pooled; found 'tail'" in text
    assert text.count("one modality alone has nothing to be compared with") == 1
