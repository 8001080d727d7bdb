import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.card import ModalityCard
from concordant.data.running import Running


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.sampled_from(["bd", "btd", "bchw", "bcthw"]),
    st.integers(0, 2**31),
)
def test_running_numbers_are_those_of_all_values_together(lengths, layout, seed):
    draws = np.random.default_rng(seed)
    shape = {"bd": (3,), "btd": (None, 3), "bchw": (3, 2, 2), "bcthw": (3, None, 2, 2)}[layout]
    running, flat = Running(ModalityCard(layout=layout, shape=shape)), []
    for length in lengths:
        values = 100 + draws.standard_normal([length if size is None else size for size in shape])
        running.add(values.astype(np.float32))
        axis = 0 if layout in ("bchw", "bcthw") else values.ndim - 1
        flat.append(np.moveaxis(values.astype(np.float32).astype(float), axis, -1).reshape(-1, 3))
    everything = np.concatenate(flat)
    assert running.count == len(everything)
    np.testing.assert_allclose(running.mean, everything.mean(0))
    np.testing.assert_allclose(running.squares / running.count, everything.var(0), atol=1e-8)
    np.testing.assert_array_equal(running.least, everything.min(0))
    np.testing.assert_array_equal(running.most, everything.max(0))


def test_values_that_are_not_finite_are_counted():
    running = Running(ModalityCard(layout="bd", shape=(3,)))
    running.add(np.array([np.nan, np.inf, 0.0]))
    assert (running.bad, running.zeros) == (2, 3)
