"""What forward changes in a model changes once, and nothing of it stays after `detach()` or `fit_plugin`."""

import contextvars
import copy
import itertools
import pickle
import random
from collections import Counter, OrderedDict, deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from concordant import attach, fit_plugin

TAPS = {"a": "a", "v": "v"}
COLLECTED = contextvars.ContextVar("collected")


class Base(nn.Module):
    """Two encoders and a head; with `early` the first feature is used before the second exists."""

    def __init__(self, early):
        super().__init__()
        self.a, self.v, self.head = nn.Sequential(nn.Linear(5, 4)), nn.Sequential(nn.Linear(7, 4)), nn.Linear(8, 3)
        self.early = early
        self.prepare()

    def prepare(self):
        pass

    def before(self):
        pass

    def after(self):
        return 0

    def forward(self, a, v):
        self.before()
        first = self.a(a)
        if self.early:
            first = first * 2
        out = self.head(torch.cat([first, self.v(v)], 1))
        return out, self.after()


class HookAtFirstUse(Base):
    def prepare(self):
        self.seen, self.ready = [], False

    def before(self):
        if not self.ready:
            self.ready = True
            for module in (self.head, self.a, self.v[0]):
                module.register_forward_hook(lambda m, i, out: self.seen.append(tuple(out.shape)))
        self.seen.clear()

    def after(self):
        return list(self.seen)


class Collecting(Base):
    def prepare(self):
        self.kept = {}
        for name in ("a.0", "v", "head"):
            self.get_submodule(name).register_forward_hook(
                lambda m, i, out, name=name: self.kept.update({name: tuple(out.shape)})
            )

    def before(self):
        self.kept.clear()

    def after(self):
        return dict(self.kept)


class CollectingAnew(Collecting):
    def before(self):
        self.kept = {}


class Containers(Base):
    def prepare(self):
        self.state = {"list": [], "deque": deque(maxlen=3), "nested": [{"count": 0}], "set": set()}
        self.counter, self.order, self.name = Counter(), OrderedDict(), SimpleNamespace(calls=0)
        self.array, self.draws = np.zeros(2), [random.Random(0), np.random.default_rng(0), torch.Generator()]  # noqa: S311

    def before(self):
        self.state["list"].append(len(self.state["list"]))
        self.state["deque"].append(len(self.state["list"]))
        self.state["nested"][0]["count"] += 1
        self.state["set"].add(len(self.state["list"]))
        self.counter["calls"] += 1
        self.order[len(self.order)] = 1
        self.name.calls += 1
        self.array += 1
        self.drawn = [self.draws[0].random(), self.draws[1].random(), torch.rand(1, generator=self.draws[2]).item()]

    def after(self):
        return copy.deepcopy([self.state, self.counter, self.order, self.name, self.array.tolist(), self.drawn])


class Momentum(Base):
    """A teacher that follows the encoder as forward begins, by `.data` as in ALBEF, and a queue."""

    def prepare(self):
        self.teacher = copy.deepcopy(self.a).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(4, 3))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))
        self.plain = torch.zeros(2)

    def before(self):
        for one, two in zip(self.teacher.parameters(), self.a.parameters(), strict=True):
            one.data.mul_(0.5).add_(two.data, alpha=0.7)
        self.queue[int(self.pointer) % 4] += float(self.pointer) + 1
        self.pointer += 1
        self.plain += 1

    def after(self):
        teacher = [p.detach().clone() for p in self.teacher.parameters()]
        return [*teacher, self.queue.clone(), self.pointer.clone(), self.plain.clone()]


class Counting(nn.Module):
    """An encoder with a state of its own."""

    def __init__(self, n):
        super().__init__()
        self.layer, self.norm, self.calls, self.recent = nn.Linear(n, 4), nn.BatchNorm1d(4), 0, deque(maxlen=2)

    def forward(self, x):
        self.calls += 1
        self.recent.append(self.calls)
        self.layer.weight.data.mul_(0.9)
        return self.norm(self.layer(x))


class Inner(Base):
    def prepare(self):
        self.a, self.v = Counting(5), Counting(7)

    def after(self):
        both = self.a, self.v
        return [*((m.calls, list(m.recent)) for m in both), *(m.norm.running_mean.clone() for m in both)]


class InContext(Base):
    """Collects in a context variable, as Hugging Face models do."""

    def prepare(self):
        for module in (self.a, self.v, self.head):
            module.register_forward_hook(lambda m, i, out: COLLECTED.get().append(tuple(out.shape)))

    def before(self):
        COLLECTED.set([])

    def after(self):
        return list(COLLECTED.get())


KINDS = [HookAtFirstUse, Collecting, CollectingAnew, Containers, Momentum, Inner, InContext]


