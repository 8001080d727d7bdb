import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from concordant.errors import UsageError
from concordant.robustness.corruptions import KINDS
from concordant.robustness.curves import area, measure_corruption, summary
from concordant.robustness.own_data import as_split
from concordant.visualisation.trace import trace_calibration


@pytest.fixture(scope="module")
def measured(planted):
    return {
        name: measure_corruption(model, planted.test.x, planted.test.labels, valid=planted.train.x)
        for name, model in (("ours", planted.ours), ("twin", planted.twin))
    }


def test_every_kind_that_fits_vectors_is_there_with_five_scores(measured):
    found = measured["ours"]
    vectors = [name for name in KINDS if KINDS[name].group in ("values", "instances")]
    assert list(found["kinds"]) == [kind["name"] for kind in found["about"]] == vectors
    for one in found["kinds"].values():
        assert len(one["scores"]) == len(one["which"]) == len(one["whether"]) == 5
        assert one["area"] == pytest.approx(area(range(6), [found["clean"], *one["scores"]]))


def test_the_oracle_is_no_worse_than_the_twin_where_a_modality_is_all_wrong(measured):
    twin = measured["twin"]
    for kind in ("gaussian-noise", "dimension-replacement", "swap"):
        oracle, blind = twin["oracle"][kind]["scores"][-1], twin["kinds"][kind]["scores"][-1]
        assert oracle >= blind - 2 * np.sqrt(0.25 / 800), kind
    assert twin["oracle"]["swap"]["scores"][-1] > twin["kinds"]["swap"]["scores"][-1] + 0.05


def test_calibration_covers_some_of_the_way_to_the_oracle(measured):
    ours, twin = measured["ours"], measured["twin"]
    assert ours["mean"] > twin["mean"] + 0.01
    assert ours["worst"]["score"] > twin["worst"]["score"]


def test_detection_grows_with_severity_and_the_control_is_not_detected(measured):
    kinds = measured["ours"]["kinds"]
    for kind in ("gaussian-noise", "swap", "dimension-replacement"):
        assert kinds[kind]["which"][-1] > kinds[kind]["which"][0] + 0.1
        assert kinds[kind]["which"][-1] > 0.8
    assert kinds["same-class-swap"]["which"][-1] < kinds["swap"]["which"][-1] - 0.15
    assert measured["twin"]["kinds"]["swap"]["which"] is None
    assert measured["twin"]["diagram"] is None


def test_detection_finds_the_corrupted_modality_in_whatever_order_the_data_name_them(planted, measured):
    x = dict(reversed(planted.test.x.items()))
    found = measure_corruption(planted.ours, x, planted.test.labels, valid=planted.train.x, kinds=["swap"])
    assert found["modalities"] == list(x)
    assert found["kinds"]["swap"]["which"] == pytest.approx(measured["ours"]["kinds"]["swap"]["which"], abs=0.05)


def test_validation_data_have_the_modalities_of_the_data(planted):
    valid = {"a": planted.train.x["a"]}
    with pytest.raises(UsageError, match=r"valid must have the modalities of data, \['a', .*; found \['a'\]"):
        measure_corruption(planted.ours, planted.test.x, planted.test.labels, valid=valid)


def test_a_calibrator_of_fewer_modalities_than_the_data_has_no_detection(planted):
    more = {**planted.test.x, "other": planted.test.x["a"]}
    with pytest.raises(UsageError, match=r"one column per modality of the data, \(800, 4\), got \(800, 3\)"):
        measure_corruption(
            lambda features: planted.ours({name: features[name] for name in planted.test.x}),
            more,
            planted.test.labels,
            kinds=["swap"],
        )


def test_the_diagram_counts_every_case_of_every_condition(measured):
    found = measured["ours"]["diagram"]
    # Three modalities of 800 instances, corrupted and untouched, at five severities of ten kinds.
    assert sum(found["count"]) == 3 * 800 * 2 * 5 * len(measured["ours"]["kinds"])
    shares = [share for share, n in zip(found["intact"], found["count"], strict=True) if n > 500]
    assert shares[-1] > shares[0] + 0.3


def test_reliability_tells_the_noise_that_was_planted(planted):
    found = trace_calibration(planted.ours, as_split(planted.test.x, planted.test.labels))
    assert roc_auc_score(planted.test.noisy, -found.reliability[:, found.names.index("b")]) > 0.9
    assert roc_auc_score(planted.test.wrong, -found.reliability[:, found.names.index("a")]) > 0.8
    assert abs(roc_auc_score(planted.test.noisy, -found.reliability[:, found.names.index("c")]) - 0.5) < 0.1


def test_a_callable_without_reliability_has_scores_alone(planted):
    found = measure_corruption(
        lambda features: planted.twin(features).logits, planted.test.x, planted.test.labels, kinds=["swap"]
    )
    assert found["kinds"]["swap"]["whether"] is None
    assert found["oracle"]["swap"]["scores"][0] <= found["clean"]
    assert "oracle" not in measure_corruption(
        planted.twin, planted.test.x, planted.test.labels, kinds=["swap"], oracle=False
    )


def test_the_worst_case_is_the_lowest_score():
    kinds = {"x": {"scores": [0.9, 0.8], "area": 0.85}, "y": {"scores": [0.7, 0.75], "area": 0.75}}
    assert summary(kinds) == {
        "mean": pytest.approx(0.7875),
        "area": pytest.approx(0.8),
        "worst": {"kind": "y", "severity": 1, "score": 0.7},
    }


def test_kinds_that_fit_nothing_are_refused(planted):
    with pytest.raises(UsageError, match=r"none of the corruptions blur can be applied to a \(bd\), b \(bd\), c"):
        measure_corruption(planted.ours, planted.test.x, planted.test.labels, kinds=["blur"])
