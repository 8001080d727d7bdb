"""What goes with tapped features: where masks, presence and batch sizes come from."""

import re
from collections import namedtuple

import numpy as np
import pytest
import torch

from concordant import UsageError, attach
from concordant.attach.arguments import Arguments
from concordant.attach.sources import batch_size, check_batch_size, check_sources, sourced, taps_among
from concordant.attach.taps import Tap
from concordant.modalities import AUTO

NAMES = ("audio", "visual")


def given(*args, **kwargs):
    return Arguments(args, kwargs, ())


def test_sources_are_functions_and_taps_by_modality():
    sources = check_sources("masks", {"visual": len, "audio": "net.masker#2[mask]"}, NAMES)
    assert sources == {"visual": len, "audio": "net.masker#2[mask]"}
    assert check_sources("masks", None, NAMES) == check_sources("masks", {}, NAMES) == {}
    taps = taps_among("masks", sources)
    assert taps == {"masks.audio": Tap("net.masker#2[mask]", "net.masker", 2, ("mask",))}


@pytest.mark.parametrize("sources", [len, ["audio"], "net.masker", (), 0])
def test_sources_are_in_a_dictionary(sources):
    text = "present must be a dictionary from modality to a function of the model's inputs or the name of a submodule;"
    with pytest.raises(UsageError, match=re.escape(f"{text} found {sources!r}")):
        check_sources("present", sources, NAMES)


@pytest.mark.parametrize("argument", ["masks", "present"])
def test_a_source_that_is_no_tap_is_called_by_its_argument(argument):
    text = f"{argument}['audio'] must be the name of a submodule, such as"
    with pytest.raises(UsageError, match=re.escape(text) + r".*found 'net\[mask'"):
        taps_among(argument, {"audio": "net[mask"})
    with pytest.raises(UsageError, match=r"^at must be the name of a submodule, such as .*; found 0"):
        attach(torch.nn.Linear(1, 1), {"audio": 0, "visual": 1}, at=0)


def test_a_function_sees_the_model_s_inputs_and_a_tap_what_was_found():
    here, found = torch.tensor([True, False]), {"masks.audio": torch.ones(2)}
    assert sourced(lambda x, *, on: x & on, "present.audio", found, given(here, on=True)).tolist() == [True, False]
    assert sourced("net", "masks.audio", found, given(here)) is found["masks.audio"]


@pytest.mark.parametrize(
    ("returned", "text"), [(None, "NoneType"), ([True], "list of 1"), (np.ones(2, np.bool_), "ndarray")]
)
def test_a_function_that_returns_no_tensor_is_refused(returned, text):
    with pytest.raises(UsageError, match=f"the function present.audio must return a bool tensor; found {text}"):
        sourced(lambda: returned, "present.audio", {}, given())


def test_the_batch_size_is_that_of_a_feature_on_whose_axis_it_lies():
    features = {name: torch.zeros(8, 3, 5) for name in "abcd"}
    layouts = {"a": "(b t)d", "b": "(b t)d", "c": "(b t)d", "d": "(b t)d"}
    assert batch_size(features, {**layouts, "b": "tbd"}, None, given()) == 3
    assert batch_size(features, {**layouts, "c": AUTO}, None, given()) == 8
    assert batch_size({"a": torch.zeros(()), "b": torch.zeros(7)}, {"a": "bd", "b": "tbd"}, None, given()) == 7
    row = namedtuple("row", "one two")
    inputs = given("text", [torch.zeros(()), row(torch.zeros(4, 2), 1)], films=torch.zeros(6))
    assert batch_size(features, layouts, None, inputs) == 4
    assert batch_size(features, layouts, None, given("text", films=torch.zeros(6))) == 6
    assert batch_size(features, layouts, None, given("text", 3)) == 0


@pytest.mark.parametrize("told", [4, np.int64(4), torch.tensor(4)])
def test_the_batch_size_is_told_as_any_whole_number(told):
    assert batch_size({"a": torch.zeros(8, 3)}, {"a": "bd"}, lambda x, *, rows: rows, given(1, rows=told)) == 4


@pytest.mark.parametrize("told", [2.5, 4.0, None, "4", torch.ones(2)])
def test_what_is_no_batch_size_is_refused(told):
    with pytest.raises(UsageError, match=re.escape(f"batch_size must return B, a whole number; found {told!r}")):
        batch_size({}, {}, lambda: told, given())


def test_the_batch_size_comes_from_a_function():
    check_batch_size(None)
    check_batch_size(len)
    with pytest.raises(UsageError, match="batch_size must be a function of the model's inputs that returns B; found 8"):
        attach(torch.nn.Linear(1, 1), {"audio": "a", "visual": "b"}, batch_size=8)
