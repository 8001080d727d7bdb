"""Checks and defaults of arguments, weights, and the rows held out."""

from typing import get_args

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from concordant import MultimodalClassifier, MultimodalRegressor
from concordant.estimator import InputError
from concordant.estimator.parameters import (
    CalibratorName,
    FusionName,
    class_weights,
    faults_of,
    hold_out,
    sample_weights,
    seed_of,
)
from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS


def test_editors_complete_the_names_of_all_fusions_and_calibrators():
    assert set(get_args(FusionName)) == set(FUSIONS)
    assert set(get_args(CalibratorName)) == set(CALIBRATORS)


def test_a_seed_is_the_integer_itself_a_draw_or_fresh():
    assert seed_of(7) == seed_of(np.int64(7)) == 7
    assert seed_of(np.random.RandomState(3)) == np.random.RandomState(3).randint(2**31 - 1)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert len({seed_of(None) for _ in range(4)}) > 1
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    with pytest.raises(ValueError, match="cannot be used to seed"):
        seed_of("x")


def test_the_defaults_have_no_fault_and_booleans_are_no_numbers():
    assert faults_of(MultimodalClassifier()) == []
    assert faults_of(MultimodalRegressor()) == []
    assert faults_of(MultimodalClassifier(batch_size=True)) == ["batch_size: input should be a number; found True"]
    assert faults_of(MultimodalClassifier(dropout=False)) == ["dropout: input should be a number; found False"]


def test_what_stands_behind_the_fusion_is_for_experiments():
    assert faults_of(MultimodalClassifier(calibrator="after-fusion")) == [
        "calibrator 'after-fusion' is for experiments alone; choose another"
    ]


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


def test_every_class_is_held_out_in_proportion_and_keeps_an_instance():
    labels = np.repeat(np.arange(4), [400, 200, 39, 1])
    kept, held = hold_out(640, labels, None, 0.15, seed=0)
    assert sorted([*kept, *held]) == list(range(640))
    counts = np.bincount(labels[held], minlength=4)
    assert counts[3] == 0
    np.testing.assert_allclose(counts[:3], [60, 30, 6], atol=1)


def test_more_classes_than_held_out_instances_are_no_hindrance():
    labels = np.arange(200) // 2
    kept, held = hold_out(200, labels, None, 0.1, seed=0)
    assert len(held) == 20
    assert set(labels[kept]) == set(range(100))


def test_numbers_are_held_out_at_random_and_by_seed():
    one, again, other = (hold_out(100, None, None, 0.2, seed=seed)[1] for seed in (0, 0, 1))
    assert len(one) == 20
    np.testing.assert_array_equal(one, again)
    assert set(one) != set(other)


def test_whole_groups_are_held_out():
    groups = np.repeat(["a", "b", "c", "d", "e"], 20)
    kept, held = hold_out(100, np.arange(100) % 2, groups, 0.2, seed=0)
    assert len(set(groups[held])) == 1
    assert not set(groups[held]) & set(groups[kept])
    with pytest.raises(InputError, match="groups must name two groups or more"):
        hold_out(100, None, np.zeros(100), 0.2, seed=0)


def test_too_few_are_not_held_out_at_all():
    assert len(hold_out(60, np.arange(60) % 2, None, 0.15, seed=0)[1]) == 0
    assert len(hold_out(600, np.arange(600) % 2, None, 0.0, seed=0)[1]) == 0
