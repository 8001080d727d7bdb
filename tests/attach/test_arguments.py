import re
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from concordant import attach, fit_plugin
from concordant.attach.arguments import (
    Arguments,
    batch_size,
    check_addresses,
    check_sources,
    evaluate_sources,
    parameters_of,
)
from concordant.errors import UsageError, shown
from concordant.modalities import AUTO

X, Y = torch.zeros(1), torch.ones(1)


class Joins(nn.Module):
    def forward(self, audio, visual=None, *rest, flag=False):
        return audio


@pytest.mark.parametrize(
    ("args", "kwargs", "address", "path"),
    [
        ((X, Y), {}, 1, (0, 1)),
        ((X, Y), {}, "visual", (0, 1)),
        ((X,), {"visual": Y}, 1, (1, "visual")),
        ((X,), {"visual": Y}, "visual", (1, "visual")),
        (([X, Y],), {}, (0, 1), (0, 0, 1)),
        (({"a": X, "text": Y},), {}, "text", (0, 0, "text")),
        ((X,), {"flag": {"deep": [Y]}}, ("flag", "deep", 0), (1, "flag", "deep", 0)),
    ],
)
def test_an_argument_is_found_however_it_is_passed(args, kwargs, address, path):
    call = Arguments(args, kwargs, parameters_of(Joins()))
    assert call.find(address, "m", "'fuse'") == (Y, path)
    new = torch.full((1,), 7.0)
    assert call.replace(path, new).find(address, "m", "'fuse'")[0] is new
    assert call.find(address, "m", "'fuse'")[0] is Y


@pytest.mark.parametrize("address", [2, "text", (0, 1)])
def test_a_missing_argument_is_refused(address):
    with pytest.raises(UsageError, match=r"which the call of 'fuse' does not have; it has 0, 'visual'"):
        Arguments((X,), {"visual": Y}, parameters_of(Joins())).find(address, "m", "'fuse'")


def test_parameters_are_the_positional_ones():
    assert parameters_of(Joins()) == ("audio", "visual")


@pytest.mark.parametrize("address", [True, -1, (), ("a", None), 1.5])
def test_invalid_addresses_are_refused(address):
    with pytest.raises(UsageError, match=r"taps\['m'\] must be a position"):
        check_addresses({"m": address})


# Masks, presence and batch sizes

NAMES = ("audio", "visual")


def given(*args, **kwargs):
    return Arguments(args, kwargs)


def test_sources_are_functions_and_taps_by_modality():
    sources = {"visual": len, "audio": "net.masker#2[mask]"}
    assert check_sources("masks", sources, NAMES) == sources
    assert check_sources("masks", None, NAMES) == check_sources("masks", {}, NAMES) == {}


@pytest.mark.parametrize("sources", [len, ["audio"], "net.masker", (), 0])
def test_sources_must_be_a_dictionary(sources):
    text = "present must be a dictionary from modality to a function of the model's inputs or the name of a submodule;"
    with pytest.raises(UsageError, match=re.escape(f"{text} found {sources!r}")):
        check_sources("present", sources, NAMES)


@pytest.mark.parametrize("argument", ["masks", "present"])
def test_an_invalid_tap_is_refused_with_the_name_of_its_argument(argument):
    text = f"{argument}['audio'] must be the name of a submodule, such as"
    with pytest.raises(UsageError, match=re.escape(text) + r".*found 'net\[mask'"):
        attach(nn.Linear(1, 1), {"audio": "a", "visual": "b"}, **{argument: {"audio": "net[mask"}})
    with pytest.raises(UsageError, match=r"^at must be the name of a submodule, such as .*; found 0"):
        attach(nn.Linear(1, 1), {"audio": 0, "visual": 1}, at=0)


def test_a_source_is_a_function_of_the_inputs_or_a_tap():
    here, found = torch.tensor([True, False]), {"masks.audio": torch.ones(2)}
    sources = {"audio": lambda x, *, on: x & on}
    assert evaluate_sources("present", sources, found, given(here, on=True))["audio"].tolist() == [True, False]
    assert evaluate_sources("masks", {"audio": "net"}, found, given(here))["audio"] is found["masks.audio"]
    array = evaluate_sources("present", {"audio": lambda _: here.numpy()}, {}, given(here))["audio"]
    assert torch.equal(array, here)


@pytest.mark.parametrize(
    ("returned", "text"), [(None, "NoneType"), ([True], "list of 1"), (np.array(["a"]), "ndarray")]
)
def test_a_function_must_return_a_tensor(returned, text):
    with pytest.raises(UsageError, match=f"the function present.audio must return a bool tensor; found {text}"):
        evaluate_sources("present", {"audio": lambda: returned}, {}, given())


