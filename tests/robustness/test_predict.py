import ctypes
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from concordant import attach
from concordant.benchmarks.catalogue import prepare
from concordant.errors import UsageError
from concordant.robustness.conditions import removal, run_conditions
from concordant.robustness.own_data import as_split
from concordant.robustness.predict import (
    FromFeatures,
    _free_heap,
    _trim,
    evaluating,
    feature_layouts,
    features_of,
    parameters_of,
    predict,
    predictor,
)
from concordant.training.config import Variant, make_config
from concordant.training.model import build_model
from concordant.training.runs import open_runs


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


def some_split(count=10, **more):
    draws = np.random.default_rng(0)
    x = {"a": draws.standard_normal((count, 3)), "b": draws.standard_normal((count, 4))}
    return as_split(x, np.arange(count) % 2, **more)


def test_a_plain_callable_is_called_in_batches():
    seen = []

    def model(features):
        seen.append(len(features["a"]))
        return features["a"]

    answer = predict(model, some_split(), batch=4)
    assert seen == [4, 4, 2]
    assert np.array_equal(answer.logits, some_split().inputs["a"])
    assert np.array_equal(answer.predictions(), answer.logits.argmax(1))
    assert answer.reliability is None
    assert answer.present.all()
    assert answer.present.shape == (10, 2)


def test_masks_and_presence_go_only_to_models_that_take_them():
    x = {"a": np.ones((4, 3)), "s": np.ones((4, 5, 2))}
    some = as_split(x, np.arange(4) % 2, masks={"s": np.ones((4, 5))}, present={"a": [True, False, True, True]})
    got = {}

    def model(features, present, *, masks=None):
        got.update(present=present, masks=masks)
        return features["a"]

    answer = predict(model, some)
    assert got["present"]["a"].tolist() == [True, False, True, True]
    assert got["masks"]["s"].shape == (4, 5)
    assert answer.present[:, 0].tolist() == [True, False, True, True]
    assert predict(lambda features: features["a"], some).present[:, 1].all()


def test_a_module_is_in_evaluation_mode_meanwhile_and_without_gradients():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)
            self.dropout = nn.Dropout(0.9)

        def forward(self, features):
            assert not self.training
            return self.head(self.dropout(features["a"]))

    model = Noisy()
    first, second = predict(model, some_split()).logits, predict(model, some_split()).logits
    assert np.array_equal(first, second)
    assert model.training


def test_logits_may_be_an_attribute_a_tuple_or_one_number():
    x = torch.arange(10.0)
    assert predict(lambda f: SimpleNamespace(logits=f["a"]), some_split()).logits.shape == (10, 3)
    assert predict(lambda f: (f["a"], "more"), some_split()).logits.shape == (10, 3)
    assert predict(lambda f: x[: len(f["a"])], some_split()).predictions(real=True).tolist() == x.tolist()


def test_reliability_is_read_off_the_output():
    found = predict(lambda f: SimpleNamespace(logits=f["a"], reliability=f["b"][:, :2]), some_split())
    assert np.array_equal(found.reliability, some_split().inputs["b"][:, :2])


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (lambda f: "yes", r"model must return logits of shape \(10, C\).*found str"),
        (lambda f: f["a"].T, r"found of shape \(3, 10\)"),
        (lambda f: f["a"].sum(), r"found of shape \(\)"),
    ],
)
def test_what_is_no_logits_is_refused(returned, text):
    with pytest.raises(UsageError, match=text):
        predict(returned, some_split())


def test_parts_that_were_in_evaluation_mode_stay_in_it():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 2)

        def forward(self, features):
            return self.head(self.norm(features["a"]))

    model = Frozen().train()
    model.norm.eval()
    predict(model, some_split())
    assert [one.training for one in (model, model.norm, model.head)] == [True, False, True]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(8, 2)

    def forward(self, a, b, masks=None):
        return self.head(torch.cat([self.a(a), self.b(b)], 1))


def test_an_attached_model_is_called_by_the_names_of_its_arguments_and_gives_reliability():
    net = Net().eval()
    attached = attach(net, {"a": "a", "b": "b"}, layout="bd", sizes={"a": 4, "b": 4})
    expected = net(*(torch.from_numpy(some_split().inputs[name]).float() for name in ("a", "b"))).detach().numpy()
    for model in (attached, torch.compile(attached, backend="eager"), nn.DataParallel(attached)):
        assert parameters_of(model) == ["a", "b", "masks"]
        answer = predict(model, some_split())
        np.testing.assert_allclose(answer.logits, expected, rtol=1e-5, atol=1e-6)
        assert np.array_equal(answer.reliability, np.ones((10, 2)))
    attached.detach()
    assert predict(attached, some_split()).reliability is None


