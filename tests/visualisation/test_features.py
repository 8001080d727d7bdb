import numpy as np
import pytest

from concordant.robustness.own_data import as_split
from concordant.visualisation.features import GATE_KINDS, measure_features


@pytest.fixture(scope="module")
def found(planted):
    test, train = planted.test, planted.train
    return measure_features(
        planted.ours,
        test.x,
        test.labels,
        train=as_split(train.x, train.labels),
        valid=as_split(train.x, train.labels),
        classes=["north", "east", "south", "west"],
    )


def test_the_distrusted_instances_are_those_where_something_was_planted(planted, found):
    truth = {"a": planted.test.wrong, "b": planted.test.noisy, "c": np.zeros(800, bool)}
    right = [truth[one["modality"]][int(one["id"])] for one in found["distrusted"]]
    assert len(right) == 20
    assert np.mean(right) >= 0.8
    falls = [one["usual"] - one["reliability"] for one in found["distrusted"]]
    assert falls == sorted(falls, reverse=True)
    assert {one["label"] for one in found["distrusted"]} <= {"north", "east", "south", "west"}


def test_maps_have_the_same_points_before_and_after(found):
    points = found["points"]
    assert len(points["id"]) == len(set(points["id"])) == 400
    for maps in points["maps"].values():
        for how in ("pca", "tsne"):
            assert len(maps[how]["before"]) == len(maps[how]["after"]) == 400
            assert maps[how]["before"] != maps[how]["after"]
    assert all(len(values) == 400 for values in points["reliability"].values())


def test_separation_is_lower_where_noise_was_planted(found):
    for what in ("silhouette", "probe"):
        for side in ("before", "after"):
            values = {name: one[what][side] for name, one in found["separation"].items()}
            assert min(values, key=values.get) == "b"
    assert found["separation"]["c"]["probe"]["before"] > 0.95
    assert found["separation"]["b"]["probe"]["before"] == pytest.approx(0.5 + 0.5 / 4, abs=0.08)


def test_gates_and_agreement_are_there_by_class_and_by_corruption(found):
    gates = found["gates"]
    assert gates["by_corruption"]["kinds"] == list(GATE_KINDS)
    assert np.shape(gates["by_class"]["a"]) == (4, 14)
    assert np.shape(gates["by_corruption"]["values"]["a"]) == (len(GATE_KINDS), 14)
    conditions = {one["condition"]: one for one in found["agreement"]}
    clean, swapped = np.array(conditions["clean"]["conflict"]), np.array(conditions["swap"]["conflict"])
    assert np.allclose(clean, clean.T, atol=1e-5)
    assert (np.diag(clean) == 0).all()
    assert swapped.sum() > clean.sum()


def test_absent_modalities_are_null_on_the_map(planted, monkeypatch):
    monkeypatch.setattr("concordant.visualisation.features.POINTS", 60)
    test = planted.test
    present = {"b": np.arange(800) % 10 != 0}
    found = measure_features(planted.ours, test.x, test.labels, present=present)
    rows = [int(one) for one in found["points"]["id"]]
    for row, place, value in zip(
        rows, found["points"]["maps"]["b"]["pca"]["after"], found["points"]["reliability"]["b"], strict=True
    ):
        assert (place is None) == (value is None) == (row % 10 == 0)
    assert all(one["prediction"] is not None for one in found["distrusted"])


def test_a_calibrator_alone_has_no_predictions(planted, monkeypatch):
    monkeypatch.setattr("concordant.visualisation.features.POINTS", 60)
    found = measure_features(planted.ours.calibrator, planted.test.x, planted.test.labels)
    assert found["points"]["prediction"] is None
    assert {one["right"] for one in found["distrusted"]} == {None}