def same(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(same(x, y) for x, y in zip(one, two, strict=True))
    return one == two


def made(kind, early):
    torch.manual_seed(0)
    return kind(early)


def inputs(rows=6):
    torch.manual_seed(1)
    return torch.randn(rows, 5), torch.randn(rows, 7)


def held(model):
    """Return what a model holds, as values."""
    hooks = {name: [len(m._forward_hooks), len(m._forward_pre_hooks)] for name, m in model.named_modules()}
    names = {name: sorted(m.__dict__) for name, m in model.named_modules()}
    flags = [(p.requires_grad, type(p)) for p in model.parameters()]
    types = [(type(m), m.training) for m in model.modules()]
    return [
        sorted(hooks.items()),
        sorted(names.items()),
        flags,
        types,
        *(x.clone() for x in model.state_dict().values()),
    ]


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_what_forward_changes_is_changed_once(kind, early, training):
    model, other = made(kind, early).train(training), made(kind, early).train(training)
    attached = attach(other, TAPS, perturbation=False, seed=0, example=inputs())
    for _ in range(3):
        assert same(list(attached(*inputs())), list(model(*inputs())))
    assert same(held(other), held(model))
    assert attached.detach() is other
    assert same(list(other(*inputs())), list(model(*inputs())))
    assert same(held(other), held(model))


@pytest.mark.filterwarnings("ignore:fit_plugin")
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_fitted_to_and_stays_as_it_was(kind, early):
    model, other = made(kind, early), made(kind, early)
    before = held(other)
    y = torch.arange(30) % 3
    batches = [(inputs(30), y)]
    attached = fit_plugin(other, batches, TAPS, steps=2, validation=batches, seed=0)
    assert attached.detach() is other
    assert same(held(other), before)
    other.eval(), model.eval()
    assert same(list(other(*inputs())), list(model(*inputs())))


@pytest.mark.parametrize("early", [False, True])
def test_a_frozen_encoder_s_calibrator_learns_all_the_same(early):
    class Frozen(Base):
        def forward(self, a, v):
            with torch.no_grad():
                first = self.a(a)
                first = first * 2 if early else first
                second = self.v(v)
            return self.head(torch.cat([first, second], 1))

    found = []
    for model in (made(Frozen, early), made(Base, early)):
        attached = attach(model, TAPS, example=inputs(), seed=0).train()
        out = attached(*inputs())
        ((out if isinstance(out, torch.Tensor) else out[0]).sum() + attached.auxiliary_loss()).backward()
        found.append([None if p.grad is None else p.grad.abs().sum() for p in attached.calibrator.parameters()])
    assert early or found[0] == found[1]  # what is computed early, under no_grad, has no gradient
    assert sum(g is not None for g in found[0]) > 4


@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) * 2


USES = {
    "a scripted function": scripted,
    "a nested tensor": lambda x: torch.nested.to_padded_tensor(torch.nested.nested_tensor(list(x)), 0.0),
    "its shape": lambda x: x.new_zeros(x.shape[0], 4) + x,
    "its values": lambda x: x if float(x.detach().sum()) > 1e9 else -x,
    "only its shape": lambda x: (x, torch.zeros(x.shape, dtype=x.dtype, device=x.device), len(x), x.dim())[0],
    "an attribute": lambda x: setattr(x, "mark", 1) or x,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("grad", [True, False])
def test_no_use_of_a_feature_before_the_last_tap_is_missed(use, grad):
    class Using(Base):
        def forward(self, a, v):
            first = USES[use](self.a(a))
            return self.head(torch.cat([first, self.v(v)], 1))

    model = made(Using, False).eval()
    attached = attach(model, TAPS, example=inputs(), seed=0).eval()
    with torch.no_grad():
        for p in attached.calibrator.parameters():
            p.add_(0.3)
    with torch.set_grad_enabled(grad):
        for _ in range(2):
            out = attached(*inputs())
            found = attached.calibration.features
            torch.testing.assert_close(out, model.head(torch.cat([USES[use](found["a"]), found["v"]], 1)))


def test_a_lazy_model_is_attached_to_and_a_batch_of_one_passes():
    class Lazy(Base):
        def prepare(self):
            self.v, self.head, self.ids = nn.LazyLinear(4), nn.LazyLinear(3), itertools.count()

    attached = attach(made(Lazy, False), TAPS, example=inputs(), seed=0).eval()
    assert attached(*inputs(1))[0].shape == (1, 3)
    assert isinstance(attached.model.head, nn.Linear)


@pytest.mark.parametrize("early", [False, True])
def test_copies_pickles_and_autocast_of_a_model_with_a_state(early):
    attached = attach(made(Momentum, early), TAPS, example=inputs(), seed=0).eval()
    for other in (copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        plain = copy.deepcopy(other.model)
        with torch.autocast("cpu", torch.bfloat16):
            assert same(list(other(*inputs())), list(plain(*inputs())))
        assert same(held(other.detach()), held(plain))
