import pytest
import torch
from torch import nn

from concordant import UsageError, attach


class States(nn.Module):
    """Reads the last hidden state of its encoders."""

    def __init__(self):
        super().__init__()
        self.a, self.v, self.head = (nn.LSTM(n, 4, batch_first=True) for n in (5, 7)), None, nn.Linear(8, 3)
        self.a, self.v = self.a

    def forward(self, a, v):
        _, (a, _) = self.a(a)
        _, (v, _) = self.v(v)
        return {"logits": self.head(torch.cat([a[-1], v[-1]], 1))}


class Dead(nn.Module):
    """Its second modality is computed and left aside, unless `gate` lets it through."""

    def __init__(self, way):
        super().__init__()
        self.a, self.v, self.head, self.way = nn.Linear(5, 4), nn.Linear(7, 4), nn.Linear(4, 3), way
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, a, v):
        a, v = self.a(a), self.v(v)
        if self.way == "gated":
            a = a + self.gate * v
        if self.way == "detached":
            a = a + v.detach()
        return self.head(a)


STEPS = torch.randn(6, 3, 5), torch.randn(6, 3, 7)
VECTORS = torch.randn(6, 5), torch.randn(6, 7)


def test_a_feature_that_the_output_does_not_depend_on_is_refused_with_the_elements_that_matter():
    with pytest.raises(
        UsageError, match=r"does not depend on the feature of 'a' at 'a'.*; tap 'a\[1\]\[0\]', which it"
    ) as fault:
        attach(States(), {"a": "a", "v": "v"}, example=STEPS)
    assert "find_taps suggests taps={'a': 'a[1][0]', 'v': 'v[1][0]'}, layout={'a': 'tbd', 'v': 'tbd'}" in str(
        fault.value
    )
    model = States().eval()
    attached = attach(model, {"a": "a[1][0]", "v": "v[1][0]"}, example=STEPS).eval()
    assert torch.equal(attached(*STEPS)["logits"], model(*STEPS)["logits"])


def test_one_element_of_two_is_refused_too():
    with pytest.raises(UsageError, match=r"feature of 'v' at 'v\[0\]'.*tap 'v\[1\]\[0\]'"):
        attach(States(), {"a": "a[1][0]", "v": "v[0]"}, example=STEPS)


def test_a_branch_that_goes_nowhere_is_refused():
    with pytest.raises(
        UsageError, match="feature of 'v' at 'v', so its calibration would change nothing; tap another submod"
    ):
        attach(Dead("left aside"), {"a": "a", "v": "v"}, example=VECTORS)


@pytest.mark.parametrize("way", ["gated", "detached"])
def test_a_closed_gate_and_a_detached_feature_count_as_used(way):
    attached = attach(Dead(way), {"a": "a", "v": "v"}, example=VECTORS)
    assert attached.calibrator.sizes == {"a": 4, "v": 4}


def test_an_example_leaves_the_model_as_it_was():
    model = Dead("gated").train()
    model.v.register_buffer("seen", torch.zeros(()))
    model.v.register_forward_hook(lambda module, *_: module.seen.add_(1) and None)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    attach(model, {"a": "a", "v": "v"}, example=VECTORS, seed=0)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("taps", [{"a": "encoder", "v": "v"}, {"a": "head", "v": "v"}])
def test_errors_of_taps_show_what_find_taps_finds_with_the_example(taps):
    with pytest.raises(
        UsageError, match=r"find_taps suggests taps=\{'a': 'a', 'v': 'v'\}, layout=\{'a': 'bd', 'v': 'bd'\}"
    ):
        attach(Dead("gated"), taps, example=VECTORS)


def test_auto_needs_an_example():
    with pytest.raises(UsageError, match=r'taps="auto" needs an example, one batch of inputs, and no `at`'):
        attach(Dead("gated"), "auto")
