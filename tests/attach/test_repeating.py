"""What a module that runs twice must not show, and blocks that gradient checkpointing runs again."""

import copy
import importlib.util
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from concordant import UsageError, attach
from concordant.attach.repeating import State, check_checkpointing
from concordant.attach.taps import read_tap

TAP = read_tap("net", "taps['audio']")


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


class Checkpointed(nn.Module):
    """Runs itself under gradient checkpointing, with its keyword arguments bound, where it is told to."""

    on = True

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def __call__(self, *args, **kwargs):
        call = partial(super().__call__, **kwargs)
        return checkpoint(call, *args, use_reentrant=False) if self.on else call(*args)

    def forward(self, x):
        return self.layer(x).tanh()


def test_a_block_that_checkpoints_itself_is_tapped_with_the_same_gradients(monkeypatch):
    inputs, found = (torch.randn(6, 5), torch.randn(6, 3)), []
    for on in (True, False):
        monkeypatch.setattr(Checkpointed, "on", on)
        torch.manual_seed(0)
        sizes = {"audio": 4, "visual": 4}
        attached = attach(Model(Checkpointed), {name: name for name in sizes}, layout="bd", sizes=sizes, seed=0).train()
        (attached(*inputs).square().sum() + attached.auxiliary_loss()).backward()
        found.append({name: p.grad for name, p in attached.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() >= {"model.audio.layer.weight", "model.visual.layer.weight"}
    assert all(torch.equal(grad, found[1][name]) for name, grad in found[0].items())


class Checking(nn.Module):
    def forward(self, x):
        check_checkpointing(self, TAP)
        return 2 * x


@pytest.mark.parametrize("call", [lambda m: m, lambda m: m.forward, lambda m: partial(partial(m.__call__))])
def test_a_checkpointed_block_itself_is_fine(call):
    x = torch.ones(1, requires_grad=True)
    assert checkpoint(call(Checking()), x, use_reentrant=False).tolist() == [2]
    with pytest.raises(UsageError, match="the tap 'net' is checkpointed with use_reentrant=True"):
        checkpoint(call(Checking()), x, use_reentrant=True)


@pytest.mark.parametrize("around", [nn.Sequential, lambda m: lambda x: m(x), lambda m: partial(nn.Sequential(m))])
def test_what_lies_around_a_tap_must_not_be_checkpointed(around):
    with pytest.raises(UsageError, match="the tap 'net' lies inside a block that gradient checkpointing runs again"):
        checkpoint(around(Checking()), torch.ones(1, requires_grad=True), use_reentrant=False)


def test_a_function_that_is_only_called_alike_is_no_gradient_checkpointing(tmp_path):
    path = tmp_path / "utils" / "checkpoint.py"
    path.parent.mkdir()
    path.write_text("def checkpoint(model, x):\n    return model(x)\n", "utf-8")
    spec = importlib.util.spec_from_file_location("own_checkpoint", path)
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    assert own.checkpoint(Checking(), torch.ones(1)).tolist() == [2]
