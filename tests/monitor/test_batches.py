import numpy as np
import pytest

from concordant.errors import UsageError
from concordant.monitor.batches import joined
from concordant.monitor.evidence import Evidence


def evidence(count, size=3, names=("a", "b")):
    shape = (count, len(names))
    level = np.arange(count * len(names), dtype=float).reshape(shape)
    return Evidence(names, level, level, level, {name: np.ones((count, size)) for name in names})


def test_batches_are_joined_in_their_order():
    found = joined([evidence(2), evidence(1)])
    np.testing.assert_array_equal(found.level, [[0, 1], [2, 3], [0, 1]])
    assert found.summaries["a"].shape == (3, 3)


def test_a_modality_absent_from_a_whole_batch_takes_the_size_of_the_others():
    gone = evidence(2)
    gone.summaries["b"] = np.full((2, 1), np.nan)
    found = joined([gone, evidence(1)]).summaries["b"]
    assert np.isnan(found[:2]).all()
    np.testing.assert_array_equal(found[2], [1, 1, 1])


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"all batches must have the modalities \['a', 'b'\]; found"):
        joined([evidence(2), evidence(2, names=("a", "c"))])
    with pytest.raises(UsageError, match=r"features of 'a' must have one size in all batches; found \[3, 4\]"):
        joined([evidence(2), evidence(2, size=4)])
