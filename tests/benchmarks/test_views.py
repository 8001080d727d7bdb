import numpy as np
import pytest

from concordant.benchmarks.catalogue import prepare

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("name", "images", "classes", "prefix"), [("scene15", 4485, 15, "scene-"), ("handwritten", 2000, 10, "digit-")]
)
def test_split_is_stratified_and_scaled_on_the_training_part(data_folder, name, images, classes, prefix):
    task = prepare(name, seed=0, data=data_folder)
    parts = (task.train, task.valid, task.test)
    ids = [image for part in parts for image in part.ids.tolist()]
    assert len(ids) == len(set(ids)) == images
    assert len(task.test) == images // 5
    assert len(task.classes) == classes
    with np.load(data_folder / f"{name}.npz") as archive:
        labels, views = archive["label"], {view: archive[view] for view in task.layouts}
    for part in parts:
        rows = np.array([int(image.removeprefix(prefix)) for image in part.ids.tolist()])
        np.testing.assert_array_equal(part.labels, labels[rows])
        np.testing.assert_allclose(np.bincount(part.labels) / len(part), np.bincount(labels) / images, atol=0.01)
    train = np.array([int(image.removeprefix(prefix)) for image in task.train.ids.tolist()])
    test = np.array([int(image.removeprefix(prefix)) for image in task.test.ids.tolist()])
    for view, x in views.items():
        mean, std = x[train].mean(0, dtype=np.float64), x[train].std(0, dtype=np.float64)
        expected = ((x[test] - mean) / std).clip(-6, 6)
        np.testing.assert_allclose(task.test.inputs[view], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["scene15", "handwritten"])
def test_every_seed_has_a_test_part_of_its_own(data_folder, name):
    first, other = (prepare(name, seed=seed, data=data_folder).test.ids.tolist() for seed in (0, 1))
    assert set(first) != set(other)
