"""Modes, refusals, in-place changes and state dictionary of an attached model; the rest is in test_attach.py."""

import copy
import threading
from functools import partial

import pytest
import torch
from torch import nn

from concordant import ConcordantError, UsageError, attach
from concordant.attach import Attached, without_calibrator
from concordant.rivals import AfterFusion, Evidential

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


def test_keys_are_the_names_of_parameters_and_buffers_whatever_submodules_are_called():
    state, attached = Versioned().state_dict(), versioned()
    assert list(attached.model_state_dict()) == list(without_calibrator(attached.state_dict())) == list(state)
    names = {name for name, _ in (*attached.named_parameters(), *attached.named_buffers())}
    assert set(attached.state_dict()) == names
    assert list(attached.load_state_dict(state)) == [[], []]
    assert same(attached.model_state_dict(), state)
    assert list(nn.ModuleDict({"module": attached}).load_state_dict({f"module.{k}": v for k, v in state.items()})) == [
        [],
        [],
    ]


def test_tools_that_join_keys_and_names_take_an_attached_model():
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    attached, other, inputs = versioned().eval(), versioned().eval(), batch()
    state = {key: torch.ones_like(value) for key, value in get_model_state_dict(attached).items()}
    assert set(state) == set(attached.state_dict())
    assert list(set_model_state_dict(other, state)) == [[], []]
    assert all(value.abs().eq(1).all() for value in other.state_dict().values())  # `Second` changes signs
    expected = other(*inputs)
    assert torch.equal(torch.func.functional_call(attached, other.state_dict(), inputs), expected)


def test_the_calibrator_s_keys_are_dropped_at_every_depth():
    outer = Outer(versioned())
    found = without_calibrator(nn.ModuleDict({"module": outer}).state_dict())
    assert list(found) == [f"module.{key}" for key in Outer(Versioned()).state_dict()]
    assert without_calibrator({"my_calibrator.bias": 1, "calibrator.x": 2}) == {
        "my_calibrator.bias": 1,
        "calibrator.x": 2,
    }


ROUTES = {
    "the original's": lambda: (Versioned(), versioned(), lambda state: state),
    "the attached model's own": lambda: (versioned(), versioned(), lambda state: state),
    "the attached model's without the calibrator": lambda: (versioned(), Versioned(), without_calibrator),
    "a part's own": lambda: (Outer(versioned()), Outer(versioned()), lambda state: state),
    "a part's without the calibrator": lambda: (Outer(versioned()), Outer(Versioned()), without_calibrator),
}


def plain(module):
    attached = any(isinstance(m, Attached) for m in module.modules())
    return without_calibrator(module.state_dict()) if attached else module.state_dict()


@pytest.mark.parametrize("route", ROUTES)
def test_modules_load_with_the_version_that_saved_them(route):
    source, target, changed = ROUTES[route]()
    state = changed(source.state_dict())
    known = copy.deepcopy(state._metadata)
    assert not target.load_state_dict(state).missing_keys
    assert same(plain(target), plain(source))
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
    assert attached.model.head.weight.data_ptr() == state["model.head.weight"].data_ptr()
    name = "heads.audio.gate.bias"
    assert attached.calibrator.get_parameter(name).data_ptr() == state[f"calibrator.{name}"].data_ptr()


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


# name -> (layout, an encoder, the shape of its input without the batch, the axis of the batch)
ORDERS = {
    "bd": ("bd", lambda: nn.Linear(5, 4), (5,)),
    "transposed vectors": ("bd", lambda: Apply(lambda x: x.T.contiguous().T), (4,)),
    "steps": ("btd", lambda: nn.Linear(5, 4), (3, 5)),
    "channels first": ("bdt", lambda: nn.Conv1d(5, 4, 1), (5, 3)),
    "transposed steps": ("bdt", lambda: Apply(lambda x: x.transpose(1, 2)), (3, 4)),
    "time first": ("tbd", lambda: Apply(lambda x: x.transpose(0, 1)), (3, 4)),
    "maps": ("bchw", lambda: nn.Conv2d(5, 4, 1), (5, 2, 3)),
    "channels_last": ("bchw", lambda: nn.Conv2d(5, 4, 1).to(memory_format=torch.channels_last), (5, 2, 3)),
    "features last": ("bhwc", lambda: nn.Linear(5, 4), (2, 3, 5)),
    "films": ("bcthw", lambda: nn.Conv3d(5, 4, 1), (5, 2, 2, 3)),
    "channels_last_3d": ("bcthw", lambda: nn.Conv3d(5, 4, 1).to(memory_format=torch.channels_last_3d), (5, 2, 2, 3)),
    "folded vectors": ("(b t)d", lambda: Apply(lambda x: x.flatten(0, 1)), (3, 4)),
    "folded maps": ("(b t)chw", lambda: Apply(lambda x: x.flatten(0, 1)), (3, 4, 2, 3)),
    "folded channels_last": (
        "(b t)chw",
        lambda: Apply(lambda x: x.flatten(0, 1).to(memory_format=torch.channels_last)),
        (3, 4, 2, 3),
    ),
    "one channel": ("bchw", lambda: Apply(lambda x: x[:, :1]), (3, 2, 2)),
    "part of a tensor": ("btd", lambda: Apply(lambda x: x[:, ::2, 1:5]), (4, 7)),
    "expanded": ("btd", lambda: Apply(lambda x: x[:, None].expand(-1, 3, -1)), (4,)),
}


