import os
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from concordant.data.formats.sentiment import MMSA, MULT, MULTIBENCH, read_sentiment
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError

pytest.importorskip("datasets")


TEXT, AUDIO, VISION = 7, 5, 6
PARTS = ("train", "valid", "test")


def write(path, content):
    """Write a pickle as the published ones are: protocol 2, with the module names of NumPy 1."""
    plain = pickle.dumps(content, protocol=2)
    path.write_bytes(plain.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    return path


def padded(draws, lengths, steps, size, dtype=np.float32, *, front=False):
    values = (draws.standard_normal((len(lengths), steps, size)) + 3).astype(dtype)
    places = np.arange(steps)
    ends = np.asarray(lengths)[:, None]
    values[(places < steps - ends) if front else (places >= ends)] = 0
    return values


def mmsa(draws, lengths, *, aligned, steps=(10, 12, 14)):
    split = {}
    for part, rows in lengths.items():
        text, audio, vision = np.array(rows).T if rows else np.zeros((3, 0), int)
        if aligned:
            audio = vision = text
            steps = (10, 10, 10)
        bert = np.zeros((len(rows), 3, steps[0]), np.float32)
        bert[:, 1] = np.arange(steps[0]) < text[:, None]
        split[part] = {
            "raw_text": np.array(["words"] * len(rows), object),
            "text": padded(draws, text, steps[0], TEXT),
            "text_bert": bert,
            "audio": padded(draws, audio, steps[1], AUDIO, np.float64),
            "vision": padded(draws, vision, steps[2], VISION),
            "id": np.array([f"{part}{k // 2}$_${k}" for k in range(len(rows))], object),
            "annotations": ["Positive"] * len(rows),
            "regression_labels": np.linspace(-3, 3, len(rows)).astype(np.float32),
        }
        if not aligned:
            split[part] |= {"audio_lengths": audio.tolist(), "vision_lengths": vision.tolist()}
    return split


def some(count=4, most=8):
    return [(1 + k % most, 1 + (3 * k) % most, 1 + (5 * k) % most) for k in range(count)]


def lengths():
    row = st.tuples(st.integers(1, 10), st.integers(0, 12), st.integers(0, 14))
    return st.fixed_dictionaries({part: st.lists(row, min_size=1, max_size=4) for part in PARTS})


@settings(max_examples=20, deadline=None)
@given(lengths(), st.booleans())
def test_mmsa_sequences_are_stored_at_their_true_length(tmp_path_factory, rows, aligned):
    folder = tmp_path_factory.mktemp("mmsa")
    content = mmsa(np.random.default_rng(0), rows, aligned=aligned)
    reading = read_sentiment(write(folder / "x.pkl", content), name="cmu-mosi")
    write_store(folder / "store", reading.card, reading.instances, findings=reading.findings)
    store = Store(folder / "store")
    assert store.card.label.kind == "real"
    place = 0
    for part in PARTS:
        for row, (text, audio, vision) in enumerate(rows[part]):
            found = store[place]
            place += 1
            wanted = {"text": text, "audio": text if aligned else audio, "vision": text if aligned else vision}
            assert (found.split, found.id, found.group) == (part, f"{part}{row // 2}$_${row}", f"{part}{row // 2}")
            assert found.label == content[part]["regression_labels"][row]
            for name, length in wanted.items():
                if length == 0:
                    assert found.features[name] is None
                else:
                    np.testing.assert_array_equal(
                        found.features[name], content[part][name][row, :length].astype(np.float32)
                    )
    assert place == len(store)


def test_values_that_are_no_finite_float32_are_replaced_and_counted(tmp_path):
    content = mmsa(np.random.default_rng(0), {"train": some()}, aligned=False)
    content["train"]["audio"][0, 0] = [-np.inf, np.nan, 1e300, 2, 3]
    reading = read_sentiment(write(tmp_path / "x.pkl", content), name="cmu-mosei")
    card = write_store(tmp_path / "store", reading.card, reading.instances, findings=reading.findings)
    assert Store(tmp_path / "store")[0].features["audio"][0].tolist() == [0, 0, 0, 2, 3]
    assert "3 of 70 values replaced by 0 (1 NaN, 1 infinite, 1 too large for float32)" in card.repairs["audio"]


def test_sequences_of_zeros_are_absent_and_names_that_occur_twice_get_a_number(tmp_path):
    content = mmsa(np.random.default_rng(0), {"train": some()}, aligned=False)
    content["train"]["vision"][2] = 0
    content["train"]["id"][:] = "v$_$1"
    reading = read_sentiment(write(tmp_path / "x.pkl", content), name="cmu-mosi")
    found = list(reading.instances)
    assert [one.id for one in found] == ["v$_$1", "v$_$1#2", "v$_$1#3", "v$_$1#4"]
    assert found[2].features["vision"] is None
    assert reading.findings.notes == [
        "1 instances have no vision: every value is 0",
        "3 names occurred before; they got a number",
    ]


def mult(draws, rows, *, steps, front=False, ids=None):
    columns = np.array(rows).T
    split = {
        name: padded(draws, column, step, size, front=front)
        for name, column, step, size in zip(
            ("text", "audio", "vision"), columns, steps, (300, AUDIO, VISION), strict=True
        )
    }
    split["labels"] = np.linspace(-1, 1, len(rows)).reshape(-1, 1, 1)
    return split | ({} if ids is None else {"id": ids})


def test_mult_files_are_cut_behind_the_last_step_that_is_there(tmp_path):
    ids = np.array([[b"vid0", b"1.0", b"2.5"], [b"vid0", b"2.5", b"3"], [b"vid1", b"0", b"1"], [b"vid2", b"0", b"1"]])
    content = {"train": mult(np.random.default_rng(0), some(), steps=(10, 12, 14), ids=ids)}
    reading = read_sentiment(write(tmp_path / "x.pkl", content), name="cmu-mosi")
    found = list(reading.instances)
    assert [(one.id, one.group) for one in found][:2] == [("vid0_1.0_2.5", "vid0"), ("vid0_2.5_3", "vid0")]
    for one, row in zip(found, some(), strict=True):
        assert tuple(len(one.features[name]) for name in ("text", "audio", "vision")) == row
    assert "text looks like GloVe word vectors, by its 300 features" in reading.card.notes


def test_aligned_mult_files_keep_one_length_for_all(tmp_path):
    content = {"train": mult(np.random.default_rng(0), some(), steps=(10, 10, 10))}
    reading = read_sentiment(write(tmp_path / "x.pkl", content), name="cmu-mosi")
    assert reading.card.groups is None
    for row, (one, sizes) in enumerate(zip(reading.instances, some(), strict=True)):
        assert one.id == f"train-{row}"
        assert {len(one.features[name]) for name in ("text", "audio", "vision")} == {max(sizes)}


def test_multibench_files_are_cut_before_the_first_word_and_lose_what_has_none(tmp_path):
    rows = [(3, 9, 9), (10, 10, 10), (0, 4, 4), (1, 1, 2)]
    content = {"train": mult(np.random.default_rng(0), rows, steps=(10, 10, 10), front=True)}
    reading = read_sentiment(write(tmp_path / "x.pkl", content), name="cmu-mosi")
    found = list(reading.instances)
    assert [one.id for one in found] == ["train-0", "train-1", "train-3"]
    assert [len(one.features["audio"]) for one in found] == [3, 10, 1]
    np.testing.assert_array_equal(found[0].features["text"], content["train"]["text"][0, 7:])
    assert reading.findings.notes == ["1 instances without any text were left out, as MultiBench does"]


def change(content, key, value):
    content["train"][key] = value
    return content


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: [1, 2], "is no sentiment pickle that is known: found list; expected a dictionary with train, valid"),
        (lambda c: {"a": 1}, "is no sentiment pickle that is known: found a; expected"),
        (lambda c: {"train": {"x": 1}}, "found in a split x; expected"),
        (lambda c: {"train": 3}, "found int; expected"),
        (
            lambda c: {**c, "test": {"text": 1}},
            "test has no audio, vision, id, text_bert, regression_labels; found text",
        ),
        (lambda c: {**c, "test": 3}, "test must be a dictionary; found int"),
        (
            lambda c: change(c, "audio", np.zeros((4, 3))),
            "train: audio must be numbers (N, T, D); found float64 (4, 3)",
        ),
        (
            lambda c: change(c, "vision", np.ones((3, 14, 6))),
            "all must have as many instances; found {'text': 4, 'audio': 4, 'vision': 3, 'regression_labels': 4, ",
        ),
        (
            lambda c: change(c, "regression_labels", np.array([0, 4.0, np.nan, 1])),
            "regression_labels must lie in [-3, 3]; found 2 that do not, first 4.0 at 1",
        ),
        (
            lambda c: change(c, "regression_labels", np.zeros((4, 2))),
            "regression_labels must be one number an instance; found float64 (4, 2)",
        ),
        (
            lambda c: change(c, "text_bert", np.zeros((4, 3, 9))),
            "text_bert must be numbers (4, 3, 10), as text has instances and steps; found float64 (4, 3, 9)",
        ),
        (
            lambda c: change(c, "text_bert", np.eye(10)[None, :3].repeat(4, 0)),
            "the attention mask of text_bert must be ones and then zeros",
        ),
        (
            lambda c: change(c, "audio_lengths", [1, 2, 3, 13]),
            "audio_lengths must be 4 whole numbers from 0 to 12; found 4 of int64, such as 13",
        ),
        (
            lambda c: {"train": {k: v for k, v in c["train"].items() if k != "audio_lengths"}},
            "audio has 12 steps where text has 10, so audio_lengths is needed",
        ),
        (
            lambda c: {**c, "test": {**c["train"], "audio": np.ones((4, 12, 9))}},
            "audio has 5 features in one split and 9 in test",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_sentence(tmp_path, spoil, said):
    content = spoil(mmsa(np.random.default_rng(0), {"train": some()}, aligned=False))
    with pytest.raises(DataError, match=re.escape(said)):
        list(read_sentiment(write(tmp_path / "x.pkl", content), name="cmu-mosi").instances)


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_that_would_run_a_command_is_refused_and_nothing_runs(tmp_path):
    mark = tmp_path / "ran"
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"train": Malicious(mark)}, protocol=2))
    with pytest.raises(DataError, match=r"asks for (posix|nt)\.system, which data do not need; nothing of it was run"):
        read_sentiment(path, name="cmu-mosi")
    assert not mark.exists()


