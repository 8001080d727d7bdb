"""Random states (CPU generators stand in for CUDA devices), and interception of unusual modules."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from concordant import attach
from concordant.attach.hooks import cuda_devices
from concordant.attach.state import RandomState


def drawn():
    return torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002, S311


def test_random_states_are_restored():
    state = RandomState()
    first = drawn()
    assert drawn() != first
    state.restore()
    assert drawn() == first


class Cards:
    """Two CUDA devices, each with a generator of the CPU."""

    def __init__(self):
        self.default_generators = [torch.Generator().manual_seed(100 + card) for card in range(2)]

    def get_rng_state(self, device):
        return self.default_generators[device].get_state()

    def set_rng_state(self, state, device):
        self.default_generators[device].set_state(state)

    def draw(self, device):
        return torch.rand(1, generator=self.default_generators[device]).item()


@pytest.fixture
def cards(monkeypatch):
    fake = Cards()
    for name in ("default_generators", "get_rng_state", "set_rng_state"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    return fake


def test_the_devices_are_those_of_parameters_buffers_and_inputs(cards):
    def on(*names):
        return [SimpleNamespace(device=torch.device(name)) for name in names]

    module = SimpleNamespace(parameters=lambda: on("cuda:3", "cpu", "cuda:0"), buffers=lambda: on("cuda:3"))
    assert cuda_devices(module) == [0, 3]
    assert cuda_devices(module, on("cuda:2", "cpu", "cuda")) == [0, 1, 2, 3]  # without a number, the current one
    assert cuda_devices(nn.Linear(1, 1, device="meta"), [torch.ones(1)]) == []


def test_random_states_of_the_given_devices_are_restored(cards):
    state = RandomState([1])
    first = cards.draw(1)
    assert cards.draw(1) != first
    elsewhere = cards.draw(0)
    state.restore()
    assert cards.draw(1) == first
    assert cards.draw(0) != elsewhere


class Doubling(nn.Linear):
    """A layer with a forward of its own on the instance, and hooks."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.forward = lambda x: 2 * nn.functional.linear(x, self.weight, self.bias)
        self.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
        self.register_forward_hook(lambda _, __, out: out + 5)


class Model(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.audio, self.visual, self.head = encoder(5, 4), nn.Linear(3, 4), nn.Linear(8, 2)

    def forward(self, audio, visual):
        return self.head(torch.cat([self.audio(audio), self.visual(visual)], 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("encoder", [Doubling, lambda *sizes: torch.jit.script(nn.Linear(*sizes))])
def test_scripted_and_patched_encoders_are_tapped_and_left_unchanged(encoder):
    model = Model(encoder).eval()
    before = [dict(module.__dict__) for module in (model.visual, model.head)]
    names = {id(module): set(module.__dict__) for module in model.modules()}
    inputs = torch.randn(6, 5), torch.randn(6, 3)
    expected = model(*inputs)
    attached = attach(model, {"audio": "audio", "visual": "visual"}, layout="bd", seed=0).eval()
    assert torch.equal(attached(*inputs), expected)
    attached.calibrator.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attached(*inputs)
    assert {id(module): set(module.__dict__) for module in model.modules()} == names
    assert [dict(module.__dict__) for module in (model.visual, model.head)] == before
    assert torch.equal(model(*inputs), expected)
