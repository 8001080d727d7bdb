from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from concordant import attach
from concordant.errors import UsageError
from concordant.robustness.own_data import as_part
from concordant.robustness.predict import ask, parameters_of


def part(count=10, **more):
    draws = np.random.default_rng(0)
    x = {"a": draws.standard_normal((count, 3)), "b": draws.standard_normal((count, 4))}
    return as_part(x, np.arange(count) % 2, **more)


def test_a_plain_callable_is_asked_in_batches_and_joined():
    seen = []

    def model(features):
        seen.append(len(features["a"]))
        return features["a"]

    answer = ask(model, part(), batch=4)
    assert seen == [4, 4, 2]
    assert np.array_equal(answer.logits, part().inputs["a"])
    assert np.array_equal(answer.predictions(), answer.logits.argmax(1))
    assert answer.reliability is None
    assert answer.present.all()
    assert answer.present.shape == (10, 2)


def test_masks_and_presence_go_only_to_those_who_take_them():
    x = {"a": np.ones((4, 3)), "s": np.ones((4, 5, 2))}
    some = as_part(x, np.arange(4) % 2, masks={"s": np.ones((4, 5))}, present={"a": [True, False, True, True]})
    got = {}

    def model(features, present, *, masks=None):
        got.update(present=present, masks=masks)
        return features["a"]

    answer = ask(model, some)
    assert got["present"]["a"].tolist() == [True, False, True, True]
    assert got["masks"]["s"].shape == (4, 5)
    assert answer.present[:, 0].tolist() == [True, False, True, True]
    assert ask(lambda features: features["a"], some).present[:, 1].all()


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
    first, second = ask(model, part()).logits, ask(model, part()).logits
    assert np.array_equal(first, second)
    assert model.training


def test_logits_may_be_an_attribute_a_tuple_or_one_number():
    x = torch.arange(10.0)
    assert ask(lambda f: SimpleNamespace(logits=f["a"]), part()).logits.shape == (10, 3)
    assert ask(lambda f: (f["a"], "more"), part()).logits.shape == (10, 3)
    assert ask(lambda f: x[: len(f["a"])], part()).predictions(real=True).tolist() == x.tolist()


def test_reliability_is_read_off_the_output():
    told = ask(lambda f: SimpleNamespace(logits=f["a"], reliability=f["b"][:, :2]), part())
    assert np.array_equal(told.reliability, part().inputs["b"][:, :2])


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
        ask(returned, part())


def test_parts_that_were_in_evaluation_mode_stay_in_it():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 2)

        def forward(self, features):
            return self.head(self.norm(features["a"]))

    model = Frozen().train()
    model.norm.eval()
    ask(model, part())
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
    expected = net(*(torch.from_numpy(part().inputs[name]).float() for name in ("a", "b"))).detach().numpy()
    for model in (attached, torch.compile(attached, backend="eager"), nn.DataParallel(attached)):
        assert parameters_of(model) == ["a", "b", "masks"]
        answer = ask(model, part())
        np.testing.assert_allclose(answer.logits, expected, rtol=1e-5, atol=1e-6)
        assert np.array_equal(answer.reliability, np.ones((10, 2)))
    attached.detach()
    assert ask(attached, part()).reliability is None