pytest.importorskip("datasets")


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


def lengths_of(found):
    return [[None if x is None else len(x) for x in one.features.values()] for one in found]


def test_a_modality_of_the_steps_of_text_is_as_long_as_the_attention_mask_says(tmp_path):
    assert lengths_of(read(tmp_path / "x.pkl", {"test": split()})) == [[3, 9, 3], [1, 9, 1], [6, 9, 6]]


def test_lengths_that_are_said_go_before_the_attention_mask(tmp_path):
    found = read(tmp_path / "x.pkl", {"test": split(vision_lengths=np.array([2, 0, 5], np.uint8))})
    assert lengths_of(found) == [[3, 9, 2], [1, 9, None], [6, 9, 5]]


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
    assert not MMSA.drop_wordless


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
        ({"audio_lengths": ["1", "2", "3"]}, f"{WHOLE} 3 of object, such as 1"),
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


pytest.importorskip("datasets")


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
    assert not MULT.drop_wordless


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
    assert MULTIBENCH.drop_wordless
    assert [start >= stop for start, stop in spans["text"].tolist()] == [not row.any() for row in there["text"]]


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


def read_mult(path, **changes):
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
        ({"labels": ["1", "2"]}, "labels must be one number an instance; found object (2,)"),
        ({"text": np.full((2, 4, 3), "a")}, "text must be numbers (N, T, D); found <U1 (2, 4, 3)"),
        ({"text": {"a": 1}}, "text must be numbers (N, T, D); found object ()"),
        ({"audio": np.ones((2, 4, 0))}, "audio must be numbers (N, T, D); found float64 (2, 4, 0)"),
        ({"id": "one"}, "all must have as many instances; found {'text': 2, 'audio': 2, 'vision': 2, 'labels': 2, 'id"),
    ],
)
def test_what_is_no_array_of_instances_is_named(tmp_path, changes, said):
    with pytest.raises(DataError, match=rf"x\.pkl, train: {re.escape(said)}"):
        read_mult(tmp_path / "x.pkl", **changes)


