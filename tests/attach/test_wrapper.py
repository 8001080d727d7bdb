"""Modes, refusals, in-place changes and state dictionary of an attached model; the rest is in test_attach.py."""

import copy

import pytest
import torch
from torch import nn

from concordant import ConcordantError, UsageError, attach
from concordant.attach import without_calibrator

SIZES = {"audio": 4, "visual": 4}
TAPS = {name: name for name in SIZES}


class Model(nn.Module):
    """Two encoders, a normalisation that is kept in evaluation, and a fusion."""

    def __init__(self):
        super().__init__()
        self.audio, self.visual, self.norm = nn.Linear(5, 4), nn.Linear(3, 4), nn.BatchNorm1d(8)
        self.fusion = Fusion()
        self.train()
        self.norm.eval()

    def forward(self, audio, visual):
        return self.fusion(self.audio(audio), self.visual(visual), self.norm)


class Fusion(nn.Module):
    def forward(self, audio, visual, norm):
        return norm(torch.cat([audio, visual], 1))


def made(taps=TAPS, **options):
    torch.manual_seed(0)
    model = Model()
    return model, attach(model, taps, layout="bd", seed=0, **options)


def batch():
    return torch.randn(6, 5), torch.randn(6, 3)


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.parametrize("options", [{}, {"sizes": SIZES}, {"example": batch()}])
def test_submodules_in_a_mode_of_their_own_stay_in_it(options):
    before = modes(Model())
    model, attached = made(**options)
    assert modes(model) == before
    assert attached.training
    inputs, mean = batch(), model.norm.running_mean.clone()
    attached(*inputs)
    assert attached.calibrator.training
    assert torch.equal(model.norm.running_mean, mean)


def test_a_frozen_model_gets_the_modes_of_its_submodules_back():
    before = modes(Model())
    model, attached = made(freeze="backbone", sizes=SIZES)
    assert not any(modes(model).values())
    assert attached.training
    assert attached.calibrator.training
    attached.eval().train()
    attached.detach()
    assert modes(model) == before


class Careless(Model):
    """Goes on with something else where its fusion fails."""

    def forward(self, audio, visual):
        try:
            return super().forward(audio, visual)
        except ConcordantError:
            return torch.zeros(len(audio), 8)


def test_a_forward_that_calibrated_nothing_leaves_no_calibration_of_an_earlier_one():
    attached = attach(Careless(), {"audio": 0, "visual": 1}, at="fusion", layout="bd", seed=0).eval()
    audio, visual = batch()
    attached(audio, visual)
    assert attached.calibration is not None
    attached(audio * torch.nan, visual)
    assert attached.calibration is None
    attached(audio, visual)
    with pytest.raises(ConcordantError, match="forward did not reach the calibrator; nothing was calibrated"):
        attached.calibrate(audio * torch.nan, visual)


def test_an_encoder_s_own_error_is_not_blamed_on_copies():
    model, attached = made(copies=True, sizes=SIZES)
    model.audio.register_forward_pre_hook(lambda _, args: (args[0] - torch.ones(5),))
    audio, visual = batch()
    attached(audio, visual)
    with pytest.raises(RuntimeError, match="The size of tensor a"):
        attached(audio[:, :4], visual)


@pytest.mark.parametrize("taps", [{"audio": 0, "visual": "audio"}, {"audio": "audio", "visual": ("audio",)}])
@pytest.mark.parametrize(("at", "of"), [("", "the model"), ("fusion", "'fusion'")])
def test_two_modalities_cannot_be_one_argument(taps, at, of):
    attached = attach(Model(), taps, at=at, layout="bd", seed=0)
    text = rf"taps\['audio'\] and taps\['visual'\] are the same argument in the call of {of}; each modality needs an"
    with pytest.raises(UsageError, match=text):
        attached(*batch())


class InPlace(Fusion):
    """Changes its arguments in place, as many models do with features right behind the encoders."""

    def __init__(self, inplace):
        super().__init__()
        self.rectify = nn.ReLU(inplace)

    def forward(self, audio, visual, norm):
        return super().forward(self.rectify(audio), nn.functional.relu(visual, self.rectify.inplace), norm)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("taps", "at"), [(TAPS, None), ({"audio": 0, "visual": 1}, "fusion")])
def test_a_model_may_change_calibrated_features_in_place(taps, at, training):
    inputs, found = batch(), []
    for inplace in (True, False):
        torch.manual_seed(0)
        model = Model()
        model.fusion = InPlace(inplace)
        attached = attach(model, taps, at=at, layout="bd", sizes=SIZES, seed=0).train(training)
        with torch.no_grad():
            for parameter in attached.calibrator.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
        out = attached(*inputs)
        (out.square().sum() + attached.auxiliary_loss()).backward()
        gradients = [p.grad for p in attached.parameters() if p.grad is not None]
        found.append([out, *attached.calibration.features.values(), *gradients])
    assert len(found[0]) == len(found[1]) > 10
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


# State dictionaries