class Apply(nn.Module):
    """A module of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Recorded(nn.Module):
    """Keeps the strides of two features."""

    def __init__(self, encoder):
        super().__init__()
        self.a, self.v, self.seen = encoder(), encoder(), []

    def forward(self, a, v):
        found = [self.a(a), self.v(v)]
        self.seen.append([x.stride() for x in found])
        return sum(x.sum() for x in found)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("copies", [False, True])
def test_features_keep_their_order_in_memory(order, copies):
    layout, encoder, shape = ORDERS[order]
    torch.manual_seed(0)
    inputs = torch.randn(6, *shape), torch.randn(6, *shape)
    if "channels_last" in order and len(shape) > 2 and "folded" not in order:
        last = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
        inputs = tuple(x.to(memory_format=last) for x in inputs)
    model = Recorded(encoder).eval()
    model(*inputs)
    attached = attach(model, {"a": "a", "v": "v"}, layout=layout, copies=copies, batch_size=lambda *_: 6, seed=0)
    attached(*inputs)
    with torch.no_grad():
        for parameter in attached.calibrator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    attached(*inputs)
    attached.train()
    for _ in range(2):
        attached(*inputs)
    dense = [torch.empty_like(f(x), device="meta").stride() for f, x in zip((model.a, model.v), inputs, strict=True)]
    if copies:
        orders = [[sorted(range(len(s)), key=lambda axis: -s[axis]) for s in one] for one in (dense, model.seen[-1])]
        assert orders[0] == orders[1]
    else:
        assert all(one in (model.seen[0], dense) for one in model.seen)


class Squeezing(nn.Module):
    """Loses the axis of a batch of one, in its encoders, or in its output too."""

    def __init__(self, whole):
        super().__init__()
        self.a, self.v, self.head, self.whole = nn.Linear(5, 4), Apply(lambda x: x.squeeze()), nn.Linear(8, 3), whole

    def forward(self, a, v):
        a, v = self.a(a), self.v(v)
        x = self.head(torch.cat([a if v.dim() > 1 else a[0], v], -1))
        return x.squeeze() if self.whole else x


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("options", [{}, {"copies": True}, {"layout": "bd"}])
@pytest.mark.parametrize("first", [1, 5])
def test_a_batch_of_one_may_be_squeezed(whole, options, first):
    torch.manual_seed(0)
    model = Squeezing(whole).eval()
    if first == 1 and "layout" not in options:
        options = {**options, "sizes": {"a": 4, "v": 4}, "layout": "bd"}
    attached = attach(model, {"a": "a", "v": "v"}, seed=0, **options)
    for rows in (first, 1, 5):
        a, v = torch.randn(rows, 5), torch.randn(rows, 4)
        assert torch.equal(attached.eval()(a, v), model(a, v))
        out = attached.train()(a, v)
        assert out.shape[-1] == 3
        (out.sum() + attached.auxiliary_loss()).backward()


class Building(nn.Module):
    """Joins features with something that it builds from its inputs."""

    def __init__(self, join):
        super().__init__()
        self.a, self.v, self.head, self.block = nn.Linear(5, 4), nn.Linear(7, 4), nn.Linear(8, 3), Joining(join)

    def forward(self, a, v):
        return self.head(torch.cat([self.block(self.a(a), a), self.v(v)], -1))


class Joining(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.join = join

    def forward(self, x, inputs):
        return self.join(x, inputs)


def checked(x, inputs):
    if len(x) != len(inputs):
        raise ValueError(f"{len(x)} rows of features, {len(inputs)} of inputs")
    return x


JOINS = {
    "a mask": lambda x, inputs: x[inputs[:, 0] > -9],
    "positions": lambda x, inputs: x + torch.arange(len(inputs))[:, None],
    "a view": lambda x, inputs: x.view(len(inputs), 4),
    "a check": checked,
    "a number for each": lambda x, inputs: torch.stack([x[i] * float(inputs[i, 0]) for i in range(len(x))]),
    "an assertion": lambda x, inputs: x if len(x) == len(inputs) else (_ for _ in ()).throw(AssertionError("rows")),
    "where": lambda x, inputs: torch.where(inputs[:, :4] > 0, x, 0),
    "a product": lambda x, inputs: torch.bmm(x[:, None], inputs[:, :4, None] * torch.eye(4))[:, 0],
    "the first rows": lambda x, inputs: x[torch.arange(len(inputs))],
}


@pytest.mark.parametrize("join", JOINS)
def test_what_fails_behind_copies_is_one_sentence_that_names_the_module(join):
    torch.manual_seed(0)
    model = Building(JOINS[join])
    attached = attach(model, {"a": "a", "v": "v"}, sizes={"a": 4, "v": 4}, copies=True, seed=0)
    inputs = torch.randn(6, 5), torch.randn(6, 7)
    with pytest.raises(UsageError, match="copies=True gives the rest of the model 2B rows") as caught:
        attached.train()(*inputs)
    error = caught.value
    assert "\n" not in str(error)
    assert all(advice in str(error) for advice in ("copies=False", "tap nearer", "learn='reliability'"))
    assert isinstance(error.__cause__, Exception)
    assert "in 'block' (Joining)" in str(error) or "in the model's forward" in str(error)
    assert type(error.__cause__).__name__ in str(error)
    assert attached.eval()(*inputs).shape == (6, 3)


def test_an_error_of_a_model_without_copies_stays_its_own():
    attached = attach(Building(checked), {"a": "a", "v": "v"}, sizes={"a": 4, "v": 4}, seed=0)
    attached.model.head = nn.Linear(9, 3)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        attached(torch.randn(6, 5), torch.randn(6, 7))


def test_threads_take_turns():
    model, attached = made(sizes=SIZES)
    attached.eval()
    with torch.no_grad():
        for head in attached.calibrator.heads.values():
            head.reliability.bias.fill_(-4)
        given = [batch() for _ in range(3)]
        wanted = [attached(*one) for one in given]
        assert not torch.equal(wanted[0], model(*given[0]))
        found = {}

        def work(number):
            with torch.no_grad():
                found[number] = [attached(*given[number]) for _ in range(30)]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(one, wanted[number]) for number in range(3) for one in found[number])


def test_a_checkpoint_of_the_model_alone_leaves_the_tolerance():
    model, attached = made(sizes=SIZES)
    attached.calibrator.tolerate(2.0)
    attached.load_state_dict(model.state_dict())
    assert attached.calibrator.tolerance.tolist() == [2.0, 2.0]
    whole = made(sizes=SIZES)[1].state_dict()  # of a calibrator without one
    attached.load_state_dict({key: whole[key] for key in whole if "heads.audio" in key}, strict=False)
    assert attached.calibrator.tolerance is not None
    attached.load_state_dict(whole)
    assert attached.calibrator.tolerance is None


def test_a_model_is_given_back_as_it_was_where_its_example_fails():
    model = Model()
    before = modes(model)
    with pytest.raises(UsageError, match="layout"):
        attach(model, TAPS, layout="btd", example=batch(), freeze="backbone")
    assert modes(model) == before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_calibrator_that_inference_builds_can_be_trained():
    _, attached = made()
    with torch.inference_mode():
        attached.eval()(*batch())
    attached.train()(*batch()).sum().backward()
    assert attached.calibrator.heads["audio"].gate.weight.grad is not None


@pytest.mark.parametrize(
    "rival", [partial(AfterFusion, fused=8), partial(Evidential, classes=3)], ids=["after-fusion", "evidential"]
)
def test_calibrators_of_the_fusion_s_head_are_refused(rival):
    with pytest.raises(UsageError, match="works at the fusion's head and leaves features as they are"):
        made(calibrator=rival, example=batch())


def test_copies_need_a_perturbation():
    with pytest.raises(UsageError, match="copies=True needs a perturbation"):
        made(perturbation=False, copies=True)
