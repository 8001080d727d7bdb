import re
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.benchmarks.catalogue import prepare
from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.checking import Running, check, check_store
from concordant.data.store import Instance, Store
from concordant.data.writing import write_store
from concordant.errors import DataError

pytest.importorskip("datasets")


def make(folder, change=lambda row, one: one, *, count=60, kind="class", groups=None, splits=("train", "test")):
    draws = np.random.default_rng(0)
    card = Card(
        name="own",
        modalities={
            "audio": ModalityCard(layout="btd", shape=(None, 3)),
            "image": ModalityCard(layout="bchw", shape=(2, 3, 3)),
        },
        label=LabelCard(kind="real") if kind == "real" else LabelCard(classes=("no", "yes")),
        splits=splits,
        groups=groups,
    )

    def instances():
        for row in range(count):
            one = {
                "id": f"i{row}",
                "split": splits[0] if row < 2 * count // 3 else splits[-1],
                "label": float(row) if kind == "real" else row % 2,
                "features": {
                    "audio": draws.standard_normal((1 + row % 4, 3)),
                    "image": draws.standard_normal((2, 3, 3)),
                },
                "group": None if groups is None else f"s{row}",
            }
            yield Instance(**change(row, one))

    write_store(folder, card, instances())
    return folder


def said(report, level):
    return [f"{finding.subject}: {finding.text}" for finding in report.findings if finding.level == level]


