import numpy as np
import pytest

from concordant.estimator import InputError
from concordant.estimator.splitting import hold_out


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
