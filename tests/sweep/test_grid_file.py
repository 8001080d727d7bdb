"""Grid files: reading, faults, all at once and with the file, and the experiments that a grid consists of."""

import sys

import numpy as np
import pytest

from concordant.errors import ConcordantError, UsageError
from concordant.sweep.grid_file import Grid, Resources, Search, make_plan, read_grid
from concordant.training.config import make_config


def test_a_grid_file_is_read_whole(grid_file):
    grid = read_grid(
        grid_file(
            """
benchmarks: [digits, utd-mhad]
fusions: [concat, concat@pooled]
calibrators: [none, context]
methods: [none, ogm-ge]
seeds: 3
preset: medium
recipe: {steps: 40}
search:
  budget: 12
  space: {learning_rate: {log: [1e-4, 1e-2]}, dropout: [0.1, 0.3]}
resources: {cpus: 2, gpus: 0.5}
retries: 1
"""
        )
    )
    assert grid.benchmarks == ("digits", "utd-mhad")
    assert grid.fusions == ("concat", "concat@pooled")
    assert grid.methods == ("none", "ogm-ge")
    assert grid.calibrators == ("none", "context")
    assert (grid.seeds, grid.preset, grid.recipe, grid.retries) == (3, "medium", {"steps": 40}, 1)
    assert grid.resources == Resources(cpus=2, gpus=0.5)
    assert grid.search is not None
    assert (grid.search.budget, grid.search.seeds, set(grid.search.space)) == (12, 1, {"learning_rate", "dropout"})


def test_what_is_left_out_is_that_of_concordant_run():
    grid = Grid(benchmarks=("digits",))
    assert grid.fusions is None
    assert grid.calibrators == ("none", "self", "joint", "context")
    assert (grid.seeds, grid.search, grid.resources) == (5, None, Resources(cpus=1, gpus=0))


def test_all_faults_are_said_at_once_with_the_file(grid_file):
    path = grid_file(
        """
benchmarks: [digitz]
fusions: [concat, concat, glue]
calibrators: [none, magic]
methods: [luck]
seeds: 0
stepz: 3
recipe: {steps: -1}
search: {budget: 0, space: {rate: [1]}}
resources: {cpus: 0, gpus: 2}
"""
    )
    with pytest.raises(UsageError) as caught:
        read_grid(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    for fault in (
        "unknown benchmark 'digitz'; choose from: digits, scene15",
        "unknown fusion 'glue'; choose from: lf-dnn",
        "concat is named more than once; name each once",
        "unknown calibrator 'magic'; choose from: none, self",
        "unknown method 'luck'; choose from: none, ogm-ge",
        "seeds: input should be greater than or equal to 1; found 0",
        "stepz: extra inputs are not permitted",
        "recipe: steps: input should be greater than or equal to 1; found -1",
        "search.space: unknown field 'rate'; choose from: steps, batch",
        "search.budget: input should be greater than or equal to 1; found 0",
        "resources.cpus: input should be greater than or equal to 1; found 0",
        "resources.gpus: input should be less than or equal to 1; found 2",
    ):
        assert fault in text


def test_faults_of_the_space_are_those_of_the_search():
    with pytest.raises(ValueError, match=r"unknown field 'rate'.*; width takes whole numbers"):
        Search(budget=1, space={"rate": [1], "width": {"log": [1, 2]}})
    with pytest.raises(
        ValueError, match=r"steps of the recipe is searched; leave it out of recipe, or of search.space"
    ):
        Grid(benchmarks=("digits",), recipe={"steps": 3}, search={"budget": 1, "space": {"steps": [3, 4]}})


def test_a_length_is_searched_in_steps_or_in_epochs():
    with pytest.raises(ValueError, match="steps and epochs are two lengths of one training; search one of them"):
        Grid(benchmarks=("digits",), search={"budget": 1, "space": {"steps": [3], "epochs": [1]}})
    with pytest.raises(ValueError, match="steps of the recipe is searched"):
        Grid(benchmarks=("digits",), recipe={"steps": 3}, search={"budget": 1, "space": {"epochs": [1, 2]}})
    assert Grid(benchmarks=("digits",), search={"budget": 1, "space": {"epochs": [1, 2]}}).search is not None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("benchmarks: [digits", "line 1, column 20: no YAML: expected ',' or ']'"),
        ("seeds: 1\nseeds: 2\n", "line 2, column 1: no YAML: seeds stands there twice"),
        ("- digits\n", "must hold names and values such as 'benchmarks: [digits]'; found ['digits']"),
        ("", "must hold names and values such as 'benchmarks: [digits]'; found None"),
        ("seeds: 2\n", "benchmarks: field required"),
        ("benchmarks: !!python/object/apply:os.getcwd []\n", "no YAML: could not determine a constructor"),
    ],
)
def test_what_is_no_grid_file(grid_file, text, fault):
    path = grid_file(text)
    with pytest.raises(UsageError) as caught:
        read_grid(path)
    assert str(path) in str(caught.value)
    assert fault in str(caught.value)


def test_an_absent_file_and_an_absent_reader(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"the grid file .*nowhere.yaml cannot be read as YAML \(No such file"):
        read_grid(tmp_path / "nowhere.yaml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConcordantError, match=r"need yaml, which is not installed: pip install 'concordant\[scale\]'"):
        read_grid(tmp_path / "nowhere.yaml")


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
