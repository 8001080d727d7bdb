"""The linear probe against scikit-learn, and pooling over what is valid."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from concordant.data.split import Split
from concordant.dynamics.probe import evenly, pooled, probes, ridge_probe, sides
from concordant.encoders.base import Encoder
from concordant.training.batches import Tensors, to_tensors


@pytest.mark.parametrize("classes", [2, 5])
def test_it_is_scikit_learn_s_ridge_classifier(classes):
    draws = np.random.default_rng(classes)
    labels = draws.integers(0, classes, 400)
    x = draws.normal(size=(400, 12)) * draws.uniform(0.1, 9, 12) + 2
    x[:, :classes] += np.eye(classes)[labels]
    scale = StandardScaler().fit(x[:250])
    expected = (
        RidgeClassifier().fit(scale.transform(x[:250]), labels[:250]).score(scale.transform(x[250:]), labels[250:])
    )
    tensors = torch.from_numpy(x), torch.from_numpy(labels)
    found = ridge_probe(tensors[0][:250], tensors[1][:250], tensors[0][250:], tensors[1][250:])
    assert found == pytest.approx(expected)
    assert 0.3 < found < 1


def test_what_can_be_told_apart_is_told_apart():
    labels = torch.arange(60) % 3
    features = torch.nn.functional.one_hot(labels, 3).float() + 0.05 * torch.randn(60, 3)
    assert ridge_probe(features[:30], labels[:30], features[30:], labels[30:]) == 1


def test_constant_columns_do_no_harm():
    labels = torch.arange(40) % 2
    features = torch.stack([labels.float(), torch.full((40,), 7.0)], 1)
    assert ridge_probe(features, labels, features, labels) == 1


def test_one_class_or_no_row_gives_nothing():
    x, labels = torch.randn(6, 2), torch.arange(6) % 2
    assert ridge_probe(x, torch.zeros(6, dtype=torch.long), x, labels) is None
    assert ridge_probe(x[:0], labels[:0], x, labels) is None
    assert ridge_probe(x, labels, x[:0], labels[:0]) is None


def test_classes_that_training_lacks_are_never_right():
    x, labels = torch.tensor([[0.0], [1.0]] * 5), torch.tensor([0, 4] * 5)
    held = torch.tensor([[0.0], [1.0]])
    assert ridge_probe(x, labels, held, torch.tensor([0, 3])) == 0.5


class Same(Encoder):
    def forward(self, x, mask=None, present=None):
        return x, mask


class Model(torch.nn.Module):
    def __init__(self, **encoders):
        super().__init__()
        self.encoders = torch.nn.ModuleDict(encoders)


def test_steps_that_are_not_valid_are_left_out_of_the_mean():
    model = Model(a=Same(2, "btd"), b=Same(3, "bd"))
    x, y = torch.randn(4, 5, 2), torch.randn(4, 3)
    mask = torch.arange(5) < torch.tensor([5, 2, 1, 0])[:, None]
    here = torch.tensor([True, False, True, True])
    means, present = pooled(model, Tensors({"a": x, "b": y}, torch.zeros(4), {"a": mask}, {"b": here}))
    for row, length in enumerate((5, 2, 1)):
        torch.testing.assert_close(means["a"][row], x[row, :length].mean(0))
    torch.testing.assert_close(means["b"][here], y[here])
    assert present.tolist() == [[True, True], [True, False], [True, True], [False, True]]


def a_split(count, *, real=False, absent=()):
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 2, count)
    a = (2.0 * labels - 1)[:, None] + 0.1 * draws.normal(size=(count, 3))
    b = draws.normal(size=(count, 3))
    return Split(
        inputs={"a": a.astype(np.float32), "b": b.astype(np.float32)},
        labels=(labels - 0.5).astype(np.float32) if real else labels,
        ids=np.arange(count).astype(str),
        present={name: np.zeros(count, bool) for name in absent},
    )


@pytest.mark.parametrize("real", [False, True])
def test_a_modality_of_noise_is_at_chance_and_one_that_knows_is_not(real):
    found = probes(
        Model(a=Same(3, "bd"), b=Same(3, "bd")),
        to_tensors(a_split(500, real=real)),
        to_tensors(a_split(900, real=real)),
    )
    assert found["a"] == 1
    assert 0.4 < found["b"] < 0.65


def test_a_modality_that_no_instance_has_is_not_probed():
    data = to_tensors(a_split(40, absent=("b",)))
    assert probes(Model(a=Same(3, "bd"), b=Same(3, "bd")), data, data) == {"a": 1, "b": None}


@pytest.mark.parametrize(("count", "taken"), [(512, 512), (513, 257), (2000, 500), (3, 3)])
def test_at_most_so_many_instances_evenly_spaced(count, taken):
    found = evenly(to_tensors(a_split(count)), 512)
    assert len(found) == taken
    assert torch.equal(found.labels, to_tensors(a_split(count)).labels[:: -(-count // 512)])


def test_real_labels_are_told_apart_by_the_side_of_zero():
    assert sides(torch.tensor([-0.1, 0.0, 2.0])).tolist() == [0, 1, 1]
    assert sides(torch.tensor([3, 0])).tolist() == [3, 0]
