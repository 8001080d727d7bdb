import numpy as np
import pytest

from concordant.data.split import Split
from concordant.errors import DataError
from concordant.robustness.predictions import as_table, read_tables, write_table
from concordant.robustness.stress import Scored, Stressed
from concordant.training.config import Variant

PART = Split(
    {"a": np.zeros((3, 1), np.float32)}, np.array([0, 1, 1]), np.array(["x", "y", "z"]), np.array(["g", "g", "h"])
)


def stressed(reliability):
    hit = np.array([[True, False], [False, True], [False, False]])
    present = np.array([[True, True], [True, True], [False, True]])
    one = Scored("corruption.noise", np.array([0, 0, 1]), np.array([0.5, 0.25, 1.0]), reliability, present, hit)
    return Stressed(("a", "b"), {one.condition: one}, {})


def test_a_row_holds_what_was_said_of_an_instance():
    reliability = np.array([[0.5, 1.0], [1.0, 0.25], [0.0, 1.0]], np.float32)
    table = as_table(stressed(reliability), PART, Variant("context", True), 4).to_pylist()
    assert table[0] == {
        "calibrator": "context",
        "perturbed_training": True,
        "seed": 4,
        "condition": "corruption.noise",
        "id": "x",
        "group": "g",
        "label": 0,
        "prediction": 0,
        "confidence": 0.5,
        "corrupted": "a",
        "reliability_a": 0.5,
        "reliability_b": 1.0,
    }
    assert [row["corrupted"] for row in table] == ["a", "b", None]
    assert table[2]["reliability_a"] is None  # absent


def test_without_reliability_the_columns_are_null():
    table = as_table(stressed(None), PART, Variant("none", False), 0)
    assert table["reliability_a"].null_count == 3


def test_tables_written_and_read_are_joined(tmp_path):
    one = as_table(stressed(None), PART, Variant("none", False), 0)
    other = as_table(stressed(np.ones((3, 2), np.float32)), PART, Variant("self", True), 1)
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    write_table(paths[0], one)
    write_table(paths[1], other)
    assert read_tables(paths).to_pylist() == one.to_pylist() + other.to_pylist()


def test_half_a_file_is_said(tmp_path):
    path = tmp_path / "p.parquet"
    write_table(path, as_table(stressed(None), PART, Variant("none", False), 0))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"p.parquet cannot be read as parquet .* remove its folder to run it again"):
        read_tables([path])
