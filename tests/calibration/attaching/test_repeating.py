"""What a module that runs twice must not show."""

import copy

import torch
from torch import nn

from concord import attach
from concord.calibration.attaching.repeating import State


class Counting(nn.Module):
    """Keeps a number and a buffer, some of them only from its first call on."""

    def __init__(self):
        super().__init__()
        self.known, self.cache = 0, None
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("later", None)

    def forward(self):
        self.known += 1
        self.late = getattr(self, "late", 0) + 1
        self.cache = torch.ones(1)
        self.mean += 1
        self.later = torch.full((1,), float(self.late))
        if "seen" not in self._buffers:
            self.register_buffer("seen", torch.zeros(()))
        self.seen += 1


def contents(module):
    buffers = {name: None if x is None else x.tolist() for name, x in module._buffers.items()}
    return {k: v for k, v in module.__dict__.items() if not k.startswith("_")}, buffers


def test_modules_are_what_they_were_whatever_they_counted():
    module = Counting()
    before, mean = copy.deepcopy(contents(module)), module.mean
    state = State([module])
    module()
    module()
    assert contents(module) != before
    state.put_back()
    assert contents(module) == before
    assert module.mean is mean
    module()  # counts from the start
    assert (module.known, module.late, float(module.seen), mean.tolist()) == (1, 1, 1, [1, 1])


def test_a_buffer_that_two_modules_share_is_one_copy_meanwhile():
    one, two = nn.Module(), nn.Module()
    one.register_buffer("x", torch.zeros(1))
    two.register_buffer("y", one.x)
    state = State([one, two])
    one.x += 1
    assert two.y is one.x
    state.put_back()
    assert two.y is one.x
    assert one.x.tolist() == [0]


class Model(nn.Module):
    """Two encoders and a head; counts its calls in places that only the first call makes."""

    def __init__(self, encoder=nn.Linear):
        super().__init__()
        self.audio, self.visual, self.head = encoder(5, 4), encoder(3, 4), nn.Linear(8, 2)

    def forward(self, audio, visual):
        self.calls = getattr(self, "calls", 0) + 1
        if "seen" not in self._buffers:
            self.register_buffer("seen", torch.zeros(()))
        self.seen += 1
        return self.head(torch.cat([self.audio(audio), self.visual(visual)], 1))


def test_what_forward_first_makes_is_of_one_pass():
    model = Model()
    attached = attach(model, {"audio": "audio", "visual": "visual"}, layout="bd", seed=0)
    for done in (1, 2):
        attached(torch.randn(6, 5), torch.randn(6, 3))
        assert (model.calls, float(model.seen)) == (done, done)
