"""Model shapes as published code has them: attached untrained, each gives its own output bit for bit."""

import copy
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from concordant import ContextualCalibrator, UsageError, attach, find_taps
from concordant.attach import without_calibrator

B, T = 6, 5


class Mlp(nn.Module):
    """An encoder that counts its calls."""

    def __init__(self, inputs, outputs=4):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, outputs))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.net(x)


class Film(nn.Module):
    def __init__(self, channels=3, outputs=4):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.net(x)


class Recurrent(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.net = nn.LSTM(inputs, 4, batch_first=True)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.net(x)


class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 3)

    def forward(self, audio, visual):
        return self.out(torch.cat([audio, visual], 1))


class Positional(nn.Module):
    """A fusion module with two positional tensors (OGM-GE)."""

    def __init__(self):
        super().__init__()
        self.audio_net, self.visual_net, self.fusion_module = Mlp(7), Mlp(9), Fusion()

    def forward(self, audio, visual):
        a = self.audio_net(audio)
        v = self.visual_net(visual)
        return a, v, self.fusion_module(a, v)


class Inline(nn.Module):
    """Encoders called inside forward; the first one's feature is used before the second exists."""

    def __init__(self):
        super().__init__()
        self.audio_net, self.visual_net = Mlp(7), Mlp(9)
        self.norm, self.query, self.head = nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(12, 3)

    def forward(self, audio, visual):
        a = self.audio_net(audio)
        query = self.query(self.norm(a) * 2)
        v = self.visual_net(visual)
        return self.head(torch.cat([F.relu(a + 0, inplace=True), v, query.sigmoid()], -1))


class TimeFirst(nn.Module):
    """Crossmodal transformers in time-first layout (MulT): convolutions (B, D, T), then (T, B, D)."""

    def __init__(self):
        super().__init__()
        self.proj_l, self.proj_a = nn.Conv1d(7, 4, 1, bias=False), nn.Conv1d(9, 4, 1, bias=False)
        self.cross = nn.MultiheadAttention(4, 2)
        self.trans = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8), 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, text, audio):
        l = F.dropout(text.transpose(1, 2), p=0.25, training=self.training)  # noqa: E741
        l = self.proj_l(l).permute(2, 0, 1)  # noqa: E741
        a = self.proj_a(audio.transpose(1, 2)).permute(2, 0, 1)
        crossed = self.cross(l, a, a)[0]
        return self.head(self.trans(torch.cat([l, crossed], 2))[-1])


