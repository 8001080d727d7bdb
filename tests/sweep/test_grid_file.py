"""Grid files: reading, and faults, all at once and with the file."""

import sys

import pytest

from concordant.errors import ConcordantError, UsageError
from concordant.sweep.grid_file import Grid, Resources, Search, read_grid


def test_a_grid_file_is_read_whole(grid_file):
    grid = read_grid(
        grid_file(
            """
benchmarks: [digits, utd-mhad]
fusions: [concat, concat@pooled]
calibrators: [none, context]
methods: [none, ogm-ge]
seeds: 3
preset: paper
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
    assert (grid.seeds, grid.preset, grid.recipe, grid.retries) == (3, "paper", {"steps": 40}, 1)
    assert grid.resources == Resources(cpus=2, gpus=0.5)
    assert grid.search is not None
    assert (grid.search.budget, grid.search.seeds, set(grid.search.values)) == (12, 1, {"learning_rate", "dropout"})


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
    with pytest.raises(UsageError, match=r"the grid file .*nowhere.yaml cannot be read \(.*No such file"):
        read_grid(tmp_path / "nowhere.yaml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(
        ConcordantError, match=r"need PyYAML, which is not installed: pip install 'concordant\[scale\]'"
    ):
        read_grid(tmp_path / "nowhere.yaml")
