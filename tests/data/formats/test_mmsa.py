import pickle
import re

import numpy as np
import pytest

pytest.importorskip("datasets")

from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.formats.mmsa import MMSA
from concordant.data.formats.sentiment import read_sentiment
from concordant.errors import DataError

STEPS = {"text": 6, "audio": 9, "vision": 6}


def split(words=(3, 1, 6), **changes):
    """Return a split of MMSA's format, of as many instances as there are numbers of words."""
    count = len(words)
    bert = np.zeros((count, 3, STEPS["text"]), np.float32)
    bert[:, 1] = np.arange(STEPS["text"]) < np.array(words)[:, None]
    return {
        **{name: np.ones((count, steps, 2), np.float32) for name, steps in STEPS.items()},
        "text_bert": bert,
        "audio_lengths": [9] * count,
        "id": [f"v${row}$_$1" for row in range(count)],
        "regression_labels": np.zeros(count),
        **changes,
    }


def read(path, content):
    path.write_bytes(pickle.dumps(content, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core."))
    return list(read_sentiment(path, name="cmu-mosi").instances)


def lengths(found):
    return [[None if x is None else len(x) for x in one.features.values()] for one in found]


def test_a_modality_of_the_steps_of_text_is_as_long_as_the_attention_mask_says(tmp_path):
    assert lengths(read(tmp_path / "x.pkl", {"test": split()})) == [[3, 9, 3], [1, 9, 1], [6, 9, 6]]


def test_lengths_that_are_said_go_before_the_attention_mask(tmp_path):
    found = read(tmp_path / "x.pkl", {"test": split(vision_lengths=np.array([2, 0, 5], np.uint8))})
    assert lengths(found) == [[3, 9, 2], [1, 9, None], [6, 9, 5]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.sampled_from([list, np.float64, np.int32, "column"]),
    st.integers(0, 2**32 - 1),
)
def test_spans_are_from_the_start_to_the_lengths(words, kind, seed):
    audio = np.random.default_rng(seed).integers(0, 10, len(words))
    kinds = {list: audio.tolist, "column": lambda: audio[:, None]}
    said = kinds[kind]() if kind in kinds else audio.astype(kind)
    content = {key: np.asarray(value) for key, value in split(words, audio_lengths=said).items()}
    spans = MMSA.spans(content, {name: content[name] for name in STEPS}, "here")
    for name, wanted in {"text": words, "audio": audio, "vision": words}.items():
        np.testing.assert_array_equal(spans[name], [[0, length] for length in wanted])
    assert not MMSA.drop(spans).any()


@pytest.mark.parametrize("kind", [list, object, "S16"])
def test_names_are_a_video_and_a_clip_as_text_or_bytes(tmp_path, kind):
    names = ["a$_$b$_$1", "alone", "$_$3"]
    ids = names if kind is list else np.array(names, kind)
    found = read(tmp_path / "x.pkl", {"train": split(id=ids)})
    assert [(one.id, one.group) for one in found] == [("a$_$b$_$1", "a$_$b"), ("alone", "alone"), ("$_$3", "$_$3")]


WHOLE = "audio_lengths must be 3 whole numbers from 0 to 9; found"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"audio_lengths": [1, np.nan, 2]}, f"{WHOLE} 3 of float64, such as nan"),
        ({"audio_lengths": [1, 2.5, 2]}, f"{WHOLE} 3 of float64, such as 2.5"),
        ({"audio_lengths": [1, np.inf, 2]}, f"{WHOLE} 3 of float64, such as inf"),
        ({"audio_lengths": [1, 2, -1]}, f"{WHOLE} 3 of int64, such as -1"),
        ({"audio_lengths": [10, 2, 1]}, f"{WHOLE} 3 of int64, such as 10"),
        ({"audio_lengths": ["1", "2", "3"]}, f"{WHOLE} 3 of <U1, such as 1"),
        ({"audio_lengths": [1, 2]}, f"{WHOLE} 2 of int64"),
        ({"audio_lengths": 5}, f"{WHOLE} 1 of int64"),
        ({"audio_lengths": [[1], [1, 2], [1]]}, "audio_lengths must be one array; found rows that differ in length"),
        ({"text_bert": np.ones((2, 3, 6))}, "numbers (3, 3, 6), as text has instances and steps; found float64 (2, 3"),
        ({"text_bert": np.ones((6, 3, 6))}, "found float64 (6, 3, 6)"),
        ({"text_bert": np.full((3, 3, 6), "1")}, "found <U1 (3, 3, 6)"),
        ({"text_bert": np.ones((3, 6))}, "found float64 (3, 6)"),
        ({"text": [[1], [2, 3], [4]]}, "text must be one array; found rows that differ in length"),
        ({"id": [["a"], ["b", "c"], ["d"]]}, "id must be one array; found rows that differ in length"),
        ({"regression_labels": 1.0}, "regression_labels must be one number an instance; found float64 ()"),
        ({"regression_labels": np.zeros((3, 0))}, "regression_labels must be one number an instance; found float64"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, said):
    with pytest.raises(DataError, match=rf"x\.pkl, valid: .*{re.escape(said)}"):
        read(tmp_path / "x.pkl", {"valid": split(**changes)})


def test_an_attention_mask_for_fewer_instances_loses_none(tmp_path):
    aligned = split(audio=np.ones((3, 6, 2)))
    del aligned["audio_lengths"]
    assert len(read(tmp_path / "x.pkl", {"valid": aligned})) == 3
    with pytest.raises(DataError, match=re.escape("text_bert must be numbers (3, 3, 6)")):
        read(tmp_path / "x.pkl", {"valid": aligned | {"text_bert": aligned["text_bert"][:2]}})