class TimeFirstNorm(nn.Module):
    """Taps that are time-first themselves."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = Mlp1d(7), Mlp1d(9), nn.Linear(8, 3)

    def forward(self, one, two):
        one, two = one.transpose(0, 1), two.transpose(0, 1)
        return self.head(torch.cat([self.one(one).mean(0), self.two(two).amax(0)], 1))


class Mlp1d(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.net, self.calls = nn.Linear(inputs, 4), 0

    def forward(self, x):
        self.calls += 1
        return self.net(x)


class LstmTuples(nn.Module):
    """Encoders that return tuples; one modality is read off the last hidden state."""

    def __init__(self):
        super().__init__()
        self.rnn_a, self.rnn_v, self.head = Recurrent(7), Recurrent(9), nn.Linear(8, 3)

    def forward(self, a, v):
        steps, _ = self.rnn_a(a)
        _, (hidden, _) = self.rnn_v(v)
        return self.head(torch.cat([steps.mean(1), hidden[-1]], 1))


class DictOfModalities(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({"audio": Mlp(7), "visual": Mlp(9), "text": Mlp(5)})
        self.head = nn.Linear(12, 3)

    def forward(self, batch):
        features = {name: encoder(batch[name]) for name, encoder in self.encoders.items()}
        return {"logits": self.head(torch.cat(list(features.values()), 1)), "features": features}


class LoopOverList(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleList([Mlp(7), Mlp(7), Mlp(7)])
        self.head = nn.Linear(4, 3)

    def forward(self, views):
        total = 0
        for encoder, view in zip(self.encoders, views, strict=True):
            total = total + torch.tanh(encoder(view))
        return self.head(total)


class FramesFolded(nn.Module):
    """A film whose frames are folded into the batch, run through a 2-D network, then pooled."""

    def __init__(self):
        super().__init__()
        self.visual_net, self.audio_net, self.head = Film(), Film(1), nn.Linear(8, 3)

    def forward(self, spectrogram, film):
        a = self.audio_net(spectrogram)
        b, _, t, _, _ = film.shape
        v = self.visual_net(film.permute(0, 2, 1, 3, 4).contiguous().flatten(0, 1))
        v = F.adaptive_avg_pool3d(v.unflatten(0, (b, t)).permute(0, 2, 1, 3, 4), 1).flatten(1)
        return self.head(torch.cat([F.adaptive_avg_pool2d(a, 1).flatten(1), v], 1))


class SharedClass(nn.Module):
    """Three modalities of which two are read by one encoder, called twice."""

    def __init__(self):
        super().__init__()
        self.eye, self.ear, self.head = Mlp(7), Mlp(9), nn.Linear(12, 3)

    def forward(self, left, right, sound):
        return self.head(torch.cat([self.eye(left), self.eye(right), self.ear(sound)], 1))


class EarlyReturn(nn.Module):
    """Returns earlier, and something else, in evaluation."""

    def __init__(self):
        super().__init__()
        self.audio_net, self.visual_net = Mlp(7), Mlp(9)
        self.head, self.auxiliary = nn.Linear(8, 3), nn.Linear(8, 2)
        self.steps = 0

    def forward(self, audio, visual):
        self.steps += 1
        joined = torch.cat([self.audio_net(audio), self.visual_net(visual)], 1)
        if not self.training:
            return self.head(joined)
        return self.head(joined), self.auxiliary(joined)


class UnrolledCells(nn.Module):
    """No encoder to tap: recurrent cells unrolled inside forward (MFN)."""

    def __init__(self):
        super().__init__()
        self.cell_a, self.cell_v, self.head = nn.LSTMCell(7, 4), nn.LSTMCell(9, 4), nn.Linear(8, 3)

    def forward(self, audio, visual):
        a = v = None
        for step in range(audio.shape[1]):
            a = self.cell_a(audio[:, step], a)
            v = self.cell_v(visual[:, step], v)
        return self.head(torch.cat([a[0], v[0]], 1))


class Stages(nn.Module):
    """A backbone whose stages are called one by one, activations in place, a residual around them."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.conv, self.backbone.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.backbone.pool = nn.AvgPool2d(1)
        self.backbone.relu, self.backbone.down = nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)
        self.other, self.head = Film(1), nn.Linear(8, 3)

    def forward(self, image, sound):
        x = self.backbone.bn(self.backbone.conv(image))
        kept = x.mean((2, 3))  # read before the activation changes it in place
        x = self.backbone.pool(self.backbone.relu(x))
        x += image.mean(1, keepdim=True)
        x = self.backbone.down(x)
        x *= 2
        y = self.other(sound)
        return self.head(torch.cat([x.mean((2, 3)) + kept, y.mean((2, 3))], 1))


@dataclass
class Case:
    model: type
    taps: dict
    inputs: tuple
    layout: Any = "auto"
    at: str | None = None
    counted: tuple = ()


def vectors(*sizes):
    return tuple(torch.randn(B, size, generator=torch.Generator().manual_seed(size)) for size in sizes)


def sequences(*sizes):
    return tuple(torch.randn(B, T, size, generator=torch.Generator().manual_seed(size)) for size in sizes)


