"""Taps inside the outputs of every kind of container, and such outputs beside the taps: they keep class and values."""

import types
from collections import OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import attrs
import pytest
import torch
from torch import Tensor, nn

from concordant import UsageError, attach

B = 6


class Named(NamedTuple):
    last: Tensor
    pooled: Tensor


class Checked(namedtuple("Checked", "last pooled")):
    def __new__(cls, last, *, pooled):
        return super().__new__(cls, last, pooled)


class Kept(tuple):
    """A tuple with an attribute of its own."""

    def __new__(cls, last, pooled):
        made = super().__new__(cls, (last, pooled))
        made.note = "kept"
        return made


@dataclass
class Plain:
    last: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Frozen:
    last: Tensor
    pooled: Tensor


@dataclass(frozen=True, slots=True)
class Slotted:
    last: Tensor
    pooled: Tensor


@dataclass
class Derived:
    last: Tensor
    pooled: Tensor = field(init=False)
    absent: Tensor = field(init=False)

    def __post_init__(self):
        self.pooled = self.last + 1


@attrs.frozen
class Attrs:
    last: Tensor
    pooled: Tensor


@dataclass
class Output(OrderedDict):
    """As in transformers: fields are items and attributes, and all must be given."""

    last: Tensor
    pooled: Tensor

    def __post_init__(self):
        self["last"], self["pooled"] = self.last, self.pooled

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


class Refusing(OrderedDict):
    """Takes nothing after its construction."""

    def __init__(self, last, pooled):
        super().__init__()
        OrderedDict.__setitem__(self, "last", last)
        OrderedDict.__setitem__(self, "pooled", pooled)
        self.__dict__["pooled"] = pooled

    def __setitem__(self, key, value):
        raise TypeError("an output does not change")

    def update(self, *_):
        raise TypeError("an output does not change")


class AttrDict(dict):
    def __getattr__(self, name):
        return self[name]

    __setattr__ = dict.__setitem__


class Listed(list):
    def __init__(self, last, pooled):
        super().__init__([last, pooled])


class Fixed(Mapping):
    def __init__(self, last, pooled):
        self._held = {"last": last, "pooled": pooled}

    def __getitem__(self, key):
        return self._held[key]

    def __iter__(self):
        return iter(self._held)

    def __len__(self):
        return len(self._held)


class Bare:
    def __init__(self, last, pooled):
        self.last, self.pooled = last, pooled


class Strict:
    __slots__ = ("last", "pooled")

    def __init__(self, last, pooled):
        self.last, self.pooled = last, pooled


def named(kind):
    return lambda last, pooled: kind({"last": last, "pooled": pooled})


# name -> (what an encoder makes of two tensors, the taps of the second, how the model reads the second)
by_number, by_key, by_field = (lambda out: out[1]), (lambda out: out["pooled"]), (lambda out: out.pooled)
KINDS = {
    "tuple": (lambda *x: x, ["[1]", "[-1]"], by_number),
    "named tuple": (Named, ["[1]", "[pooled]"], by_field),
    "named tuple with a constructor": (
        lambda last, pooled: Checked(last, pooled=pooled),
        ["[1]", "[pooled]"],
        by_field,
    ),
    "tuple with attributes": (Kept, ["[1]"], by_number),
    "what torch.max returns": (
        lambda last, pooled: torch.return_types.max((last, pooled)),
        ["[1]", "[indices]"],
        lambda out: out.indices,
    ),
    "list": (lambda *x: list(x), ["[1]", "[-1]"], by_number),
    "derived list": (Listed, ["[1]"], by_number),
    "deque": (lambda *x: deque(x), ["[1]"], by_number),
    "user list": (lambda *x: UserList(x), ["[1]"], by_number),
    "dict": (named(dict), ["[pooled]"], by_key),
    "default dict": (named(lambda x: defaultdict(list, x)), ["[pooled]"], by_key),
    "ordered dict": (named(OrderedDict), ["[pooled]"], by_key),
    "user dict": (named(UserDict), ["[pooled]"], by_key),
    "read-only mapping": (named(types.MappingProxyType), ["[pooled]"], by_key),
    "own mapping": (Fixed, ["[pooled]"], by_key),
    "attribute dict": (named(AttrDict), ["[pooled]"], by_field),
    "output read by key": (Output, ["[pooled]", "[1]"], by_key),
    "output read by field": (Output, ["[pooled]", "[1]"], by_field),
    "output read by number": (Output, ["[pooled]", "[1]"], by_number),
    "output that refuses changes": (Refusing, ["[pooled]"], by_field),
    "dataclass": (Plain, ["[pooled]"], by_field),
    "frozen dataclass": (Frozen, ["[pooled]"], by_field),
    "slotted dataclass": (Slotted, ["[pooled]"], by_field),
    "dataclass with derived fields": (lambda last, _: Derived(last), ["[pooled]"], by_field),
    "attrs": (Attrs, ["[pooled]"], by_field),
    "namespace": (lambda last, pooled: types.SimpleNamespace(last=last, pooled=pooled), ["[pooled]"], by_field),
    "object": (Bare, ["[pooled]"], by_field),
    "object with slots": (Strict, ["[pooled]"], by_field),
    "nested": (
        lambda last, pooled: {"all": [Named(last, last), Output(last=last, pooled=pooled)]},
        ["[all][1][pooled]", "[all][-1][1]"],
        lambda out: out["all"][1].pooled,
    ),
}


