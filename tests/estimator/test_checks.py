"""scikit-learn's own checks. They know tables only, so they run on a table, which is a single modality; what they
look at of parameters, errors, labels, weights, copies and pickles is the same code for modalities by name.

One cannot hold, see EXPECTED. Those of feature names and of `n_features_in_` say nothing of modalities by name, which
have no single number of columns; `test_base.py` tests what stands in for them: forms of modalities, by name."""

import pytest
from sklearn.utils.estimator_checks import check_estimator

from concordant import MultimodalClassifier, MultimodalRegressor

EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "training goes in mini-batches: an instance that is there twice is drawn otherwise than one with twice the "
        "weight, so the two fits agree in expectation only"
    ),
}


@pytest.mark.parametrize("kind", [MultimodalClassifier, pytest.param(MultimodalRegressor, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_pass(kind):
    results = check_estimator(kind(max_iter=120), expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    assert len(results) > 50
    failed = {one["check_name"]: str(one["exception"])[:300] for one in results if one["status"] == "failed"}
    assert not failed
    assert {one["check_name"] for one in results if one["status"] == "xfail"} == set(EXPECTED)
