"""Two passes through a model: in-place changes, late masks, state of modules, gradient checkpointing."""

import importlib.util
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from concordant import ConcordantError, UsageError, attach

TAPS = {"audio": "audio", "visual": "visual"}


class Rectifying(nn.Module):
    """Changes its input in place before it reads it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x.relu_())


class Doubling(nn.Module):
    """Changes its input in place, and returns it."""

    def forward(self, x):
        return x.mul_(2)


class Skipping(nn.Module):
    """Uses an encoder's input again after the encoder."""

    def __init__(self, encoder=Rectifying, stem=True):
        super().__init__()
        self.stem = nn.Linear(4, 4) if stem else nn.Identity()
        self.audio, self.visual, self.head = encoder(), nn.Linear(3, 4), nn.Linear(8, 2)

    def forward(self, audio, visual):
        x = self.stem(audio)
        return self.head(torch.cat([self.audio(x) + x, self.visual(visual)], 1))


def made(model, **options):
    return attach(model, TAPS, layout="bd", seed=0, perturbation=False, **options)


def run(net, *inputs):
    """Return the output, the inputs, and the gradients if there are any."""
    out = net(*inputs)
    if not out.requires_grad:
        return [out, *inputs]
    net.zero_grad()
    out.square().sum().backward()
    return [out, *inputs, *(p.grad.clone() for p in getattr(net, "model", net).parameters())]


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("encoder", [Rectifying, Doubling])
@pytest.mark.parametrize("stem", [True, False])
def test_an_encoder_may_change_its_input_in_place_once(encoder, stem, mode):
    torch.manual_seed(0)
    model = Skipping(encoder, stem).eval()
    attached = made(model)
    with mode():
        audio, visual = torch.randn(6, 4), torch.randn(6, 3)
        expected, found = (run(net, audio.clone(), visual) for net in (model, attached))
    assert len(found) == len(expected)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


class Scaling(Skipping):
    def forward(self, audio, visual):
        return super().forward(audio.mul_(2), visual)


@pytest.mark.parametrize("made_within", [True, False])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_forward_that_changes_its_input_itself_is_refused_in_every_mode(mode, made_within):
    attached, audio = made(Scaling()), torch.randn(6, 4)
    with mode(), pytest.raises(ConcordantError, match="the model changes its input in place before the taps"):
        attached(audio.clone() if made_within else audio, torch.randn(6, 3))


def test_nan_is_not_a_change():
    model = Skipping().eval()
    attached = made(model, present={"audio": lambda audio, visual: ~audio.isnan().any(1)})
    with torch.inference_mode():
        audio, visual = torch.randn(6, 4), torch.randn(6, 3)
        audio[2] = torch.nan
        assert torch.equal(attached(audio, visual)[3:], model(audio, visual)[3:])


class Masking(nn.Module):
    """Computes the mask of valid steps from the input or from a feature."""

    def __init__(self, late):
        super().__init__()
        self.audio, self.visual, self.mask, self.late = nn.Linear(4, 4), nn.Linear(3, 4), Counting(), late

    def forward(self, audio, visual):
        x = self.audio(audio)
        valid = self.mask(x if self.late else audio)
        return (x * valid[..., None]).sum(1) + self.visual(visual)


class Counting(nn.Module):
    def forward(self, x):
        return x.abs().sum(-1) > 0


@pytest.mark.parametrize("training", [True, False])
def test_a_mask_computed_from_a_tapped_feature_is_refused(training):
    inputs = torch.randn(6, 5, 4), torch.randn(6, 3)
    inputs[0][1, 2:] = 0
    options = {"layout": {"audio": "btd", "visual": "bd"}, "masks": {"audio": "mask"}, "seed": 0}
    early, late = (attach(Masking(one), TAPS, **options).train(training) for one in (False, True))
    assert early(*inputs).shape == (6, 4)
    text = "the tap 'mask' of masks.audio depends on the tapped feature of 'audio'; what says which values count is"
    with pytest.raises(UsageError, match=text):
        late(*inputs)