IMAGE, SOUND, FILM = torch.rand(B, 3, 8, 8), torch.rand(B, 1, 8, 6), torch.rand(B, 3, T, 6, 6)
AV = {"audio": "audio_net", "visual": "visual_net"}
CASES = {
    "positional fusion": Case(Positional, AV, vectors(7, 9), counted=("audio_net", "visual_net")),
    "positional fusion, at its inputs": Case(
        Positional, {"audio": 0, "visual": "visual"}, vectors(7, 9), at="fusion_module", counted=("audio_net",)
    ),
    "inline": Case(Inline, AV, vectors(7, 9), "bd", counted=("audio_net", "visual_net")),
    "time-first transformer": Case(TimeFirst, {"text": "proj_l", "audio": "proj_a"}, sequences(7, 9), "bdt"),
    "time-first taps": Case(TimeFirstNorm, {"a": "one", "b": "two"}, sequences(7, 9), "tbd", counted=("one", "two")),
    "LSTM tuples": Case(
        LstmTuples,
        {"a": "rnn_a", "v": "rnn_v[1][0]"},
        sequences(7, 9),
        {"a": "btd", "v": "tbd"},
        counted=("rnn_a", "rnn_v"),
    ),
    "dictionary of modalities": Case(
        DictOfModalities,
        {name: f"encoders.{name}" for name in ("audio", "visual", "text")},
        (dict(zip(("audio", "visual", "text"), vectors(7, 9, 5), strict=True)),),
        counted=("encoders.audio", "encoders.visual", "encoders.text"),
    ),
    "loop over a list": Case(
        LoopOverList,
        {f"view{i}": f"encoders.{i}" for i in range(3)},
        (list(torch.randn(3, B, 7)),),
        "bd",
        counted=("encoders.0", "encoders.1", "encoders.2"),
    ),
    "frames folded": Case(
        FramesFolded,
        AV,
        (SOUND, FILM),
        {"audio": "bchw", "visual": "(b t)chw"},
        counted=("audio_net", "visual_net"),
    ),
    "one encoder twice": Case(
        SharedClass, {"left": "eye#1", "right": "eye#2", "sound": "ear"}, vectors(7, 7, 9), counted=("ear",)
    ),
    "early return": Case(EarlyReturn, AV, vectors(7, 9), counted=("audio_net", "visual_net")),
    "unrolled cells, at the inputs": Case(
        UnrolledCells, {"audio": "audio", "visual": 1}, sequences(7, 9), "btd", at=""
    ),
    "dictionary, at the inputs": Case(
        DictOfModalities,
        {name: (0, name) for name in ("audio", "visual", "text")},
        (dict(zip(("audio", "visual", "text"), vectors(7, 9, 5), strict=True)),),
        at="",
    ),
    "stages": Case(Stages, {"image": "backbone.down", "sound": "other"}, (IMAGE, SOUND), "bchw", counted=("other",)),
}


def flat(out):
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, dict):
        out = list(out.values())
    return [tensor for item in out for tensor in flat(item)]


def same(one, two):
    one, two = flat(one), flat(two)
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def built(case, **options):
    torch.manual_seed(0)
    model = case.model()
    return model, attach(model, case.taps, at=case.at, layout=case.layout, seed=1, **options)


@pytest.fixture(params=list(CASES))
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("grad", [False, True])
def test_untrained_the_output_is_the_models_own_in_evaluation(case, grad):
    model, attached = built(case)
    model.eval()
    attached.eval()
    with torch.set_grad_enabled(grad):
        expected = model(*case.inputs)
        assert same(attached(*case.inputs), expected)
        assert same(attached(*case.inputs), expected)
    assert bool((attached.calibration.reliability == 1).all())


def test_untrained_and_unperturbed_the_output_is_the_models_own_in_training(case):
    """Random numbers of the model, its buffers and its counters are those of a single pass."""
    model, attached = built(case, calibrator=unperturbed)
    twin = copy.deepcopy(model)
    for step in range(2):
        torch.manual_seed(step)
        expected = twin.train()(*case.inputs)
        drawn = torch.rand(3)
        torch.manual_seed(step)
        assert same(attached.train()(*case.inputs), expected)
        assert torch.equal(torch.rand(3), drawn)
    for (name, buffer), other in zip(model.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(buffer, other), name
    assert getattr(model, "steps", None) == getattr(twin, "steps", None)


def test_encoders_run_exactly_once(case):
    model, attached = built(case)
    attached.train()(*case.inputs)
    assert [model.get_submodule(name).calls for name in case.counted] == [1] * len(case.counted)


def test_gradients_reach_the_calibrator_and_the_encoders(case):
    model, attached = built(case)
    attached.train()
    attached(*case.inputs)
    out = attached(*case.inputs)
    (sum(x.square().mean() for x in flat(out)) + attached.auxiliary_loss()).backward()
    reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in attached.calibrator.parameters()]
    assert sum(reached) >= len(attached.calibrator.names)
    assert all(p.grad is not None for name in case.counted for p in model.get_submodule(name).parameters())


def test_gradients_are_the_models_own_while_untrained(case):
    model, attached = built(case, calibrator=unperturbed)
    twin = copy.deepcopy(model)
    for each in (twin.train(), attached.train()):
        torch.manual_seed(3)
        sum(x.square().sum() for x in flat(each(*case.inputs))).backward()
    for (name, parameter), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, other.grad, msg=lambda text, n=name: f"{n}: {text}")


def test_detach_gives_the_original_back(case):
    torch.manual_seed(0)
    model = case.model().eval()
    before = model(*case.inputs)
    parts = [(module, dict(module.__dict__)) for module in model.modules()]
    attached = attach(model, case.taps, at=case.at, layout=case.layout)
    attached(*case.inputs)
    with torch.no_grad():
        for parameter in attached.calibrator.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert not same(attached(*case.inputs), before)
    assert attached.detach() is model
    assert same(model(*case.inputs), before)
    for module, attributes in parts:
        assert module.__dict__.keys() == attributes.keys()


