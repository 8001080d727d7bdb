"""State dictionaries of attached models: whose keys are whose, and the versions of modules that go with them."""

import copy

import pytest
import torch
from torch import nn

from concordant import attach
from concordant.attach.attach import without_calibrator

SIZES = {"audio": 4, "visual": 4}


class Second(nn.Linear):
    """A layer whose weights had the other sign in its first version, as older checkpoints have them."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[prefix + "weight"] = -state[prefix + "weight"]
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Model(nn.Module):
    """Two encoders and a head, and submodules with the names that the wrapper uses itself."""

    def __init__(self):
        super().__init__()
        self.audio, self.visual, self.head = nn.Linear(5, 4), Second(3, 4), nn.Linear(8, 2)
        self.model = nn.Sequential(Second(2, 2), nn.BatchNorm1d(2))
        self.calibrator = Second(2, 2)

    def forward(self, audio, visual):
        return self.head(torch.cat([self.audio(audio), self.visual(visual)], 1))


def made():
    return attach(Model(), {name: name for name in SIZES}, layout="bd", sizes=SIZES)


class Outer(nn.Module):
    """A model of which the attached one, or the original, is a part; its other part is named alike."""

    def __init__(self, inner):
        super().__init__()
        self.net, self.model = inner, Second(2, 2)


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(x, expected[key]) for key, x in found.items())


def test_keys_are_the_model_s_whatever_its_parts_are_called():
    state, attached = Model().state_dict(), made()
    assert list(attached.model_state_dict()) == list(state)
    assert [key for key in attached.state_dict() if not key.startswith("concordant_calibrator.")] == list(state)
    assert list(attached.load_state_dict(state)) == [[], []]
    assert same(attached.model_state_dict(), state)


def test_the_calibrator_s_keys_are_dropped_at_every_depth():
    outer = Outer(made())
    found = without_calibrator(nn.ModuleDict({"module": outer}).state_dict())
    assert list(found) == [f"module.{key}" for key in Outer(Model()).state_dict()]
    assert without_calibrator({"my_concordant_calibrator.bias": 1}) == {"my_concordant_calibrator.bias": 1}


ROUTES = {
    "the original's": lambda: (Model(), made(), lambda state: state),
    "the attached model's own": lambda: (made(), made(), lambda state: state),
    "the attached model's without the calibrator": lambda: (made(), Model(), without_calibrator),
    "a part's own": lambda: (Outer(made()), Outer(made()), lambda state: state),
    "a part's without the calibrator": lambda: (Outer(made()), Outer(Model()), without_calibrator),
}


@pytest.mark.parametrize("route", ROUTES)
def test_modules_know_by_which_version_they_were_written(route):
    source, target, changed = ROUTES[route]()
    state = changed(source.state_dict())
    known = copy.deepcopy(state._metadata)
    assert not target.load_state_dict(state).missing_keys
    assert same(without_calibrator(target.state_dict()), without_calibrator(state))
    assert state._metadata == known  # what was loaded stays what it was


def test_the_model_s_own_state_has_its_versions_too():
    attached, other = made(), Model()
    other.load_state_dict(attached.model_state_dict())
    assert same(other.state_dict(), attached.model_state_dict())


def test_states_without_versions_load_as_they_do_into_the_model():
    state, attached, model = dict(Model().state_dict()), made(), Model()
    attached.load_state_dict(state)
    model.load_state_dict(state)
    assert same(attached.model_state_dict(), model.state_dict())
    assert torch.equal(model.visual.weight, -state["visual.weight"])


def test_weights_are_taken_as_they_are_where_loading_assigns():
    state, attached = made().state_dict(), made()
    attached.load_state_dict(state, assign=True)
    assert attached.model.head.weight.data_ptr() == state["head.weight"].data_ptr()
    name = "heads.audio.gate.bias"
    assert attached.calibrator.get_parameter(name).data_ptr() == state[f"concordant_calibrator.{name}"].data_ptr()
