from dataclasses import replace

import numpy as np
import pytest

from concordant.benchmarks.catalogue import prepare
from concordant.data.checking_splits import check_task
from concordant.data.split import Task
from concordant.robustness.own_data import as_split


def part(rows, *, groups=None, prefix="", **more):
    draws = np.random.default_rng(rows[0])
    x = {"a": draws.standard_normal((len(rows), 3)), "b": draws.standard_normal((len(rows), 4, 2))}
    labels = np.arange(len(rows)) % 2
    return as_split(x, labels, ids=[f"{prefix}{row}" for row in rows], groups=groups, **more)


def task(**parts):
    found = {"train": part(range(30)), "valid": part(range(30, 40)), "test": part(range(40, 60)), **parts}
    return Task(("no", "yes"), {"a": "bd", "b": "btd"}, **found)


def in_task(task, level):
    found = check_task(task, "mine")
    assert found["schema"] == "concordant.check/1"
    return {(one["subject"], one["text"]) for one in found["findings"] if one["level"] == level}


def test_a_sound_split_has_notes_alone():
    found = check_task(task(), "mine")
    assert not found["failed"]
    assert found["folder"] == "mine"
    assert {one["level"] for one in found["findings"]} == {"note"}
    assert ("splits", "instances: 30 in train, 10 in valid, 20 in test") in in_task(task(), "note")
    assert ("labels", "2 classes, 15 to 15 instances in train") in in_task(task(), "note")


def test_instances_in_two_parts_are_an_error():
    both = task(test=part(range(28, 48)))
    assert ("ids", "2 are in train and in test: 28, 29") in in_task(both, "error")
    assert ("ids", "10 are in valid and in test: 30, 31, 32") in in_task(both, "error")
    assert check_task(both, "mine")["failed"]


@pytest.mark.parametrize("where", ["test", "valid"])
def test_groups_in_two_parts_are_told(where):
    parts = {
        "train": part(range(30), groups=["x", "y"] * 15),
        "valid": part(range(30, 40), groups=["z"] * 10),
        "test": part(range(40, 60), groups=["w"] * 20),
    }
    count = len(parts[where])
    parts[where] = replace(parts[where], groups=np.array(["y"] * count))
    assert ("groups", f"1 are in train and in {where}: y") in in_task(task(**parts), "warning")


def test_copies_under_another_name_are_found():
    copied = part(range(40, 60))
    train = part(range(30))
    copied.inputs["a"][3], copied.inputs["b"][3] = train.inputs["a"][5], train.inputs["b"][5]
    assert ("content", "1 instances of train are in test too, value for value") in in_task(task(test=copied), "warning")


def test_few_absent_constant_and_uneven_are_told():
    train = part(range(60), present={"b": np.arange(60) % 2 == 0})
    train.inputs["a"][:, 1] = 2.0
    train = replace(train, labels=np.array([1] * 3 + [0] * 57))
    found = task(train=train)
    assert {("labels", "yes has 3 instances in train"), ("b", "absent from 50.0 % of train")} <= in_task(
        found, "warning"
    )
    assert ("labels", "the largest class of train has 57 instances, the least 3") in in_task(found, "warning")
    assert ("a", "1 of 3 features never vary in train") in in_task(found, "note")


def test_real_labels_are_described():
    values = np.array([-3.0, 0.5, 3.0] * 10, np.float32)
    found = Task(
        ("negative", "not negative"),
        {"a": "bd", "b": "btd"},
        replace(part(range(30)), labels=values),
        part(range(30, 40)),
        part(range(40, 60)),
        kind="real",
    )
    assert ("labels", "numbers from -3 to 3 in train, half below 0.5") in in_task(found, "note")


@pytest.mark.data
def test_scene15_has_the_same_scenes_in_train_and_test(data_folder):

    found = check_task(prepare("scene15", seed=0, data=data_folder), "scene15")
    assert [one["text"] for one in found["findings"] if one["subject"] == "content"] == [
        "8 instances of train are in test too, value for value"
    ]