class Encoder(nn.Module):
    def __init__(self, size, make):
        super().__init__()
        self.layer, self.make = nn.Linear(size, 4), make

    def forward(self, x):
        x = self.layer(x)
        return self.make(x, x * 2)


class Head(nn.Module):
    """Reads both outputs as they are."""

    def __init__(self, read):
        super().__init__()
        self.layer, self.read = nn.Linear(8, 3), read

    def forward(self, a, v):
        return self.layer(torch.cat([self.read(a), self.read(v)], 1))


class Model(nn.Module):
    def __init__(self, kind):
        super().__init__()
        make, _, read = KINDS[kind]
        self.a, self.v, self.head, self.make = Encoder(5, make), Encoder(7, make), Head(read), make

    def forward(self, a, v):
        x = self.head(self.a(a), self.v(v))
        return self.make(x, x + 1)


@pytest.mark.parametrize(("kind", "tap"), [(kind, tap) for kind, (_, taps, _) in KINDS.items() for tap in taps])
def test_an_element_of_any_container_is_calibrated(kind, tap):
    torch.manual_seed(0)
    model, read = Model(kind).eval(), KINDS[kind][2]
    a, v = torch.randn(B, 5), torch.randn(B, 7)
    attached = attach(model, {"a": f"a{tap}", "v": f"v{tap}"}, sizes={"a": 4, "v": 4}, seed=0)
    found, expected = attached(a, v), model(a, v)
    assert type(found) is type(expected)
    assert torch.equal(read(found), read(expected))
    with torch.no_grad():
        for parameter in attached.calibrator.parameters():
            parameter.add_(torch.randn_like(parameter))
    out, features = attached(a, v), attached.calibration.features
    logits = model.head.layer(torch.cat([features["a"], features["v"]], 1))
    torch.testing.assert_close(read(out), read(model.make(logits, logits + 1)))
    assert not torch.allclose(read(out), read(expected))
    assert getattr(out, "__dict__", {}).get("note") == getattr(expected, "__dict__", {}).get("note")


class Between(nn.Module):
    """Uses the first feature before the second exists, in a submodule that takes and returns whole outputs."""

    def __init__(self, kind):
        super().__init__()
        make, _, self.read = KINDS[kind]
        self.a, self.v, self.middle, self.head = Encoder(5, make), Encoder(7, make), Middle(kind), Head(self.read)

    def forward(self, a, v):
        return self.head(self.middle(self.a(a)), self.v(v))


class Middle(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, (self.make, _, self.read) = nn.Linear(4, 4), KINDS[kind]

    def forward(self, out):
        x = self.layer(self.read(out))
        return self.make(x, x)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dataclass with derived fields"])
@pytest.mark.parametrize("grad", [True, False])
def test_a_feature_is_followed_inside_any_container(kind, grad):
    torch.manual_seed(0)
    model, tap = Between(kind).eval(), KINDS[kind][1][0]
    a, v = torch.randn(B, 5), torch.randn(B, 7)
    attached = attach(model, {"a": f"a{tap}", "v": f"v{tap}"}, sizes={"a": 4, "v": 4}, seed=0)
    with torch.set_grad_enabled(grad):
        assert torch.equal(attached(a, v), model(a, v))
        with torch.no_grad():
            for parameter in attached.calibrator.parameters():
                parameter.add_(torch.randn_like(parameter))
        out, features = attached(a, v), attached.calibration.features
        between = model.middle.layer(features["a"])
        torch.testing.assert_close(out, model.head.layer(torch.cat([between, features["v"]], 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_are_replaced_inside_any_container(kind):
    make, taps, read = KINDS[kind]

    class Taking(nn.Module):
        def __init__(self):
            super().__init__()
            self.fuse = Head(read)

        def forward(self, a, v):
            return self.fuse(a, v)

    torch.manual_seed(0)
    model = Taking().eval()
    a, v = (make(x, x * 2) for x in (torch.randn(B, 4), torch.randn(B, 4)))
    path = tuple(int(key) if key.lstrip("-").isdigit() else key for key in taps[0][1:-1].split("]["))
    for at, given in (("", (a, v)), ("fuse", (a, v))):
        attached = attach(model, {"a": (0, *path), "v": (1, *path)}, at=at, sizes={"a": 4, "v": 4}, seed=0)
        assert torch.equal(attached(*given), model(*given))
        with torch.no_grad():
            for parameter in attached.calibrator.parameters():
                parameter.add_(torch.randn_like(parameter))
        out, features = attached(*given), attached.calibration.features
        torch.testing.assert_close(out, model.fuse.layer(torch.cat([features["a"], features["v"]], 1)))
        assert torch.equal(model(*given), attached.detach()(*given))


def test_a_key_that_is_missing_is_named():
    model = Model("dict")
    with pytest.raises(
        UsageError, match=r"the tap 'a\[3\]' of 'a' asks for \[3\] of dict with the keys 'last', 'pooled'"
    ):
        attach(model, {"a": "a[3]", "v": "v[pooled]"})(torch.randn(B, 5), torch.randn(B, 7))
    with pytest.raises(UsageError, match=r"the tap 'a\[other\]' of 'a' asks for \['other'\] of Named"):
        attach(Model("named tuple"), {"a": "a[other]", "v": "v[1]"})(torch.randn(B, 5), torch.randn(B, 7))
