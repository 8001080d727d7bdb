from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from concordant import attach
from concordant.attach.containers import map_tensors, tensors_of
from concordant.attach.taps import Tap, core_of, feature_size, find_module, fold, read_layouts, read_tap, unfold
from concordant.errors import UsageError


@pytest.mark.parametrize(
    ("written", "tap"),
    [
        ("net.audio", ("net.audio", None, ())),
        ("enc#2", ("enc", 2, ())),
        ("lstm[1][0]", ("lstm", None, (1, 0))),
        ("bert#1[last_hidden_state]", ("bert", 1, ("last_hidden_state",))),
        ("layers.0[-1]", ("layers.0", None, (-1,))),
        ("enc[\u00b2][--1]", ("enc", None, ("\u00b2", "--1"))),
    ],
)
def test_a_tap_is_parsed(written, tap):
    assert read_tap(written, "taps['m']") == Tap(written, *tap)


@pytest.mark.parametrize("written", ["", "enc#", "enc#0", "enc[", "enc[]", "a#1#2", None, 1, "[0]"])
def test_invalid_taps_are_refused(written):
    with pytest.raises(UsageError, match=r"taps\['m'\] must be the name of a submodule"):
        read_tap(written, "taps['m']")


@pytest.mark.compile
def test_names_of_wrappers_are_optional_at_every_depth():
    inner = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    model = nn.ModuleDict({"audio": nn.DataParallel(inner)})
    for name in ("audio.module.0", "audio.0", "module.audio.0", "_orig_mod.audio.module.0"):
        assert find_module(model, name, "tap") is inner[0]
    compiled = torch.compile(nn.DataParallel(inner))
    assert core_of(compiled) is inner
    assert find_module(inner, "module.1", "tap") is inner[1]


@pytest.mark.parametrize("name", ["module", "audio.5", "audoi", "audio.0.weight"])
def test_missing_submodules_are_refused_with_similar_names(name):
    model = nn.ModuleDict({"audio": nn.Sequential(nn.Linear(1, 1)), "video": nn.ReLU()})
    with pytest.raises(UsageError, match=rf"at is '{name}', which the model does not have; near are: .*audio"):
        find_module(model, name, "at")


# Layouts


@pytest.mark.parametrize(
    ("written", "shape", "unfolded"),
    [
        ("(b t)chw", (6, 4, 2, 5), (2, 4, 3, 2, 5)),
        ("(b t)hwc", (6, 2, 5, 4), (2, 3, 2, 5, 4)),
        ("(b t)d", (6, 4), (2, 3, 4)),
    ],
)
def test_frames_get_their_own_axis_and_are_folded_back(written, shape, unfolded):
    x = torch.randn(shape)
    out = unfold(x, written, 2, "film")
    assert tuple(out.shape) == unfolded
    assert torch.equal(out[1].transpose(0, 1)[2] if written == "(b t)chw" else out[1, 2], x[5])  # frame 2 of film 1
    assert torch.equal(fold(out, written), x)
    assert fold(out * 2, written).stride() == x.stride()


def test_other_layouts_are_unchanged():
    x = torch.randn(3, 4)
    assert unfold(x, "bd", 3, "x") is x
    assert fold(x, "bd") is x


@pytest.mark.parametrize("rows", [4, 0])
def test_rows_must_be_a_multiple_of_the_batch_size(rows):
    with pytest.raises(UsageError, match=rf"the first a multiple of the batch size {rows}; found shape \(6, 4\)"):
        unfold(torch.zeros(6, 4), "(b t)d", rows, "film")


def test_the_feature_size_follows_from_the_layout():
    x = torch.zeros(2, 3, 4)
    assert [feature_size(x, layout, "x") for layout in ("auto", "btd", "bdt", "tbd")] == [4, 4, 3, 4]
    assert feature_size(torch.zeros(6, 3, 2, 2), "(b t)chw", "x") == 3
    assert (
        feature_size(torch.zeros(6, 2, 2, 3), "bhwc", "x")
        == feature_size(torch.zeros(6, 2, 2, 3), "(b t)hwc", "x")
        == 3
    )
    with pytest.raises(UsageError, match=r"the tap of 'x' must give features in layout 'auto'; found shape \(3,\)"):
        feature_size(torch.zeros(3), "auto", "x")


def test_a_layout_applies_to_all_modalities_or_to_each():
    assert read_layouts("bdt", ("a", "b")) == {"a": "bdt", "b": "bdt"}
    assert read_layouts({"a": "(b t)d"}, ("a", "b")) == {"a": "(b t)d", "b": "auto"}


# Containers

Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Record:
    x: torch.Tensor
    rest: dict


def model_output(x):
    return pytest.importorskip("transformers.modeling_outputs").BaseModelOutputWithPooling(x, x + 1)


class Returning(nn.Module):
    """Returns what `make` makes of an encoder's output, and a second feature."""

    def __init__(self, make):
        super().__init__()
        self.encoder, self.other, self.make = nn.Linear(4, 4), nn.Identity(), make
        self.out = nn.Identity()

    def forward(self, x):
        return self.out(self.make(self.encoder(x))), self.other(x)


