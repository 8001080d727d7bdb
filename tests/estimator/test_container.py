import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold, train_test_split

from concordant.estimator import InputError, Modalities


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
    assert "X['c'] must be an array or a list with one entry an instance (found int)" in message
    assert "all modalities of X need the same number of rows; found a 3, b 4" in message