class Second(nn.Linear):
    """A layer whose weights had the other sign in its first version, as older checkpoints have them."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[prefix + "weight"] = -state[prefix + "weight"]
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Versioned(nn.Module):
    """Two encoders and a head, and submodules named like those of the wrapper."""

    def __init__(self):
        super().__init__()
        self.audio, self.visual, self.head = nn.Linear(5, 4), Second(3, 4), nn.Linear(8, 2)
        self.model = nn.Sequential(Second(2, 2), nn.BatchNorm1d(2))
        self.calibrator = Second(2, 2)

    def forward(self, audio, visual):
        return self.head(torch.cat([self.audio(audio), self.visual(visual)], 1))


def versioned():
    return attach(Versioned(), {name: name for name in SIZES}, layout="bd", sizes=SIZES)


class Outer(nn.Module):
    """A model of which the attached one, or the original, is a submodule, beside another named like it."""

    def __init__(self, inner):
        super().__init__()
        self.net, self.model = inner, Second(2, 2)


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(x, expected[key]) for key, x in found.items())


def test_keys_are_the_model_s_whatever_its_submodules_are_called():
    state, attached = Versioned().state_dict(), versioned()
    assert list(attached.model_state_dict()) == list(state)
    assert [key for key in attached.state_dict() if not key.startswith("concordant_calibrator.")] == list(state)
    assert list(attached.load_state_dict(state)) == [[], []]
    assert same(attached.model_state_dict(), state)


def test_the_calibrator_s_keys_are_dropped_at_every_depth():
    outer = Outer(versioned())
    found = without_calibrator(nn.ModuleDict({"module": outer}).state_dict())
    assert list(found) == [f"module.{key}" for key in Outer(Versioned()).state_dict()]
    assert without_calibrator({"my_concordant_calibrator.bias": 1}) == {"my_concordant_calibrator.bias": 1}


ROUTES = {
    "the original's": lambda: (Versioned(), versioned(), lambda state: state),
    "the attached model's own": lambda: (versioned(), versioned(), lambda state: state),
    "the attached model's without the calibrator": lambda: (versioned(), Versioned(), without_calibrator),
    "a part's own": lambda: (Outer(versioned()), Outer(versioned()), lambda state: state),
    "a part's without the calibrator": lambda: (Outer(versioned()), Outer(Versioned()), without_calibrator),
}


@pytest.mark.parametrize("route", ROUTES)
def test_modules_load_with_the_version_that_saved_them(route):
    source, target, changed = ROUTES[route]()
    state = changed(source.state_dict())
    known = copy.deepcopy(state._metadata)
    assert not target.load_state_dict(state).missing_keys
    assert same(without_calibrator(target.state_dict()), without_calibrator(state))
    assert state._metadata == known  # what was loaded stays what it was


def test_the_model_s_own_state_has_its_versions_too():
    attached, other = versioned(), Versioned()
    other.load_state_dict(attached.model_state_dict())
    assert same(other.state_dict(), attached.model_state_dict())


def test_states_without_versions_load_as_they_do_into_the_model():
    state, attached, model = dict(Versioned().state_dict()), versioned(), Versioned()
    attached.load_state_dict(state)
    model.load_state_dict(state)
    assert same(attached.model_state_dict(), model.state_dict())
    assert torch.equal(model.visual.weight, -state["visual.weight"])


def test_weights_are_taken_as_they_are_where_loading_assigns():
    state, attached = versioned().state_dict(), versioned()
    attached.load_state_dict(state, assign=True)
    assert attached.model.head.weight.data_ptr() == state["head.weight"].data_ptr()
    name = "heads.audio.gate.bias"
    assert attached.calibrator.get_parameter(name).data_ptr() == state[f"concordant_calibrator.{name}"].data_ptr()


NORMS = {
    "norm": lambda x: x / x.norm(dim=-1, keepdim=True),
    "sum of squares": lambda x: x * x.square().sum(-1, keepdim=True).rsqrt(),
    "of the whole instance": lambda x: x / x.flatten(1).norm(dim=1).view(-1, *[1] * (x.dim() - 1)),
    "largest": lambda x: x / x.abs().amax(-1, keepdim=True),
    "logarithm": lambda x: x.square().sum(-1, keepdim=True).log() + x,
    "root": lambda x: x.abs().sum(-1, keepdim=True).sqrt() * x,
}


class Normalising(nn.Module):
    """Divides features by their size, as CLIP does."""

    def __init__(self, by):
        super().__init__()
        self.a, self.v, self.by = nn.Linear(5, 4), nn.Linear(7, 4), by

    def forward(self, a, v):
        a, v = NORMS[self.by](self.a(a)), NORMS[self.by](self.v(v))
        return (a * v).flatten(1).sum(1)


@pytest.mark.parametrize("by", NORMS)
@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("steps", [(), (3,)])
@pytest.mark.parametrize("copies", [False, True])
def test_features_are_divided_by_their_norm_in_training(by, rows, steps, copies):
    torch.manual_seed(0)
    taps = {"a": "a", "v": "v"}
    attached = attach(Normalising(by), taps, example=(torch.randn(4, *steps, 5), torch.randn(4, *steps, 7)), seed=0)
    attached = attach(attached.detach(), taps, sizes={"a": 4, "v": 4}, copies=copies, seed=0).train()
    for _ in range(8):
        out = attached(torch.randn(rows, *steps, 5), torch.randn(rows, *steps, 7))
        attached.zero_grad()
        (out.square().mean() + attached.auxiliary_loss()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in attached.parameters())


def test_weights_that_are_ruined_are_named_instead_of_the_data():
    attached = attach(Normalising("norm"), {"a": "a", "v": "v"}, sizes={"a": 4, "v": 4})
    with torch.no_grad():
        attached.model.v.bias[1] = torch.nan
    text = (
        r"the model's weights hold NaN or infinity, in 'v\.bias' for one, as after an update by a loss .*'v' \(3 of 3\)"
    )
    with pytest.raises(ConcordantError, match=text):
        attached(torch.randn(3, 5), torch.randn(3, 7))
