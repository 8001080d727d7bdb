import math

import numpy as np
import pytest

from concordant.benchmarks.actions import CLASSES, SENSORS, load_sensors, split_sensors

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def everything(data_folder):
    return load_sensors(data_folder)


@pytest.fixture(scope="module")
def archive(data_folder):
    with np.load(data_folder / SENSORS) as found:
        yield found


@pytest.mark.parametrize("seed", [0, 1])
def test_odd_subjects_train_and_validate_and_even_ones_test(everything, seed):
    parts = split_sensors(everything, seed, "subjects")
    assert set(parts.train.groups.tolist()) == {"1", "3", "5", "7"} >= set(parts.valid.groups.tolist())
    assert set(parts.test.groups.tolist()) == {"2", "4", "6", "8"}
    assert len(parts.train) + len(parts.valid) == 431
    assert len(parts.valid) == 65
    assert len(parts.test) == 430
    ids = [name for part in (parts.train, parts.valid, parts.test) for name in part.ids.tolist()]
    assert len(set(ids)) == 861
    assert set(parts.valid.labels.tolist()) == set(range(CLASSES))
    assert list(parts.layouts) == ["skeleton", "inertial", "depth"]
    for part in (parts.train, parts.valid, parts.test):
        assert {name: len(layout) for name, layout in parts.layouts.items()} == {
            name: x.ndim for name, x in part.inputs.items()
        }


def test_the_seed_chooses_what_validates(everything):
    found = [split_sensors(everything, seed, "subjects") for seed in (0, 0, 1)]
    assert found[0].valid.ids.tolist() == found[1].valid.ids.tolist()
    assert found[0].valid.ids.tolist() != found[2].valid.ids.tolist()
    assert found[0].test.ids.tolist() == found[2].test.ids.tolist()


def test_labels_subjects_and_names_stay_with_their_recordings(everything, archive):
    np.testing.assert_array_equal(everything.labels, archive["action"])
    assert everything.groups.tolist() == [str(subject) for subject in archive["subject"].tolist()]
    assert everything.ids.tolist() == archive["id"].tolist()


def test_skeleton_puts_the_three_axes_of_a_joint_side_by_side(everything, archive):
    skeleton = archive["skeleton"]
    assert everything.inputs["skeleton"].shape == (861, 64, 60)
    for joint in (0, 7, 19):
        expected = skeleton[:, :, joint] - skeleton[:, :1, 3]
        np.testing.assert_array_equal(everything.inputs["skeleton"][..., 3 * joint : 3 * joint + 3], expected)
    np.testing.assert_array_equal(everything.inputs["inertial"], archive["inertial"])


def test_joints_are_relative_to_the_hips_of_the_first_frame(everything, archive):
    hips = everything.inputs["skeleton"].reshape(861, 64, 20, 3)[:, :, 3]
    assert not hips[:, 0].any()
    assert hips[:, 1:].any(-1).all()  # later frames keep what the body does in space
    # The joint is the one between the hips: nearest to the middle of the two, of all twenty.
    joints = archive["skeleton"]
    distance = np.linalg.norm(joints - (joints[:, :, 12:13] + joints[:, :, 16:17]) / 2, axis=-1).mean((0, 1))
    assert distance.argmin() == 3


def test_depth_is_the_mean_over_squares_of_pixels_less_that_of_the_recording(everything, archive):
    depth = archive["depth"]
    assert everything.inputs["depth"].dtype == np.float32
    found = everything.inputs["depth"].reshape(861, 16, -1)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-3)  # millimetres; what stands still is gone
    side = math.isqrt(60 * 80 // found.shape[2])  # of a square
    assert found.shape[2] * side**2 == 60 * 80
    for row, frame in ((0, 0), (400, 7), (860, 15)):
        for y in range(60 // side):
            for x in range(80 // side):
                squares = [
                    [int(depth[row, t, side * y + i, side * x + j]) for i in range(side) for j in range(side)]
                    for t in range(16)
                ]
                means = [sum(square) / side**2 for square in squares]
                assert found[row, frame, y * (80 // side) + x] == pytest.approx(
                    means[frame] - sum(means) / 16, abs=2e-3
                )
