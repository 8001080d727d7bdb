import numpy as np
import pytest

from concord.data.benchmarks import prepare

pytestmark = pytest.mark.data


def test_split_is_stratified_and_scaled_on_the_training_part(data_folder):
    task = prepare("scene15", seed=0, data=data_folder)
    parts = (task.train, task.valid, task.test)
    ids = [name for part in parts for name in part.ids.tolist()]
    assert len(ids) == len(set(ids)) == 4485
    assert len(task.test) == 897
    assert len(task.classes) == 15
    with np.load(data_folder / "scene15.npz") as archive:
        labels, views = archive["label"], {name: archive[name] for name in task.layouts}
    for part in parts:
        rows = np.array([int(name.removeprefix("scene-")) for name in part.ids.tolist()])
        np.testing.assert_array_equal(part.labels, labels[rows])
        np.testing.assert_allclose(np.bincount(part.labels) / len(part), np.bincount(labels) / 4485, atol=0.01)
    train = np.array([int(name.removeprefix("scene-")) for name in task.train.ids.tolist()])
    test = np.array([int(name.removeprefix("scene-")) for name in task.test.ids.tolist()])
    for name, x in views.items():
        mean, std = x[train].mean(0, dtype=np.float64), x[train].std(0, dtype=np.float64)
        expected = ((x[test] - mean) / std).clip(-6, 6)
        np.testing.assert_allclose(task.test.inputs[name], expected, rtol=1e-3, atol=1e-4)


def test_every_seed_has_a_test_part_of_its_own(data_folder):
    first, other = (prepare("scene15", seed=seed, data=data_folder).test.ids.tolist() for seed in (0, 1))
    assert set(first) != set(other)