def test_the_batch_size_is_read_off_an_unfolded_feature_or_the_first_input():
    features = {name: torch.zeros(8, 3, 5) for name in "abcd"}
    layouts = dict.fromkeys("abcd", "(b t)d")
    assert batch_size(features, {**layouts, "b": "tbd"}, None, given()) == 3
    assert batch_size(features, {**layouts, "c": AUTO}, None, given()) == 8
    assert batch_size({"a": torch.zeros(()), "b": torch.zeros(7)}, {"a": "bd", "b": "tbd"}, None, given()) == 7
    row = namedtuple("row", "one two")
    inputs = given("text", [torch.zeros(()), row(torch.zeros(4, 2), 1)], films=torch.zeros(6))
    assert batch_size(features, layouts, None, inputs) == 4
    assert batch_size(features, layouts, None, given("text", films=torch.zeros(6))) == 6
    assert batch_size(features, layouts, None, given("text", 3)) == 0


@pytest.mark.parametrize("size", [4, np.int64(4), torch.tensor(4)])
def test_the_batch_size_of_a_function_is_any_whole_number(size):
    assert batch_size({"a": torch.zeros(8, 3)}, {"a": "bd"}, lambda x, *, rows: rows, given(1, rows=size)) == 4


@pytest.mark.parametrize("size", [2.5, 4.0, None, "4", torch.ones(2)])
def test_other_batch_sizes_are_refused(size):
    with pytest.raises(UsageError, match=re.escape(f"batch_size must return B, a whole number; found {shown(size)}")):
        batch_size({}, {}, lambda: size, given())


def test_the_batch_size_must_be_a_function():
    with pytest.raises(UsageError, match="batch_size must be a function of the model's inputs that returns B; found 8"):
        attach(nn.Linear(1, 1), {"audio": "a", "visual": "b"}, batch_size=8)


class Raw(nn.Module):
    """Has one encoder; the other modality comes in as it is, and with `early` a submodule reads it before that."""

    def __init__(self, early=False):
        super().__init__()
        torch.manual_seed(0)
        self.text, self.head, self.early, self.speed = nn.Linear(5, 4), nn.Linear(7, 3), early, nn.Linear(3, 3)

    def forward(self, words, speed):
        speed = self.speed(speed) * 2 if self.early else speed
        return self.head(torch.cat([self.text(words), speed], 1))


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("tap", ["speed", 1, (1,), ("speed",)])
def test_an_argument_beside_a_tapped_encoder_is_calibrated(tap, early):
    if tap == "speed":  # otherwise the submodule of that name
        early = False
    model, inputs = Raw(early).eval(), (torch.randn(6, 5), torch.randn(6, 3))
    if not early:
        del model.speed
    plain = model(*inputs)
    plain.sum().backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    attached = attach(model, {"text": "text", "speed": tap}, example=inputs, perturbation=False, seed=0)
    for _ in range(2):
        attached.zero_grad()
        out = attached(*inputs)
        assert torch.equal(out, plain)
    assert torch.equal(attached(words=inputs[0], speed=inputs[1]), plain)
    assert attached.taps["speed"] == tap
    out.sum().backward()
    assert all(torch.allclose(p.grad, wanted[name]) for name, p in model.named_parameters())
    halve = attached.calibrator.register_forward_hook(
        lambda _, __, out: replace(out, features=out.features | {"speed": out.features["speed"] / 2})
    )
    changed = attached(*inputs)
    halve.remove()
    assert torch.allclose(changed, model(inputs[0], inputs[1] / 2))
    assert not torch.allclose(changed, plain)
    assert torch.equal(attached.detach()(*inputs), plain)


@pytest.mark.parametrize("early", [False, True])
def test_an_argument_that_is_tapped_is_perturbed_and_copied(early):
    model, inputs = Raw(early), (torch.randn(6, 5), torch.randn(6, 3))
    attached = attach(model, {"text": "text", "speed": 1}, example=inputs, copies=True, seed=0).train()
    assert attached(*inputs).shape == (12, 3)
    assert attached.calibration.perturbed.any()
    attached.auxiliary_loss().backward()
    fitted = fit_plugin(model.eval(), [(inputs, torch.arange(6) % 3)], {"text": "text", "speed": (1,)}, steps=2)
    assert fitted.calibrate(*inputs).reliability.shape == (6, 2)


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ({"text": 0, "speed": 1}, r"all taps are arguments of the model's forward, \[0, 1\]; add at=\"\""),
        ({"text": "text", "speed": 2}, r"taps\['speed'\] is 2, which the call of the model does not have; it has 0, 1"),
        ({"text": "text", "speed": (1.5,)}, r"taps\['speed'\] must be a position .*; found \(1.5,\)"),
    ],
)
def test_an_argument_that_cannot_be_tapped_is_refused(taps, message):
    with pytest.raises(UsageError, match=message):
        attach(Raw(), taps, example=(torch.randn(6, 5), torch.randn(6, 3)))


@pytest.mark.compile
def test_compiled_submodules_between_taps_run_uncompiled_in_the_first_of_two_passes():
    model, inputs = Raw(early=True).eval(), (torch.randn(6, 5), torch.randn(6, 3))
    attached = attach(model, {"text": "text", "speed": (1,)}, example=inputs, seed=0)
    expected = attached(*inputs)
    attached.compile(backend="eager")
    assert torch.equal(attached(*inputs), expected)
    torch._dynamo.reset()
