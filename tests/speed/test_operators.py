import torch
from torch import nn

from concordant.speed.operators import measure, operators_of
from concordant.speed.overhead import VECTORS


def test_operators_of_the_backward_pass_count_too():
    x = torch.ones(3, requires_grad=True)
    forward = operators_of(lambda: (x * x).sum())
    both = operators_of(lambda: (x * x).sum().backward())
    assert forward["mul"] == 1
    assert both["mul"] == 3  # and one for each factor
    assert both.total() > forward.total()


def test_they_are_the_same_at_every_repetition_and_do_not_depend_on_sizes():
    def counts(size):
        layer = nn.Linear(size, size)
        return operators_of(lambda: layer(torch.ones(2, size)))

    assert counts(4) == counts(4) == counts(64)


def test_a_calibrator_adds_operators():
    found = measure(VECTORS, "lf-dnn", calibrators=["context"])
    for phase in ("train", "inference"):
        count = {one["calibrator"]: one["operators"] for one in found if one["phase"] == phase}
        assert count["context"] > count["none"] > 0
    ratio = {(one["phase"], one["calibrator"]): one["ratio"] for one in found}
    assert ratio["train", "none"] == 1
    assert ratio["train", "none, clean"] < 1
