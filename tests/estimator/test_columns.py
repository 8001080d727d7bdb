import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from concordant.estimator import InputError
from concordant.estimator.columns import apply_groups, group_columns


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "text_0": [1.0, 2.0, 3.0],
            "audio_0": [4.0, 5.0, np.nan],
            "text_1": [6.0, 7.0, 8.0],
            "audio_1": [9.0, 10.0, np.nan],
        }
    )


@pytest.mark.parametrize(
    "modalities",
    [
        "_",
        {"text": "text_", "audio": "audio_"},
        {"text": ["text_0", "text_1"], "audio": ["audio_0", "audio_1"]},
        {"text": [0, 2], "audio": slice(1, None, 2)},
        {"text": [True, False, True, False], "audio": [-3, -1]},
        {"text": make_column_selector("text"), "audio": lambda frame: [c for c in frame if c.startswith("a")]},
        [("text", ["text_0", "text_1"]), ("audio", "passthrough", "audio")],
    ],
    ids=["separator", "prefix", "names", "positions", "mask", "callable", "triples"],
)
def test_columns_are_grouped_however_they_are_named(table, modalities):
    groups, found = group_columns(table, modalities)
    assert found.keys() == ["text", "audio"]
    np.testing.assert_array_equal(found["text"], [[1, 6], [2, 7], [3, 8]])
    np.testing.assert_array_equal(found["audio"], [[4, 9], [5, 10], [np.nan, np.nan]])
    np.testing.assert_array_equal(apply_groups(table.iloc[1:], groups)["text"], [[2, 7], [3, 8]])


def test_an_array_is_grouped_by_positions(table):
    _, found = group_columns(table.to_numpy(), {"text": [0, 2], "audio": [1, 3]})
    np.testing.assert_array_equal(found["text"], [[1, 6], [2, 7], [3, 8]])


def test_a_transformer_is_fitted_where_the_block_is_there_and_applied_later():
    frame = pd.DataFrame({"words": ["a b", "b c", None], "colour": ["red", "blue", "red"], "size": [1.0, 3.0, np.nan]})
    scaler = StandardScaler()
    groups, found = group_columns(
        frame,
        [
            ("words", CountVectorizer(analyzer=str.split), "words"),
            ("colour", OneHotEncoder(), ["colour"]),
            ("size", scaler, ["size"]),
        ],
    )
    np.testing.assert_array_equal(found["words"], [[1, 1, 0], [0, 1, 1], [np.nan] * 3])
    np.testing.assert_array_equal(found["colour"], [[0, 1], [1, 0], [0, 1]])
    np.testing.assert_array_equal(found["size"], [[-1], [1], [np.nan]])
    assert not hasattr(scaler, "mean_")  # a clone was fitted
    later = apply_groups(pd.DataFrame({"words": ["c"], "colour": ["blue"], "size": [2.0]}), groups)
    np.testing.assert_array_equal(later["words"], [[0, 0, 1]])
    np.testing.assert_array_equal(later["size"], [[0]])


def test_later_tables_in_which_a_block_is_missing_throughout_are_read():
    frame = pd.DataFrame({"a": [1.0, 2.0], "size": [1.0, 3.0]})
    groups, _ = group_columns(frame, [("a", ["a"]), ("size", StandardScaler(), ["size"])])
    later = apply_groups(pd.DataFrame({"a": [1.0], "size": [np.nan]}), groups)
    assert np.isnan(later["size"]).all()


def test_all_faults_of_the_groups_are_told_at_once(table):
    with pytest.raises(InputError) as caught:
        group_columns(
            table,
            [("a", "x"), ("b", ["text_0", "none"]), ("c", [0, 9]), ("d", [1]), ("d", [3]), "e"],
        )
    message = str(caught.value)
    assert "modalities['a'] is the prefix 'x', with which no column begins" in message
    assert "modalities['b'] names columns that X has not: none" in message
    assert "modalities['c'] must choose some of 4 columns; found [9]" in message
    assert "modalities names 'd' more than once; name each once" in message
    assert "a list of (modality, transformer, columns); found 'e'" in message
    assert "modalities puts columns ['text_0'] into two modalities; put each into one" in message


def test_a_separator_needs_names_that_have_it(table):
    with pytest.raises(InputError, match="no '_1' is in the columns \\['text_0', 'audio_0'\\]"):
        group_columns(table, "_1")
    with pytest.raises(InputError, match="only where X is a DataFrame; found an array"):
        group_columns(table.to_numpy(), "_")


def test_columns_of_words_without_a_transformer_are_refused():
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]})
    with pytest.raises(InputError, match="the columns of modality 'one' must be numbers, or be made so by a transform"):
        group_columns(frame, {"one": ["a"], "two": ["b"]})
