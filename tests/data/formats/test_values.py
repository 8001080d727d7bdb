import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.data.formats.values import LARGEST, Repairs, finite_float32
from concordant.errors import DataError


@given(st.lists(st.floats(width=64), max_size=20))
def test_every_value_is_finite_afterwards_and_every_replacement_counted(values):
    array = np.array(values, dtype=np.float64)
    with np.errstate(all="raise", under="ignore"):
        found, repairs = finite_float32(array, "x")
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    counts = {"nan": 0, "infinite": 0, "overflow": 0}
    for value, now in zip(values, found, strict=True):
        if value != value:
            counts["nan"] += 1
        elif value in (float("inf"), float("-inf")):
            counts["infinite"] += 1
        elif abs(value) > LARGEST:
            counts["overflow"] += 1
        else:
            assert now == np.float32(value)
            continue
        assert now == 0
    assert repairs == Repairs(**counts, values=len(values))


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, np.bool_])
def test_other_numbers_are_cast(dtype):
    found, repairs = finite_float32(np.array([[0, 1]], dtype=dtype), "x")
    assert found.tolist() == [[0.0, 1.0]]
    assert repairs == Repairs(values=2)


def test_repairs_add_up():
    assert Repairs(1, 2, 3, 10) + Repairs(nan=1, values=5) == Repairs(2, 2, 3, 15)
    assert str(Repairs(1, 2000, 3, 10_000)) == (
        "2,004 of 10,000 values replaced by 0 (1 NaN, 2,000 infinite, 3 too large for float32)"
    )


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([1j]), np.array([None])])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(DataError, match=r"audio of x\.pkl must hold real numbers; found"):
        finite_float32(values, "audio of x.pkl")
