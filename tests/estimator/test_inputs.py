"""X as modalities by name: rows as scikit-learn takes them, and the split that they become."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.model_selection import KFold, train_test_split

from concordant.estimator import InputError, Modalities
from concordant.estimator.columns import group_columns
from concordant.estimator.inputs import read_again, read_first

DRAWS = np.random.default_rng(0)


def test_every_form_becomes_an_array_in_its_layout():
    x = Modalities(
        {
            "number": np.arange(3),
            "vector": np.ones((3, 4)),
            "steps": np.ones((3, 5, 2)),
            "image": np.ones((3, 1, 6, 7), np.uint8),
            "film": np.ones((3, 1, 5, 6, 7)),
        }
    )
    forms, part = read_first(x)
    assert {name: form.layout for name, form in forms.items()} == {
        "number": "bd",
        "vector": "bd",
        "steps": "btd",
        "image": "bchw",
        "film": "bcthw",
    }
    assert part.shapes == {"number": (1,), "vector": (4,), "steps": (5, 2), "image": (1, 6, 7), "film": (1, 5, 6, 7)}
    types = {name: values.dtype for name, values in part.inputs.items()}
    assert types == {**dict.fromkeys(part.inputs, np.float64), "image": np.float32}  # digits that scaling may need stay
    assert not part.masks
    assert not part.present


def test_a_sparse_modality_is_filled_with_zeros():
    dense = np.array([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]])
    x = Modalities({"words": csr_matrix(dense), "vector": np.ones((3, 4))})
    np.testing.assert_array_equal(x["words"], dense)
    assert len(x[[0, 2]]) == 2


def test_ragged_sequences_are_padded_and_masked():
    rows = [DRAWS.normal(size=(length, 2)) for length in (3, 1, 4)]
    _, part = read_first(Modalities({"a": rows}))
    assert part.inputs["a"].shape == (3, 4, 2)
    np.testing.assert_array_equal(part.masks["a"].sum(1), [3, 1, 4])
    for row, values, mask in zip(rows, part.inputs["a"], part.masks["a"], strict=True):
        np.testing.assert_allclose(values[mask], row.astype(np.float32))
        assert (values[~mask] == 0).all()


def test_steps_of_nan_are_padding_like_ragged_lists():
    rows = [DRAWS.normal(size=(length, 2)) for length in (3, 1, 4)]
    padded = np.full((3, 4, 2), np.nan)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    one, other = read_first(Modalities({"a": rows}))[1], read_first(Modalities({"a": padded}))[1]
    np.testing.assert_array_equal(one.inputs["a"], other.inputs["a"])
    np.testing.assert_array_equal(one.masks["a"], other.masks["a"])


def test_steps_on_the_last_axis_are_turned():
    rows = [DRAWS.normal(size=(length, 2)) for length in (3, 1, 4)]
    turned = [row.T for row in rows]
    forms, part = read_first(Modalities({"a": turned}), {"a": "bdt"})
    np.testing.assert_array_equal(part.inputs["a"], read_first(Modalities({"a": rows}))[1].inputs["a"])
    assert len(read_again(Modalities({"a": [turned[0]]}), forms)) == 1


@pytest.mark.parametrize(("given", "encoded"), [("bhwc", "bchw"), ("bthwc", "bcthw")])
def test_maps_with_the_channels_last_are_turned(given, encoded):
    x = DRAWS.normal(size=[{"b": 4, "t": 5, "h": 6, "w": 7, "c": 2}[axis] for axis in given])
    forms, part = read_first(Modalities({"a": x}), {"a": given})
    assert forms["a"].layout == encoded
    np.testing.assert_array_equal(part.inputs["a"], np.moveaxis(x, -1, 1))
    assert read_again(Modalities({"a": x[:1]}), forms).shapes == part.shapes
    assert read_again(Modalities({"a": [None]}), forms).shapes["a"][0] == 2


def test_none_and_rows_of_nan_are_absent():
    gone = np.ones((4, 2))
    gone[1] = np.nan
    _, part = read_first(
        Modalities({"a": gone, "b": [np.ones((2, 3)), np.ones((2, 3)), None, np.zeros((0, 3))], "c": np.ones(4)})
    )
    np.testing.assert_array_equal(part.present["a"], [True, False, True, True])
    np.testing.assert_array_equal(part.present["b"], [True, True, False, False])
    assert "c" not in part.present
    assert np.isfinite(part.inputs["a"]).all()
    assert "b" not in part.masks  # those that are there have no padding


def test_a_modality_that_is_left_out_later_is_absent():
    forms, _ = read_first(Modalities({"a": np.ones((4, 2)), "b": np.ones((4, 5, 3))}))
    part = read_again(Modalities({"a": np.ones((2, 2))}), forms)
    assert not part.present["b"].any()
    assert part.inputs["b"].shape == (2, 1, 3)
    part = read_again(Modalities({"a": np.ones((2, 2)), "b": [None, None]}), forms)
    assert not part.present["b"].any()


def test_later_sequences_may_have_other_lengths():
    forms, _ = read_first(Modalities({"b": np.ones((4, 5, 3))}))
    assert read_again(Modalities({"b": np.ones((2, 9, 3))}), forms).inputs["b"].shape == (2, 9, 3)


def test_all_faults_of_a_fit_are_told_at_once():
    holes = np.ones((5, 3))
    holes[1, 2] = np.nan
    steps = np.ones((5, 4, 2))
    steps[2, 1, 0] = np.nan
    huge = np.ones((5, 2))
    huge[3] = 1e300
    x = Modalities(
        {
            "holes": holes,
            "steps": steps,
            "huge": huge,
            "words": np.array(list("abcde")),
            "mixed": [np.ones(2), np.ones(3), None, None, None],
            "nothing": [None] * 5,
            "nan": np.full((5, 2), np.nan),
            "shapeless": np.ones((5, 1, 1, 1, 1, 1)),
            "empty": np.ones((5, 0)),
            "stepless": np.ones((5, 0, 2)),
            "a.b": np.ones((5, 1)),
        }
    )
    with pytest.raises(InputError) as caught:
        read_first(x, {"sound": "bd", "holes": "btd"})
    message = str(caught.value)
    assert "layouts names 'sound', which is not among the modalities ['holes'," in message
    assert "'a.b' cannot name a modality" in message
    assert (
        "layouts['holes'] must be one of bd, btd, bchw, bcthw, bdt, bhwc, bthwc with the 2 axes of X['holes']"
        in message
    )
    assert "X['steps'] holds NaN in part of its steps: row 2 has it; fill such values in" in message
    assert "X['huge'] holds infinity, or a value too large for float32: row 3 has it" in message
    assert "X['words'] must hold numbers; found <U1" in message
    assert "X['mixed'] must have instances of one shape; found (2,) and (3,)" in message
    assert "X['nothing'] is absent in every instance; leave the modality out" in message
    assert "X['nan'] is absent in every instance" in message
    assert "X['shapeless']; found None" in message
    assert "X['empty'] has no features: its shape is (5, 0)" in message
    assert "X['stepless'] has no features: its shape is (5, 0, 2)" in message


def test_nan_within_a_vector_is_refused_with_its_rows():
    holes = np.ones((6, 3))
    holes[[0, 1, 3, 5], 2] = np.nan
    with pytest.raises(InputError, match=r"NaN in part of its instances: 4 rows \(0, 1, 3, ...\) have it"):
        read_first(Modalities({"a": holes}))


def test_objects_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="X\\['a'\\] must hold numbers, or None where an instance has none; found "):
        read_first(Modalities({"a": [np.array("x"), None]}))


def test_instances_without_any_modality_are_refused_in_a_fit():
    x = {"a": np.array([[1.0], [np.nan], [2.0]]), "b": [np.ones(2), None, None]}
    with pytest.raises(InputError, match="row 1 has no modality at all; leave such instances out of the fit"):
        read_first(Modalities(x))
    with pytest.raises(InputError, match="X needs 2 instances or more to be fitted; found 1"):
        read_first(Modalities({"a": np.ones((1, 2))}))


def test_all_faults_of_later_instances_are_told_at_once():
    forms, _ = read_first(Modalities({"a": np.ones((4, 2)), "b": np.ones((4, 5, 3)), "c": np.ones((4, 3, 5))}))
    with pytest.raises(InputError) as caught:
        read_again(Modalities({"a": np.ones((2, 3)), "b": np.ones((2, 5, 4)), "d": np.ones((2, 1))}), forms)
    message = str(caught.value)
    assert "X has the unknown modality 'd'; it was fitted on a, b, c" in message
    assert "X['a'] must have shape (any, 2), as in the fit; found (2, 3)" in message
    assert "X['b'] must have shape (any, any, 3), as in the fit; found (2, 5, 4)" in message


@pytest.fixture
def six():
    ragged = [np.full((n + 1, 2), n) for n in range(6)]
    ragged[3] = None
    return Modalities({"vector": np.arange(12).reshape(6, 2), "ragged": ragged, "tensor": torch.arange(6.0)[:, None]})


def test_rows_are_taken_from_every_modality_alike(six):
    for rows in ([4, 0, 3], np.array([4, 0, 3]), np.array([True, False, False, True, True, False]), slice(1, 4), -1):
        taken = six[rows]
        expected = np.atleast_1d(np.arange(6)[rows])
        assert len(taken) == len(expected)
        np.testing.assert_array_equal(taken["vector"][:, 0], 2 * expected)
        np.testing.assert_array_equal(taken["tensor"][:, 0], expected)
        for row, number in zip(taken["ragged"], expected, strict=True):
            assert row is None if number == 3 else (row == number).all()


def test_scikit_learn_cuts_it_into_folds(six):
    left, right, y_left, y_right = train_test_split(six, np.arange(6), test_size=2, random_state=0)
    np.testing.assert_array_equal(left["tensor"][:, 0], y_left)
    np.testing.assert_array_equal(right["tensor"][:, 0], y_right)
    assert [len(test) for _, test in KFold(3).split(six)] == [2, 2, 2]


def test_it_counts_and_names_what_it_holds(six):
    assert len(six) == 6
    assert six.shape == (6, 3)
    assert six.keys() == ["vector", "ragged", "tensor"]
    assert [int(row["tensor"][0, 0]) for row in six] == list(range(6))
    assert repr(six) == "Modalities(6 rows of vector, ragged, tensor)"
    with pytest.raises(KeyError, match="no modality 'sound'; choose from: vector, ragged, tensor"):
        six["sound"]


def test_equal_rows_in_a_list_become_one_array():
    assert Modalities({"a": [[1, 2], [3, 4]]})["a"].dtype.kind == "i"
    assert Modalities({"a": [torch.zeros(2), torch.ones(2)]})["a"].shape == (2, 2)


def test_what_has_no_rows_is_refused():
    with pytest.raises(InputError, match="at least one modality; found an empty one"):
        Modalities({})
    with pytest.raises(InputError, match="at least one modality; found list"):
        Modalities([1, 2])
    with pytest.raises(InputError) as caught:
        Modalities({"a": np.zeros(3), "b": np.zeros((4, 2)), "c": 5, 7: np.zeros(3)})
    message = str(caught.value)
    assert "7 cannot name a modality: use a string" in message
    assert "X['c'] must be an array or a list with one entry per instance (found int)" in message
    assert "all modalities of X need the same number of rows; found a 3, b 4" in message


def test_masked_values_are_missing_and_bfloat16_is_read():
    values = np.arange(12.0).reshape(3, 4)
    masked = np.ma.masked_array(values.astype(int), mask=[[True] * 4, [False] * 4, [False] * 4])
    _, split = read_first(Modalities({"a": masked, "b": torch.tensor(values).bfloat16(), "c": list(masked)}))
    np.testing.assert_array_equal(split.present["a"], [False, True, True])
    np.testing.assert_array_equal(split.present["c"], [False, True, True])
    np.testing.assert_array_equal(split.inputs["b"], values)


def test_pandas_marks_of_what_is_missing_are_read():
    draws = np.random.default_rng(0)
    table = pd.DataFrame(draws.normal(size=(3, 2)), columns=["x", "y"])
    nullable = table.astype("Float64")
    nullable.iloc[1] = pd.NA
    mixed = nullable.astype({"y": "Float32"})
    series = pd.Series([1, pd.NA, 3], dtype="Int64")
    _, split = read_first(Modalities({"a": nullable, "b": mixed, "c": series, "d": table}))
    for name in "abc":
        np.testing.assert_array_equal(split.present[name], [True, False, True])
    np.testing.assert_array_equal(split.inputs["a"][[0, 2]], table.to_numpy()[[0, 2]])
    _, grouped = group_columns(mixed, {"m": ["x", "y"]})
    np.testing.assert_array_equal(np.isnan(grouped["m"]).all(1), [False, True, False])


def test_columns_in_another_order_than_in_the_fit_are_refused():
    table = pd.DataFrame(np.arange(8.0).reshape(4, 2), columns=["x", "y"])
    forms, _ = read_first(Modalities({"a": table, "b": np.zeros((4, 1))})[[0, 1, 2]])
    read_again(Modalities({"a": table.to_numpy(), "b": np.zeros((4, 1))}), forms)
    with pytest.raises(InputError, match=r"X\['a'\] must have the columns .* order; column 0 was 'x', found 'y'"):
        read_again(Modalities({"a": table[["y", "x"]], "b": np.zeros((4, 1))})[:2], forms)


def test_modalities_are_no_single_array():
    with pytest.raises(InputError, match=r"Modalities is no single array; take one modality, such as X\['a'\]"):
        np.asarray(Modalities({"a": np.zeros((2, 3))}))


def test_no_rows_are_taken_by_an_empty_list(six):
    assert len(six[[]]) == 0
    assert six[[]].keys() == six.keys()
