import pytest

from benchmarks import bandwidth


class Clock:
    """Counts its calls: every timed action takes one second."""

    now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.mark.parametrize("masked", [False, True])
def test_the_bound_is_a_read_and_a_copy(masked):
    record = bandwidth.measure(shape=(3, 5, 4), masked=masked, repetitions=3, clock=Clock())
    # One second for the calibrator against one for the read and one for the copy.
    assert record["ratio"] == 0.5
    assert record["warm_ratio"] == 0.5
    assert record["bound_milliseconds"] == 2000
    assert record["shape"] == [3, 5, 4]
    assert (record["modalities"], record["masked"], record["compiled"]) == (3, masked, False)
    assert record["nanoseconds_a_byte"] == pytest.approx(1e9 / (3 * 4 * 60))


def test_the_calibrator_is_asked_in_evaluation_mode_with_masks(monkeypatch):
    asked = []
    entry = bandwidth.CALIBRATORS["self"].build
    forward = entry.forward

    def watched(self, features, masks):
        asked.append((self.training, {name: tuple(x.shape) for name, x in features.items()}, sorted(masks)))
        return forward(self, features, masks)

    monkeypatch.setattr(entry, "forward", watched)
    bandwidth.measure("self", shape=(3, 5, 4), modalities=2, masked=True, repetitions=1)
    assert set(map(str, asked)) == {str((False, {"m0": (3, 5, 4), "m1": (3, 5, 4)}, ["m0", "m1"]))}
