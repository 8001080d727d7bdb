import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.reading import LARGEST, Findings, Repairs, finite
from concordant.errors import DataError

CARD = Card(
    name="toy",
    modalities={"a": ModalityCard(layout="bd", shape=(2,)), "b": ModalityCard(layout="bd", shape=(2,))},
    label=LabelCard(kind="real"),
    repairs={"b": "said before"},
    notes=("first",),
)


def test_repairs_are_counted_by_modality_over_all_calls():
    findings = Findings()
    found = [
        findings.clean("a", np.array([[1.0, np.nan], [np.inf, 1e300]]), "here"),
        findings.clean("a", np.array([-np.inf, 3.0, 4.0]), "there"),
        findings.clean("b", np.array([True, False]), "there"),
    ]
    assert [one.tolist() for one in found] == [[[1, 0], [0, 0]], [0, 3, 4], [1, 0]]
    assert {one.dtype for one in found} == {np.dtype(np.float32)}
    said = "4 of 7 values replaced by 0 (1 NaN, 2 infinite, 1 too large for float32)"
    assert findings.add_to(CARD).repairs == {"a": said, "b": "said before"}
    assert CARD.repairs == {"b": "said before"}


def test_clean_values_are_kept_and_nothing_is_said_of_them():
    findings, values = Findings(), np.array([np.finfo(np.float32).max, -0.0, 1e-45])
    np.testing.assert_array_equal(findings.clean("a", values, "here"), values.astype(np.float32))
    assert findings.add_to(CARD) == CARD


def test_what_a_reader_is_given_is_left_as_it_is():
    values = np.array([1.0, np.nan])
    Findings().clean("a", values, "here")
    np.testing.assert_array_equal(values, [1.0, np.nan])


@pytest.mark.parametrize("values", [np.array(["1"]), np.array([1j]), np.array([None]), np.array(["2020"], "M8[Y]")])
def test_what_is_no_number_is_named_and_not_counted(values):
    findings = Findings()
    with pytest.raises(DataError, match=re.escape(f"clip 7: audio must hold real numbers; found {values.dtype}")):
        findings.clean("a", values, "clip 7: audio")
    assert findings.repairs == {}


def test_notes_follow_those_of_the_card_and_failures_come_last():
    findings = Findings(failures={"x": "cut off", "y": "no film"}, notes=["second"])
    last = "2 clips could not be decoded and are left out; failures.json says why"
    assert findings.add_to(CARD).notes == ("first", "second", last)


def test_findings_of_two_readers_are_their_own():
    one, other = Findings(), Findings()
    one.notes.append("mine")
    one.clean("a", np.zeros(2), "here")
    assert (other.notes, other.repairs, other.failures) == ([], {}, {})


@given(st.lists(st.floats(width=64), max_size=20))
def test_every_value_is_finite_afterwards_and_every_replacement_counted(values):
    array = np.array(values, dtype=np.float64)
    with np.errstate(all="raise", under="ignore"):
        found, repairs = finite(array, "x")
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
    found, repairs = finite(np.array([[0, 1]], dtype=dtype), "x")
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
        finite(values, "audio of x.pkl")
