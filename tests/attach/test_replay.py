"""Two passes: tensors that the model changes in place, and masks that come too late."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from concordant import ConcordantError, UsageError, attach

TAPS = {"audio": "audio", "visual": "visual"}


class Rectifying(nn.Module):
    """Changes its input in place before it looks at it."""

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
    """Uses what an encoder was given once more, behind it."""

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
    """Return everything that comes of a forward, and of a backward where there is one."""
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
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_forward_that_changes_its_input_itself_is_refused_in_every_mode(mode, made_within):
    attached, audio = made(Scaling()), torch.randn(6, 4)
    with mode(), pytest.raises(ConcordantError, match="the model changes its input in place before the taps"):
        attached(audio.clone() if made_within else audio, torch.randn(6, 3))


def test_values_that_are_no_numbers_are_no_change():
    model = Skipping().eval()
    attached = made(model, present={"audio": lambda audio, visual: ~audio.isnan().any(1)})
    with torch.inference_mode():
        audio, visual = torch.randn(6, 4), torch.randn(6, 3)
        audio[2] = torch.nan
        assert torch.equal(attached(audio, visual)[3:], model(audio, visual)[3:])


class Masking(nn.Module):
    """Tells from something which steps count."""

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
def test_a_mask_that_comes_of_a_tapped_feature_is_refused(training):
    inputs = torch.randn(6, 5, 4), torch.randn(6, 3)
    inputs[0][1, 2:] = 0
    options = {"layout": {"audio": "btd", "visual": "bd"}, "masks": {"audio": "mask"}, "seed": 0}
    early, late = (attach(Masking(one), TAPS, **options).train(training) for one in (False, True))
    assert early(*inputs).shape == (6, 4)
    text = "the tap 'mask' of masks.audio depends on the tapped feature of 'audio'; what says which values count is"
    with pytest.raises(UsageError, match=text):
        late(*inputs)