@pytest.fixture(scope="module")
def opened(digits_run):
    runs = open_runs(digits_run)
    task = runs.task(0, None)
    return task, runs.model(task, runs.variant("context"), 0)


def test_a_model_predicts_alike_from_its_inputs_and_from_its_features(opened):
    task, model = opened
    features = features_of(model, task.test)
    assert set(feature_layouts(model)) == set(features.inputs)
    direct, again = predict(model, task.test), predict(FromFeatures(model), features)
    assert again.logits == pytest.approx(direct.logits, abs=1e-5)
    assert again.reliability == pytest.approx(direct.reliability, abs=1e-5)


def test_absent_modalities_stay_absent_and_their_features_are_zero(opened):
    task, model = opened
    split, _ = removal("right").change(task.test, None)
    features = features_of(model, split)
    assert not features.present["right"].any()
    assert (features.inputs["right"] == 0).all()
    assert predict(FromFeatures(model), features).logits == pytest.approx(predict(model, split).logits, abs=1e-5)
    assert np.array_equal(features.ids, split.ids)


# Large intermediate blocks just below glibc's 32 MiB, small results that are kept between them.
SCRIPT = """
import numpy as np, torch
from concordant.data.split import Split
from concordant.robustness.answers import evaluate
from concordant.robustness.conditions import Condition
x = np.ones((300, 400, 64), np.float32)
split = Split({"x": x}, np.zeros(300, np.int64), np.arange(300).astype(str))
layer, seen = torch.nn.Linear(64, 64), []
def model(features):
    scaled = features["x"] * torch.sigmoid(features["x"].mean(1)).unsqueeze(1)
    return torch.relu(layer(scaled)).mean(1)
def change(split, number):
    seen.append(int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20)
    return split.with_inputs({"x": split.inputs["x"] + 1}), np.zeros((300, 1), np.bool_)
evaluate(model, split, [Condition(str(number), change) for number in range(16)])
print(seen[-1] - seen[2])
"""


@pytest.mark.skipif(sys.platform != "linux" or _trim() is None, reason="another C library than glibc")
def test_many_conditions_take_no_more_memory_than_one():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    assert float(done.stdout) < 100  # MiB


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_another_c_library_is_left_alone(monkeypatch, error):
    def refuse(_):
        raise error

    _trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    _free_heap(SimpleNamespace(inputs={"x": np.zeros(1 << 22, np.float32)}))
    assert _trim() is None
    _trim.cache_clear()


def counted(model):
    """Count the rows that each encoder sees."""
    seen = dict.fromkeys(model.encoders, 0)

    def count(name):
        return lambda _, given: seen.__setitem__(name, seen[name] + len(given[0]))

    for name, encoder in model.encoders.items():
        encoder.register_forward_pre_hook(count(name))
    return seen


@pytest.mark.parametrize("fusion", ["concat", "mbt", "lf-lstm", "mmtm"])
def test_only_what_a_condition_changes_is_encoded_again(task, fusion):
    config = make_config("digits", fusion=fusion, recipe={"width": 8})
    model = build_model(task, config, Variant("context", True), 0).eval()
    split = task.test
    conditions = list(run_conditions(split, task.layouts, 0))
    seen = counted(model)
    with evaluating(model):
        ask = predictor(model, split, conditions=len(conditions))
        assert all(count <= len(split) + 1 for count in seen.values())
        for condition in conditions:
            changed, perturbed = condition.change(split, None)
            before, expected = dict(seen), predict(model, changed)
            seen.update(before)
            found = ask(changed)
            for column, name in enumerate(split.inputs):
                assert seen[name] - before[name] <= perturbed[:, column].sum()
            for field in ("logits", "reliability", "clean"):
                np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=1e-5, atol=1e-6)
            assert np.array_equal(found.present, expected.present)
            assert np.array_equal(found.predictions(), expected.predictions())


def test_features_that_take_too_much_memory_are_not_kept(task, monkeypatch):
    model = build_model(task, make_config("digits", recipe={"width": 8}), Variant("context", True), 0).eval()
    monkeypatch.setattr("concordant.robustness.predict.KEPT_BYTES", 1000)
    seen = counted(model)
    with evaluating(model):
        predictor(model, task.test, conditions=3)
    assert set(seen.values()) == {1}
