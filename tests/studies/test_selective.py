import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.selective import area_under_risk_coverage


def test_the_area_is_the_mean_error_rate_of_the_most_confident():
    right = np.array([True, False, True, True])
    confidence = np.array([0.9, 0.1, 0.8, 0.3])
    assert area_under_risk_coverage(right, confidence) == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)
    assert area_under_risk_coverage(right, -confidence) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_without_differences_in_confidence_it_is_the_error_rate(right):
    area = area_under_risk_coverage(np.array(right), np.zeros(len(right)))
    assert area == pytest.approx(1 - np.mean(right))