def test_checkpoints_load_both_ways(case):
    model, attached = built(case)
    attached(*case.inputs)
    old = {key: value.clone() for key, value in case.model().state_dict().items()}
    assert list(attached.load_state_dict(old)) == [[], []]
    assert set(without_calibrator(attached.state_dict())) == set(old)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in old.items())
    fresh = case.model()
    fresh.load_state_dict(without_calibrator(attached.state_dict()))
    assert {name for name, _ in attached.named_parameters()} <= set(attached.state_dict())
    again = built(case)[1]
    again(*case.inputs)
    with torch.no_grad():
        for parameter in attached.calibrator.parameters():
            parameter.add_(1)
    again.load_state_dict(attached.state_dict())
    assert same(again.eval()(*case.inputs), attached.eval()(*case.inputs))


def unperturbed(sizes, layouts):
    return ContextualCalibrator(sizes, layouts=layouts, perturbation=False, dropout=0.0, seed=0)


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """A process group of one."""
    file = tmp_path_factory.mktemp("group") / "rendezvous"
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


WRAPPERS = OrderedDict(parallel=nn.DataParallel, distributed=nn.parallel.DistributedDataParallel)


@pytest.mark.skipif(os.name == "nt", reason="gloo through a file")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_wrapped_model_is_tapped_by_names_with_and_without_module(wrapper, prefix, group):
    torch.manual_seed(0)
    model = Inline()
    wrapped = WRAPPERS[wrapper](model)
    attached = attach(wrapped, {"audio": f"{prefix}audio_net", "visual": f"{prefix}visual_net"}, seed=0)
    inputs = vectors(7, 9)
    expected = model.eval()(*inputs)
    assert same(attached.eval()(*inputs), expected)
    assert model.audio_net.calls == 2  # alone, and attached
    assert set(without_calibrator(attached.state_dict())) == set(wrapped.state_dict())
    attached.train()
    (attached(*inputs).sum() + attached.auxiliary_loss()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.skipif(os.name == "nt", reason="gloo through a file")
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_attached_model_is_wrapped(wrapper, group):
    inputs = vectors(7, 9)
    attached = attach(Inline(), AV, example=inputs, seed=0)
    wrapped = WRAPPERS[wrapper](attached)
    for _ in range(2):
        (wrapped(*inputs).sum() + attached.auxiliary_loss()).backward()
    assert all(p.grad is not None for p in attached.parameters())
    assert {key.removeprefix("module.") for key in wrapped.state_dict()} == set(attached.state_dict())


@pytest.mark.skipif(os.name == "nt", reason="gloo through a file")
def test_a_distributed_model_of_several_processes_is_refused(group, monkeypatch):
    wrapped = nn.parallel.DistributedDataParallel(Inline())
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(UsageError, match=r"would not average the calibrator.s gradients; attach to model\.module"):
        attach(wrapped, AV)


# find_taps first, and what it finds


FOUND = {  # what find_taps finds best where that differs from the taps above
    "unrolled cells, at the inputs": {"audio": "cell_a#5[0]", "visual": "cell_v#5[0]"},
    "LSTM tuples": {"a": "rnn_a[0]", "v": "rnn_v[1][0]"},
    "positional fusion, at its inputs": AV,
    "dictionary, at the inputs": CASES["dictionary of modalities"].taps,
}


@pytest.mark.parametrize("name", CASES)
def test_find_taps_finds_the_taps_and_they_work(name):
    case = CASES[name]
    torch.manual_seed(0)
    model = case.model().eval()
    expected, before = model(*case.inputs), copy.deepcopy(model)
    drawn = torch.get_rng_state()
    best = find_taps(model, case.inputs)[0]
    assert torch.equal(torch.get_rng_state(), drawn)
    for module, other in zip(model.modules(), before.modules(), strict=True):
        assert module.__dict__.keys() == other.__dict__.keys()
        assert getattr(module, "calls", 0) == getattr(other, "calls", 0)
    assert list(best.taps.values()) == list(FOUND.get(name, case.taps).values())
    attached = attach(model, "auto", example=case.inputs, seed=0).eval()
    assert attached.taps == best.taps
    assert same(attached(*case.inputs), expected)
    attached.train()
    (sum(x.square().mean() for x in flat(attached(*case.inputs))) + attached.auxiliary_loss()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in attached.parameters())
    assert attached.detach() is model
