import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from concordant.attach.draws import OwnStream, devices_of, put_back, remember


def drawn():
    return torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002, S311


def test_states_are_put_back():
    state = remember()
    first = drawn()
    assert drawn() != first
    put_back(state)
    assert drawn() == first


def test_an_own_stream_goes_on_where_it_was_and_leaves_the_global_one_alone():
    stream, other = OwnStream(3), OwnStream(3)
    state = remember()
    expected = drawn()
    put_back(state)
    with stream():
        one = torch.rand(2)
    with stream():
        two = torch.rand(2)
    assert drawn() == expected
    assert not torch.equal(one, two)
    with other():
        assert torch.equal(torch.rand(4), torch.cat([one, two]))


def test_a_module_on_the_cpu_or_on_no_device_has_no_cuda_devices():
    assert devices_of(torch.nn.Linear(1, 1), [torch.ones(1)]) == []
    assert devices_of(torch.nn.Linear(1, 1, device="meta")) == []


class Cards:
    """Two CUDA devices that are none: a generator of the CPU stands for each."""

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
    assert devices_of(module) == [0, 3]
    assert devices_of(module, on("cuda:2", "cpu", "cuda")) == [0, 1, 2, 3]  # without a number, the current one


def test_states_of_devices_are_put_back(cards):
    state = remember([1])
    first = cards.draw(1)
    assert cards.draw(1) != first
    elsewhere = cards.draw(0)
    put_back(state)
    assert cards.draw(1) == first
    assert cards.draw(0) != elsewhere  # was not asked for


def test_an_own_stream_draws_on_devices_and_leaves_their_global_streams_alone(cards):
    expected = [torch.rand(1, generator=torch.Generator().manual_seed(100 + card)).item() for card in range(2)]
    stream = OwnStream(3)
    with stream([0, 1]):
        first = [cards.draw(0), cards.draw(1)]
    with stream([0, 1]):
        second = [cards.draw(0), cards.draw(1)]
    own = torch.rand(2, generator=torch.Generator().manual_seed(3)).tolist()
    assert [first[0], second[0]] == [first[1], second[1]] == own
    assert [cards.draw(0), cards.draw(1)] == expected


def test_a_device_that_comes_in_later_starts_at_the_seed_and_others_stay_as_they_are(cards):
    stream = OwnStream(3)
    with stream():  # on the CPU, to find the feature sizes
        torch.rand(1)
    own = torch.rand(3, generator=torch.Generator().manual_seed(3)).tolist()
    with stream([0]):
        assert cards.draw(0) == own[0]
    before = cards.get_rng_state(0)
    with stream([1]):  # moved
        assert cards.draw(1) == own[0]
        assert torch.equal(cards.get_rng_state(0), before)
    with stream([0]):  # and back
        assert cards.draw(0) == own[1]
    assert torch.equal(cards.get_rng_state(0), before)
