import numpy as np

from concordant.data.part import Part


def a_part():
    return Part(
        inputs={
            "x": np.arange(8, dtype=np.float32).reshape(4, 2),
            "y": np.arange(12, dtype=np.float32).reshape(4, 3, 1),
        },
        labels=np.array([0, 1, 2, 3]),
        ids=np.array(list("abcd")),
        groups=np.array(list("ssuv")),
        masks={"y": np.tri(4, 3, dtype=np.bool_)},
        present={"x": np.array([True, False, True, True])},
    )


def test_take_returns_everything_of_the_rows_in_their_order():
    whole, rows = a_part(), np.array([3, 0, 0])
    taken = whole.take(rows)
    assert len(whole) == 4
    assert len(taken) == 3
    assert taken.ids.tolist() == ["d", "a", "a"]
    assert taken.labels.tolist() == [3, 0, 0]
    assert taken.groups.tolist() == ["v", "s", "s"]
    np.testing.assert_array_equal(taken.inputs["x"], [[6, 7], [0, 1], [0, 1]])
    np.testing.assert_array_equal(taken.inputs["y"][:, :, 0], [[9, 10, 11], [0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(taken.masks["y"], [[True, True, True], [True, False, False], [True, False, False]])
    assert taken.present["x"].tolist() == [True, True, True]


def test_take_keeps_that_there_are_no_groups():
    whole = Part({"x": np.zeros((2, 1), np.float32)}, np.zeros(2, np.int64), np.array(["a", "b"]))
    taken = whole.take(np.array([1]))
    assert taken.groups is None
    assert taken.masks == {}
    assert taken.present == {}


def test_with_inputs_changes_the_inputs_alone():
    whole = a_part()
    new = {"x": np.ones((4, 2), np.float32)}
    changed = whole.with_inputs(new)
    assert changed.inputs is new
    assert set(whole.inputs) == {"x", "y"}
    for name in ("labels", "ids", "groups", "masks", "present"):
        assert getattr(changed, name) is getattr(whole, name)
