import pickle
import re

import numpy as np
import pytest

pytest.importorskip("datasets")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from concordant.data.formats.mult import MULT, MULTIBENCH
from concordant.data.formats.sentiment import read_sentiment
from concordant.errors import DataError

NAMES = ("text", "audio", "vision")


def holes(steps):
    """Three modalities of three instances, each step there or zeros."""
    there = [arrays(np.bool_, (3, length)) for length in steps]
    return st.tuples(*there).map(lambda drawn: dict(zip(NAMES, drawn, strict=True)))


def filled(there):
    """Return (N, T, D) with zeros where nothing is there, and else one value that is not."""
    return {name: np.stack([mask * 0.0, mask * -2.0], 2) for name, mask in there.items()}


@settings(max_examples=60, deadline=None)
@given(holes((5, 7, 4)))
def test_sequences_of_their_own_rates_end_each_at_its_last_step(there):
    spans = MULT.spans({}, filled(there), "here")
    for name, mask in there.items():
        wanted = [max((step + 1 for step, one in enumerate(row) if one), default=0) for row in mask]
        assert spans[name].tolist() == [[0, end] for end in wanted]
    assert not MULT.drop(spans).any()


@settings(max_examples=60, deadline=None)
@given(holes((5, 5, 5)))
def test_aligned_sequences_end_together(there):
    spans = MULT.spans({}, filled(there), "here")
    either = there["text"] | there["audio"] | there["vision"]
    wanted = [max((step + 1 for step, one in enumerate(row) if one), default=0) for row in either]
    for name in NAMES:
        assert spans[name].tolist() == [[0, end] for end in wanted]


@settings(max_examples=60, deadline=None)
@given(holes((5, 5, 7)))
def test_sequences_that_are_padded_in_front_begin_at_the_first_word(there):
    spans = MULTIBENCH.spans({}, filled(there), "here")

    def first(row):
        return next((step for step, one in enumerate(row) if one), len(row))

    for name, wanted in (("text", "text"), ("audio", "text"), ("vision", "vision")):
        assert spans[name].tolist() == [[first(row), len(there[name][0])] for row in there[wanted]]
    assert MULTIBENCH.drop(spans).tolist() == [not row.any() for row in there["text"]]


def test_a_step_of_nan_alone_is_there():
    values = filled(dict.fromkeys(NAMES, np.zeros((1, 4), np.bool_)))
    values["audio"][0, 2] = np.nan
    assert MULT.spans({}, values, "here")["text"].tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ([["v", "0", "1.5"], ["w_1", "2", "3"]], [("v_0_1.5", "v"), ("w_1_2_3", "w_1")]),
        ([[b"v\xe9", b"0"], [b"w", b"1"]], [("v\xe9_0", "v\xe9"), ("w_1", "w")]),
        (["v[0]", "w[1][2]"], [("v[0]", "v"), ("w[1][2]", "w")]),
        ([["v"], ["w"]], [("v", "v"), ("w", "w")]),
        ([7, 8], [("7", "7"), ("8", "8")]),
    ],
)
def test_names_are_a_video_with_its_start_and_end_or_its_clip(ids, wanted):
    names, videos = MULT.names({"id": np.asarray(ids)})
    assert list(zip(names, videos, strict=True)) == wanted
    assert MULT.names({"labels": np.zeros(2)}) is None


def read(path, **changes):
    split = {**dict.fromkeys(NAMES, np.ones((2, 4, 3))), "labels": np.zeros((2, 1, 1)), **changes}
    path.write_bytes(pickle.dumps({"train": split}, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core."))
    return read_sentiment(path, name="cmu-mosei")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": [["v", "0"], ["w"]]}, "id must be one array; found rows that differ in length"),
        ({"text": [[[1, 2]], [[1], [2]]]}, "text must be one array; found rows that differ in length"),
        ({"vision": [[[1.0]], [[2.0, 3.0]]]}, "vision must be one array; found rows that differ in length"),
        ({"labels": [[1], [1, 2]]}, "labels must be one array; found rows that differ in length"),
        ({"labels": 0.5}, "labels must be one number an instance; found float64 ()"),
        ({"labels": ["1", "2"]}, "labels must be one number an instance; found <U1 (2,)"),
        ({"text": np.full((2, 4, 3), "a")}, "text must be numbers (N, T, D); found <U1 (2, 4, 3)"),
        ({"text": {"a": 1}}, "text must be numbers (N, T, D); found object ()"),
        ({"audio": np.ones((2, 4, 0))}, "audio must be numbers (N, T, D); found float64 (2, 4, 0)"),
        ({"id": "one"}, "all must have as many instances; found {'text': 2, 'audio': 2, 'vision': 2, 'labels': 2, 'id"),
    ],
)
def test_what_is_no_array_of_instances_is_named(tmp_path, changes, said):
    with pytest.raises(DataError, match=rf"x\.pkl, train: {re.escape(said)}"):
        read(tmp_path / "x.pkl", **changes)


def test_lists_of_one_length_are_as_good_as_arrays(tmp_path):
    found = list(read(tmp_path / "x.pkl", text=np.ones((2, 4, 3)).tolist(), labels=[1, -2]).instances)
    assert [(one.id, one.label, len(one.features["text"])) for one in found] == [("train-0", 1, 4), ("train-1", -2, 4)]