@pytest.mark.parametrize(
    ("make", "path", "get"),
    [
        (lambda x: {"a": [x, (x, None)]}, "[a][1][0]", lambda out: out["a"][1][0]),
        (lambda x: [x + 1, x], "[-1]", lambda out: out[-1]),
        (lambda x: Pair("text", x), "[right]", lambda out: out.right),
        (lambda x: Pair("text", x), "[1]", lambda out: out[1]),
        (lambda x: Record(x, {"k": [x]}), "[rest][k][0]", lambda out: out.rest["k"][0]),
        (lambda x: torch.stack([x, x + 1]).max(0), "[0]", lambda out: out.values),
        (model_output, "[pooler_output]", lambda out: out.pooler_output),
        (model_output, "[last_hidden_state]", lambda out: out[0]),
    ],
)
def test_elements_of_containers_are_calibrated_and_the_rest_is_unchanged(make, path, get):
    model, x = Returning(make).eval(), torch.randn(6, 4)
    taps = {"one": f"out{path}", "two": "other"}
    expected = model(x)[0]
    attached = attach(model, taps, layout="bd", sizes={"one": 4, "two": 4}, seed=0).eval()
    with torch.no_grad():
        for parameter in attached.calibrator.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    out, _ = attached(x)
    assert type(out) is type(expected)
    assert get(out) is not None
    assert torch.equal(get(out), attached.calibration.features["one"])
    assert not torch.equal(get(out), get(expected))
    changed = [not torch.equal(one, two) for one, two in zip(tensors_of(out), tensors_of(expected), strict=True)]
    assert sum(changed) == 1


def test_packed_sequences_keep_their_class():
    packed = pack_sequence([torch.arange(4.0), torch.arange(3.0)])
    doubled = map_tensors(packed, lambda x: 2 * x)
    assert isinstance(doubled, PackedSequence)
    assert torch.equal(doubled.data, 2 * packed.data)


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(5, 4))
        self.v, self.head, self.join = nn.Sequential(nn.Linear(7, 4)), nn.Linear(8, 3), Join()

    def forward(self, a, v):
        return self.head(self.join(self.a(a), self.v(v)))


class Join(nn.Module):
    def forward(self, a, v):
        return torch.cat([a, v], 1)


def in_place(model):
    model.compile(backend="eager")
    return model


WHOLE = {
    "torch.compile": lambda m: torch.compile(m, backend="eager"),
    "model.compile": in_place,
    "twice": lambda m: torch.compile(in_place(m), backend="eager"),
    "inside a wrapper": lambda m: nn.DataParallel(torch.compile(m, backend="eager"), device_ids=None),
    "outside a wrapper": lambda m: torch.compile(nn.DataParallel(m), backend="eager"),
}


@pytest.mark.compile
@pytest.mark.parametrize("how", WHOLE)
@pytest.mark.parametrize("options", [{"taps": {"a": "a", "v": "v"}}, {"taps": {"a": 0, "v": 1}, "at": "join"}])
def test_a_model_compiled_before_it_is_attached_works_and_says_that_it_runs_uncompiled(how, options):
    torch.manual_seed(0)
    model, inputs = Joined().eval(), (torch.randn(6, 5), torch.randn(6, 7))
    expected = model(*inputs)
    with pytest.warns(UserWarning, match="the model is compiled as a whole, where no tap can follow: "):
        attached = attach(WHOLE[how](model), **options, sizes={"a": 4, "v": 4}, seed=0)
    assert torch.equal(attached.eval()(*inputs), expected)
    assert attached.calibration is not None
    (attached.train()(*inputs).sum() + attached.auxiliary_loss()).backward()
    assert torch.equal(attached.eval().detach()(*inputs), expected)
    torch._dynamo.reset()


@pytest.mark.compile
def test_a_compiled_model_stays_compiled_where_its_inputs_are_calibrated():
    counter = torch._dynamo.testing.CompileCounter()
    attached = attach(torch.compile(Joined(), backend=counter), {"a": 0, "v": 1}, at="", sizes={"a": 5, "v": 7}).eval()
    assert attached(torch.randn(6, 5), torch.randn(6, 7)).shape == (6, 3)
    assert counter.frame_count == 1
    torch._dynamo.reset()


INSIDE = {
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "compiled in place": in_place,
    "scripted": torch.jit.script,
    "traced": lambda m: torch.jit.trace(m, torch.randn(2, 5)),
}


@pytest.mark.compile
@pytest.mark.parametrize("how", INSIDE)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_or_scripted_submodule_is_tapped_itself_and_not_inside(how):
    torch.manual_seed(0)
    model, inputs = Joined().eval(), (torch.randn(6, 5), torch.randn(6, 7))
    expected = model(*inputs)
    model.a = INSIDE[how](model.a)
    attached = attach(model, {"a": "a", "v": "v"}, example=inputs, seed=0).eval()
    torch.testing.assert_close(attached(*inputs), expected)
    state = "scripted or traced" if how in ("scripted", "traced") else "compiled"
    attached.detach()
    text = f"the tap 'a.0' of 'a' lies inside 'a', which is {state}, where no tap can follow; tap 'a' itself, or"
    with pytest.raises(UsageError, match=text):
        attach(model, {"a": "a.0", "v": "v"})
    torch._dynamo.reset()
