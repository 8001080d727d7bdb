import math

import pytest
import torch

from benchmarks.growth import AXES, Axis, measure, measure_rows, work_of


class Clock:
    """Seconds that only pass where a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_axes_span_what_is_promised_and_name_all_sizes():
    spans = {axis.name: (axis.values[0], axis.values[-1]) for axis in AXES}
    assert spans["modalities"] == (2, 12)
    assert spans["steps"] == (10, 10_000)
    assert spans["features"] == (16, 4_096)
    for axis in AXES:
        assert list(axis.values) == sorted(axis.values)
        assert set(axis.shape(7)) == {"modalities", "steps", "features", "instances"}
        assert axis.shape(7)[axis.name] == 7


def test_the_exponent_is_that_of_the_time(monkeypatch):
    clock = Clock()

    def quadratic(calibrator, phase, sizes):
        def work():
            clock.now += sizes["steps"] ** 2

        return work

    monkeypatch.setattr("benchmarks.growth.work_of", quadratic)
    monkeypatch.setattr("benchmarks.growth.calls_for", lambda action, seconds: 1)
    axis = Axis("steps", (2, 4, 16), {"modalities": 2, "features": 3, "instances": 4})
    records = measure(axis, calibrators=["context"], repetitions=2, clock=clock)
    assert [record["phase"] for record in records] == ["train", "inference"]
    for record in records:
        assert record["ratio"] == [1, 4, 64]
        assert record["exponent"] == pytest.approx(2)
        assert record["peak_over_features"] == [0, 0, 0]


@pytest.mark.parametrize("phase", ["train", "inference"])
def test_the_work_is_the_calibrators(phase, monkeypatch):
    seen = []
    from concordant.calibration.calibrator import ContextualCalibrator

    forward = ContextualCalibrator.forward

    def spied(self, features, *args, **kwargs):
        seen.append((self.training, torch.is_grad_enabled(), {name: tuple(x.shape) for name, x in features.items()}))
        return forward(self, features, *args, **kwargs)

    monkeypatch.setattr(ContextualCalibrator, "forward", spied)
    work_of("context", phase, {"modalities": 2, "steps": 5, "features": 3, "instances": 4})()
    training = phase == "train"
    assert seen == [(training, training, {"m0": (4, 5, 3), "m1": (4, 5, 3)})]


def test_a_measurement_of_two_small_sizes_has_all_its_fields():
    axis = Axis("instances", (2, 8), {"modalities": 2, "steps": 3, "features": 4})
    (train, infer) = measure(axis, calibrators=["context"], repetitions=1, seconds=1e-4)
    assert train["values"] == [2, 8]
    assert train["ratio"][0] == infer["ratio"][0] == 1
    assert math.isfinite(train["exponent"])
    assert min(train["peak_over_features"]) > 1 > 0


def test_rows_are_timed_with_a_whole_step():
    found = measure_rows(rows=(70, 140), repetitions=1)
    assert found["rows"] == [70, 140]
    assert found["ratio"][0] == 1
    assert found["ratio"][1] > 0
