import numpy as np
import pytest
from sklearn.datasets import load_digits

from concordant.benchmarks.digits import DIGITS, load, split


@pytest.fixture(scope="module")
def everything():
    return load(None)


def test_halves_side_by_side_are_the_scanned_image(everything):
    images, labels = load_digits(return_X_y=True)
    joined = np.concatenate([everything.inputs["left"], everything.inputs["right"]], 3)
    np.testing.assert_array_equal(joined.reshape(-1, 64), images)
    np.testing.assert_array_equal(everything.labels, labels)
    assert joined.shape == (1797, 1, 8, 8)


def test_profile_is_the_sums_of_rows_and_columns(everything):
    images = load_digits().images
    for image, profile in zip(images[:50], everything.inputs["profile"], strict=False):
        assert profile.tolist() == [sum(row) for row in image] + [sum(column) for column in image.T]


def test_everything_is_single_precision_with_the_declared_modalities(everything):
    assert tuple(everything.inputs) == DIGITS.modalities
    assert {x.dtype for x in everything.inputs.values()} == {np.dtype(np.float32)}
    assert everything.labels.dtype == np.int64


def test_parts_are_disjoint_complete_and_stratified(everything):
    parts = split(everything, 0, "random")
    sides = (parts.train, parts.valid, parts.test)
    ids = [name for side in sides for name in side.ids.tolist()]
    assert len(ids) == len(set(ids)) == len(everything)
    assert (len(parts.test), len(parts.valid)) == (360, 216)  # 20 % of all, 15 % of the rest, rounded up
    shares = np.bincount(everything.labels) / len(everything)
    for side in sides:
        np.testing.assert_allclose(np.bincount(side.labels) / len(side), shares, atol=0.01)


def test_rows_stay_together(everything):
    parts = split(everything, 1, "random")
    for side in (parts.train, parts.valid, parts.test):
        rows = np.array([int(name.removeprefix("digit-")) for name in side.ids.tolist()])
        np.testing.assert_array_equal(side.labels, everything.labels[rows])
        for name, x in side.inputs.items():
            np.testing.assert_array_equal(x, everything.inputs[name][rows])


def test_every_seed_has_a_test_part_of_its_own(everything):
    first, again, other = (split(everything, seed, "random") for seed in (0, 0, 1))
    assert first.test.ids.tolist() == again.test.ids.tolist()
    assert first.valid.ids.tolist() == again.valid.ids.tolist()
    assert first.test.ids.tolist() != other.test.ids.tolist()