def test_lists_of_one_length_are_as_good_as_arrays(tmp_path):
    found = list(read_mult(tmp_path / "x.pkl", text=np.ones((2, 4, 3)).tolist(), labels=[1, -2]).instances)
    assert [(one.id, one.label, len(one.features["text"])) for one in found] == [("train-0", 1, 4), ("train-1", -2, 4)]


@pytest.mark.parametrize("key", ["dev", "val", "Validation", "valid"])
def test_a_validation_split_of_any_name_is_read(tmp_path, key):
    content = mmsa(np.random.default_rng(0), {part: some() for part in PARTS}, aligned=False)
    content[key] = content.pop("valid")
    reading = read_sentiment(write(tmp_path / "x.pkl", content), name="cmu-mosi")
    assert reading.card.splits == ("train", "valid", "test")
    assert [one.split for one in reading.instances].count("valid") == 4


@pytest.mark.parametrize("other", ["dev", "extra"])
def test_no_split_is_left_out_silently(tmp_path, other):
    content = mmsa(np.random.default_rng(0), {part: some() for part in PARTS}, aligned=False)
    content[other] = content["valid"]
    with pytest.raises(DataError, match=rf"must hold the splits train, valid, test, each once; found .*{other}"):
        read_sentiment(write(tmp_path / "x.pkl", content), name="cmu-mosi")
