import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from concordant.estimator import InputError
from concordant.estimator.weights import class_weights, sample_weights

CLASSES = np.array(["no", "perhaps", "yes"])
Y = np.array(["no"] * 6 + ["yes"] * 2)


def test_weights_of_instances_are_ones_a_number_or_as_given():
    np.testing.assert_array_equal(sample_weights(None, 3), [1, 1, 1])
    np.testing.assert_array_equal(sample_weights(2, 3), [2, 2, 2])
    np.testing.assert_array_equal(sample_weights([0, 1, 0.5], 3), [0, 1, 0.5])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.ones(2), r"sample_weight must have shape \(3,\); found \(2,\)"),
        ([1, -1, 1], "sample_weight must be finite and not negative"),
        ([1, np.nan, 1], "sample_weight must be finite and not negative"),
        (np.zeros(3), "sample_weight holds nothing but zeros"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        sample_weights(given, 3)


def test_balanced_weights_are_those_of_scikit_learn_and_1_where_a_class_is_lacking():
    expected = compute_class_weight("balanced", classes=CLASSES[[0, 2]], y=Y)
    np.testing.assert_allclose(class_weights("balanced", CLASSES, Y), [expected[0], 1, expected[1]], rtol=1e-6)


def test_given_weights_are_taken_and_others_are_1():
    np.testing.assert_array_equal(class_weights({"yes": 3, "perhaps": 5}, CLASSES, Y), [1, 1, 3])


def test_other_class_weights_are_refused():
    with pytest.raises(InputError, match="class_weight names classes that y has not: maybe"):
        class_weights({"maybe": 3}, CLASSES, Y)
    with pytest.raises(InputError, match="class_weight must be None, 'balanced' or a dictionary; found 'fair'"):
        class_weights("fair", CLASSES, Y)
