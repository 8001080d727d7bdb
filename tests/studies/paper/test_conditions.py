import numpy as np
import pytest

from concordant.benchmarks.catalogue import prepare
from concordant.robustness.conditions import CLEAN, SplitContext, oracle_name
from studies.paper.conditions import applied, conditions


@pytest.fixture(scope="module")
def shown():
    task = prepare("digits", seed=0)
    return task, list(conditions(task.test, SplitContext(task.layouts), (1, 5), seed=0))


def test_every_condition_is_there_once_and_in_order(shown):
    task, found = shown
    names = [one.name for one in found]
    assert len(set(names)) == len(names)
    assert names[0] == CLEAN
    kinds = applied(task.test, SplitContext(task.layouts))
    assert len(kinds) > 10
    for kind, able in kinds:
        assert {f"corruption.{kind.name}.1", f"corruption.{kind.name}.5", oracle_name(able)} <= set(names)
    assert names[-3:] == ["removal.left", "removal.right", "removal.profile"]


def test_only_what_is_hit_is_changed_and_an_oracle_gets_it_as_absent(shown):
    task, found = shown
    by_name = {one.name: one for one in found}
    swap, oracle = by_name["corruption.swap.5"], by_name["oracle.left+right+profile"]
    assert np.array_equal(swap.hit, oracle.hit)
    assert (swap.hit.sum(1) == 1).all()
    for column, name in enumerate(task.test.inputs):
        spared = ~swap.hit[:, column]
        assert np.array_equal(swap.part.inputs[name][spared], task.test.inputs[name][spared])
        assert np.array_equal(oracle.part.present[name], spared)
    # Image kinds hit the halves alone.
    assert not by_name["corruption.blur.5"].hit[:, 2].any()


def test_a_removed_modality_is_gone_and_the_rest_is_there(shown):
    task, found = shown
    gone = next(one for one in found if one.name == "removal.right").part
    assert not gone.present["right"].any()
    assert not gone.inputs["right"].any()
    assert np.array_equal(gone.inputs["left"], task.test.inputs["left"])