def test_equal_instances_that_folds_may_part_are_a_warning_and_those_of_a_group_a_note(tmp_path):
    pairs = put(
        features=lambda row, one: {"audio": np.full((1, 3), row // 2.0), "image": np.full((2, 3, 3), row // 2.0)}
    )
    report = check(make(tmp_path / "a", pairs, splits=("all",)))
    text = "content: 30 times instances that folds may part hold the same (i0 = i1, i2 = i3, i4 = i5, ...)"
    assert f"{text}: the test may be known in part" in said(report, "warning")

    def grouped(row, one):
        return {**pairs(row, one), "group": f"s{row // 2}"}

    report = check(make(tmp_path / "b", grouped, splits=("all",), groups="speaker"))
    assert "content: 30 times instances of one group hold the same" in said(report, "note")


def test_groups_in_two_folds_are_a_warning(tmp_path):
    folder = make(
        tmp_path / "a", put(group=lambda row, one: f"s{row % 50}"), splits=("fold 0", "fold 1"), groups="speaker"
    )
    report = check(folder)
    text = "groups: 10 speaker groups are in two folds (s0, s1, s2, ...): scores say nothing of new ones"
    assert f"{text}; --protocol folds keeps them apart" in said(report, "warning")
    assert report.task == "classification: one of 2 classes (no, yes) per instance"


def test_a_sound_dataset_has_nothing_to_be_said_of_but_its_balance(tmp_path):
    report = check(make(tmp_path / "d"), published={"train": 40, "test": 20})
    assert not report.failed
    assert said(report, "error") == said(report, "warning") == []
    assert said(report, "note") == ["labels: the largest class, 'no', makes up 50.0 % of training"]
    assert report.counts == {"train": {"no": 20, "yes": 20}, "test": {"no": 10, "yes": 10}}
    assert report.to_json()["failed"] is False


def with_feature(name, make_values):
    def change(row, one):
        one["features"][name] = make_values(row, one["features"][name])
        return one

    return change


def put(**values):
    def change(row, one):
        return {**one, **{key: value(row, one) for key, value in values.items()}}

    return change


def constant(row, x):
    x[..., 1] = 7
    return x


@pytest.mark.parametrize(
    ("change", "options", "level", "text"),
    [
        (
            with_feature("audio", constant),
            {},
            "warning",
            "audio: 1 of 3 features are the same in every instance and tell nothing (1)",
        ),
        (
            with_feature("audio", lambda row, x: x + 2e6),
            {},
            "warning",
            "audio: 3 features have values beyond 1,000,000 (up to 2e+06); see how they were made",
        ),
        (with_feature("image", lambda row, x: None), {}, "error", "image: no instance has it; leave it out"),
        (
            with_feature("image", lambda row, x: None if row % 3 == 0 else x),
            {},
            "note",
            "image: 33 % of the instances do not have it",
        ),
        (
            with_feature("image", lambda row, x: None if row % 2 else x),
            {},
            "warning",
            "image: every instance of class 'yes' lacks it: its absence gives the class away",
        ),
        (
            put(label=lambda row, one: int(row >= 40)),
            {},
            "error",
            "labels: class 'yes' occurs 20 times in valid or test and never in train: it cannot be learned",
        ),
        (put(label=lambda row, one: 0), {}, "warning", "labels: class 'yes' does not occur; drop it from the classes"),
        (
            put(label=lambda row, one: int(row % 20 == 0)),
            {},
            "warning",
            "labels: classes with fewer than 5 training instances, too few to learn from: 'yes' 2",
        ),
        (
            put(label=lambda row, one: int(row % 20 == 0)),
            {},
            "warning",
            "labels: the largest class, 'no', makes up 95.0 % of training, 19 times the smallest, 'yes'; look at "
            "balanced accuracy, not at accuracy alone",
        ),
        (
            put(label=lambda row, one: 1.5),
            {"kind": "real"},
            "error",
            "labels: every label is 1.5: there is nothing to learn",
        ),
        (
            put(group=lambda row, one: f"s{row % 50}"),
            {"groups": "speaker"},
            "warning",
            "groups: 10 of 20 speaker groups of test are in train too, with 50 % of its instances (s0, s1, s2, ...): "
            "scores say nothing of new ones; --protocol folds keeps them apart",
        ),
        (
            put(split=lambda row, one: "train"),
            {},
            "error",
            "splits: the split 'test' is announced and has no instance",
        ),
        (
            with_feature("audio", lambda row, x: np.ones((2, 3)) * (row % 2) + np.arange(3) if row in (0, 58) else x),
            {},
            "warning",
            "audio: 1 times instances of two splits have the same audio (i0 = i58): the test is known in part",
        ),
        (
            put(
                features=lambda row, one: {
                    "audio": np.full((1, 3), row // 2),
                    "image": np.full((2, 3, 3), row // 2) * 1.0,
                }
            ),
            {},
            "note",
            "content: 30 times instances of one split hold the same",
        ),
    ],
)
def test_each_fault_is_said_in_plain_words(tmp_path, change, options, level, text):
    def floating(row, one):
        one = change(row, one)
        one["features"] = {k: None if x is None else np.asarray(x, float) for k, x in one["features"].items()}
        return one

    report = check(make(tmp_path / "d", floating, **options))
    assert text in said(report, level)
    assert report.failed == (level == "error")


@pytest.mark.parametrize(
    ("change", "options", "text", "folds"),
    [
        (with_feature("image", lambda row, x: None), {}, "image: no instance has it; leave it out", "refused"),
        (put(label=lambda row, one: int(row >= 40)), {}, "labels: class 'yes' occurs 20 times in valid", "fine"),
        (put(label=lambda row, one: 1.5), {"kind": "real"}, "labels: every label is 1.5", "refused"),
    ],
)
def test_what_the_check_calls_an_error_is_not_trained_on(tmp_path, change, options, text, folds):
    store = Store(make(tmp_path / "own", change, **options))
    with pytest.raises(DataError, match=f"own cannot be trained on: {text}"):
        prepare("own", seed=0, data=store.folder)
    if text.startswith("image"):  # which need not be trained on
        prepare("own", seed=0, data=store.folder, modalities=["audio"])
    with pytest.raises(DataError, match=text) if folds == "refused" else nullcontext():
        check_store(store, tuple(store.card.modalities), folds=True)


def test_published_counts_are_compared(tmp_path):
    report = check(make(tmp_path / "d"), published={"train": 1284, "valid": 229})
    assert said(report, "warning") == [
        "splits: train has 40 instances where 1,284 are published: results do not compare",
        "splits: valid has 0 instances where 229 are published: results do not compare",
    ]


def test_published_class_counts_are_compared(tmp_path):
    folder = make(tmp_path / "d")
    assert said(check(folder, published_classes={"train": (20, 20), "test": (10, 10)}), "warning") == []
    assert said(check(folder, published_classes={"train": (20, 21), "test": (11, 9)}), "warning") == [
        "labels: 1 classes of train do not have their published number (yes 20 for 21)",
        "labels: 2 classes of test do not have their published number (no 10 for 11, yes 10 for 9)",
    ]


def test_values_that_are_not_finite_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("concordant.data.writing._check_values", lambda *given: None)
    folder = make(tmp_path / "d", with_feature("audio", lambda row, x: x * (np.nan if row == 3 else 1)))
    (error,) = said(check(folder), "error")
    assert re.fullmatch(r"audio: 12 values are NaN or infinite; prepare the dataset again", error)
    with pytest.raises(DataError, match="d: audio holds NaN or infinity; prepare the dataset again"):
        prepare("own", seed=0, data=folder)


def test_files_that_cannot_be_read_are_an_error_not_an_exception(tmp_path):
    folder = make(tmp_path / "d")
    file = folder / "data-00000.arrow"
    file.write_bytes(file.read_bytes()[:200])
    (error,) = said(check(folder), "error")
    assert "data-00000.arrow" in error
    (error,) = said(check(tmp_path / "gone"), "error")
    assert error.endswith("gone is not there")


def test_numbers_are_those_of_numpy(tmp_path):
    seen = []

    def keep(row, one):
        seen.append(one["features"]["audio"].astype(np.float32).astype(float))
        return one

    found = check(make(tmp_path / "d", keep)).modalities["audio"]
    values = np.concatenate(seen)
    wanted = {"least": values.min(), "most": values.max(), "mean": values.mean(), "std": values.std()}
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)
    assert (found["absent"], found["shortest"], found["median"], found["longest"]) == (0, 1, 2.5, 4)


def test_real_labels_are_shown_by_quantiles(tmp_path):
    report = check(make(tmp_path / "d", kind="real"))
    assert report.counts["train"] == {
        "instances": 40, "0 %": 0, "25 %": 9.75, "50 %": 19.5, "75 %": 29.25, "100 %": 39,
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.sampled_from(["bd", "btd", "bchw", "bcthw"]),
    st.integers(0, 2**31),
)
def test_running_numbers_are_those_of_all_values_together(lengths, layout, seed):
    draws = np.random.default_rng(seed)
    shape = {"bd": (3,), "btd": (None, 3), "bchw": (3, 2, 2), "bcthw": (3, None, 2, 2)}[layout]
    running, flat = Running(ModalityCard(layout=layout, shape=shape)), []
    for length in lengths:
        values = 100 + draws.standard_normal([length if size is None else size for size in shape])
        running.add(values.astype(np.float32))
        axis = 0 if layout in ("bchw", "bcthw") else values.ndim - 1
        flat.append(np.moveaxis(values.astype(np.float32).astype(float), axis, -1).reshape(-1, 3))
    everything = np.concatenate(flat)
    assert running.count == len(everything)
    np.testing.assert_allclose(running.mean, everything.mean(0))
    np.testing.assert_allclose(running.squares / running.count, everything.var(0), atol=1e-8)
    np.testing.assert_array_equal(running.least, everything.min(0))
    np.testing.assert_array_equal(running.most, everything.max(0))


def test_values_that_are_not_finite_are_counted():
    running = Running(ModalityCard(layout="bd", shape=(3,)))
    running.add(np.array([np.nan, np.inf, 0.0]))
    assert (running.bad, running.zeros) == (2, 3)