class Stateful(nn.Module):
    """A model whose forward changes numbers and buffers, some of them new in the first pass."""

    def __init__(self, encoder=nn.Linear):
        super().__init__()
        self.audio, self.visual, self.middle = encoder(5, 4), encoder(3, 4), Middle()
        self.head = nn.Linear(8, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("late", None)
        self.mirror = nn.Module()
        self.mirror.register_buffer("mean", self.mean)

    def forward(self, audio, visual):
        self.calls = getattr(self, "calls", 0) + 1
        if "seen" not in self._buffers:
            self.register_buffer("seen", torch.zeros(()))
        self.seen += 1
        self.mean += 1
        self.late = torch.full((1,), float(self.calls))
        x = self.middle(self.audio(audio))
        return self.head(torch.cat([x, self.visual(visual)], 1))


class Middle(nn.Module):
    """A submodule between the taps, which runs in both passes."""

    def __init__(self):
        super().__init__()
        self.norm, self.calls, self.cache = nn.BatchNorm1d(4), 0, None

    def forward(self, x):
        self.calls += 1
        self.cache = x.detach()
        return self.norm(x)


def test_numbers_and_buffers_are_those_of_one_pass():
    model = Stateful()
    mean, norm = model.mean, model.middle.norm
    attached = attach(model, TAPS, layout="bd", seed=0)
    for done in (1, 2):
        attached(torch.randn(6, 5), torch.randn(6, 3))
        assert (model.calls, float(model.seen), float(model.late)) == (done, done, done)
        assert (model.middle.calls, int(norm.num_batches_tracked)) == (done, done)
    assert model.mean is model.mirror.mean is mean
    assert mean.tolist() == [2, 2]


class Checkpointed(nn.Module):
    """Runs itself under gradient checkpointing, with its keyword arguments bound."""

    on = True

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def __call__(self, *args, **kwargs):
        call = partial(super().__call__, **kwargs)
        return checkpoint(call, *args, use_reentrant=False) if self.on else call(*args)

    def forward(self, x):
        return self.layer(x).tanh()


def test_a_block_that_checkpoints_itself_keeps_its_gradients(monkeypatch):
    inputs, found = (torch.randn(6, 5), torch.randn(6, 3)), []
    for on in (True, False):
        monkeypatch.setattr(Checkpointed, "on", on)
        torch.manual_seed(0)
        sizes = {"audio": 4, "visual": 4}
        attached = attach(Stateful(Checkpointed), TAPS, layout="bd", sizes=sizes, seed=0).train()
        (attached(*inputs).square().sum() + attached.auxiliary_loss()).backward()
        found.append({name: p.grad for name, p in attached.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() >= {"model.audio.layer.weight", "model.visual.layer.weight"}
    assert all(torch.equal(grad, found[1][name]) for name, grad in found[0].items())


class Outside(nn.Module):
    """Calls its audio encoder through a function of the module and the input."""

    def __init__(self, call):
        super().__init__()
        self.audio, self.visual, self.call = nn.Linear(4, 4), nn.Linear(3, 4), call

    def forward(self, audio, visual):
        return self.call(self.audio, audio) + self.visual(visual)


BLOCKS = {
    "module": lambda m: m,
    "forward": lambda m: m.forward,
    "partial": lambda m: partial(partial(m.__call__)),
}
AROUND = {
    "sequential": lambda m: nn.Sequential(m),
    "function": lambda m: lambda x: m(x),
    "partial": lambda m: partial(nn.Sequential(m)),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_checkpointed_block_is_tapped_unless_it_is_reentrant(block):
    inputs = torch.randn(6, 4, requires_grad=True), torch.randn(6, 3)
    for reentrant in (False, True):
        model = Outside(lambda m, x, r=reentrant: checkpoint(BLOCKS[block](m), x, use_reentrant=r))
        attached = attach(model, TAPS, layout="bd", seed=0).eval()
        if reentrant:
            with pytest.raises(UsageError, match="the tap 'audio' is checkpointed with use_reentrant=True"):
                attached(*inputs)
        else:
            assert torch.equal(attached(*inputs), model(*inputs))


@pytest.mark.parametrize("around", AROUND)
def test_a_tap_inside_a_checkpointed_block_is_refused(around):
    model = Outside(lambda m, x: checkpoint(AROUND[around](m), x, use_reentrant=False))
    with pytest.raises(UsageError, match="the tap 'audio' lies inside a block that gradient checkpointing runs again"):
        attach(model, TAPS, layout="bd", seed=0)(torch.randn(6, 4), torch.randn(6, 3))


def test_a_user_s_function_named_checkpoint_is_not_gradient_checkpointing(tmp_path):
    path = tmp_path / "utils" / "checkpoint.py"
    path.parent.mkdir()
    path.write_text("def checkpoint(model, x):\n    return model(x)\n", "utf-8")
    spec = importlib.util.spec_from_file_location("own_checkpoint", path)
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    model, inputs = Outside(own.checkpoint), (torch.randn(6, 4), torch.randn(6, 3))
    assert torch.equal(attach(model, TAPS, layout="bd", seed=0).eval()(*inputs), model(*inputs))
