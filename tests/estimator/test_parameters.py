import numpy as np
import pytest

from concordant import CalibratedClassifier, CalibratedRegressor
from concordant.estimator.parameters import faults_of, seed_of, steps_for


def test_steps_grow_with_the_root_of_the_rows_between_two_bounds():
    assert steps_for(1) == steps_for(90) == 200
    assert steps_for(400) == 420
    assert steps_for(1600) == 2 * steps_for(400)
    assert steps_for(10**6) == 3000


def test_a_seed_is_the_integer_itself_a_draw_or_fresh():
    assert seed_of(7) == seed_of(np.int64(7)) == 7
    assert seed_of(np.random.RandomState(3)) == np.random.RandomState(3).randint(2**31 - 1)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert len({seed_of(None) for _ in range(4)}) > 1
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    with pytest.raises(ValueError, match="cannot be used to seed"):
        seed_of("x")


def test_the_defaults_have_no_fault_and_booleans_are_no_numbers():
    assert faults_of(CalibratedClassifier()) == []
    assert faults_of(CalibratedRegressor()) == []
    assert faults_of(CalibratedClassifier(batch=True)) == ["batch must be an integer of 2 or more; found True"]
    assert faults_of(CalibratedClassifier(dropout=False)) == [
        "dropout must be 'auto' or a number in [0, 1); found False"
    ]


def test_what_stands_behind_the_fusion_is_for_experiments():
    assert faults_of(CalibratedClassifier(calibrator="after-fusion")) == [
        "calibrator 'after-fusion' is for experiments alone; choose another"
    ]
