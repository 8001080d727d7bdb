import copy
import pickle

import torch
import torch.nn.functional as F

from concordant.fusion import FeatureSpec
from concordant.fusion.convolutional.centralnet import CentralNet
from concordant.modalities import LAYOUTS

SPECS = {"a": FeatureSpec(4, LAYOUTS["bchw"]), "b": FeatureSpec(6, LAYOUTS["btd"])}


def build():
    torch.manual_seed(0)
    return CentralNet(SPECS, classes=5, widths=(8, 8), blocks="small", grid=2)


def features():
    return {"a": torch.randn(3, 4, 4, 4), "b": torch.randn(3, 7, 6)}


def streams(model, given):
    """Return what each stage makes of each stream: a's map, b's steps."""
    found, a, b = [], given["a"], given["b"]
    for stage in model.stages:
        a, b = stage["a"](a, None)[0], stage["b"](b, None)[0]
        found.append((a, b))
    return found


def test_every_central_state_is_the_weighted_sum_of_the_formula():
    model, given = build().eval(), features()
    for weights in model.weights:
        torch.nn.init.uniform_(weights)
    central = None
    for number, (a, b) in enumerate(streams(model, given)):
        cells = torch.stack([a[:, :, i : i + 2, j : j + 2].mean((2, 3)) for i in (0, 2) for j in (0, 2)], 2)
        weights = model.weights[number]
        state = weights[0] * cells.view(3, 8, 2, 2) + weights[1] * b.mean(1)[:, :, None, None]
        if central is not None:
            state = state + weights[2] * model.central[number - 1](central, None)[0]
        central = state
    torch.testing.assert_close(model(given, {}, {}), model.head(central.mean((2, 3))))


def test_streams_learn_the_task_too_each_over_the_instances_that_have_it():
    model, given = build().train(), features()
    labels, here = torch.tensor([1, 0, 4]), torch.tensor([True, False, True])
    model(given, {}, {"a": here})
    a, b = streams(model, given)[-1]
    own = {"a": model.heads["a"](a.mean((2, 3))), "b": model.heads["b"](b.mean(1))}
    expected = F.cross_entropy(own["a"][here], labels[here]) + F.cross_entropy(own["b"], labels)
    torch.testing.assert_close(model.auxiliary_loss(labels), expected)
    assert float(model.auxiliary_loss()) == 0
    assert float(model.eval().auxiliary_loss(labels)) == 0


def test_it_can_be_copied_and_pickled_after_a_training_pass():
    model, given = build().train(), features()
    model(given, {}, {})
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other.eval()(given, {}, {}), model.eval()(given, {}, {}))
