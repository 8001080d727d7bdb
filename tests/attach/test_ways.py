"""Other ways into an attached model: attributes, methods, signatures, compilation, several processes."""

import copy
import inspect
import pickle
from typing import ClassVar

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.distributed.fsdp import fully_shard

from concordant import ConcordantError, UsageError, attach

TAPS = {"a": "a", "v": "v"}
SIZES = {"a": 4, "v": 4}


class Encoder(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, 4)

    def forward(self, x, /, scale=1.0, *, shift=0.0):
        return self.fc(x) * scale + shift


class Model(nn.Module):
    """Two encoders and a head, with much beside forward."""

    config: ClassVar = {"size": 4}

    def __init__(self):
        super().__init__()
        self.a, self.v, self.head = Encoder(5), Encoder(7), nn.Linear(8, 3)
        self.beam, self.labels, self.steps = 1, "the model's own", 0
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def width(self):
        return self.beam * 2

    @width.setter
    def width(self, value):
        self.beam = value // 2

    def forward(self, a, v, **extra):
        """Return logits."""
        for encoder in (self.a, self.v):
            unknown = set(extra) - set(inspect.signature(encoder.forward).parameters)
            if unknown:
                raise ValueError(f"{unknown} are not used by the model")
        return self.head(torch.cat([self.a(a, **extra), self.v(v, **extra)], 1)) * self.scale

    def predict(self, a, v):
        """Return classes."""
        return self(a, v).argmax(1)

    def generate(self, a, v, *, steps=2):
        return [self.forward(a, v) for _ in range(steps)]

    def training_step(self, batch):
        self.steps += 1
        return self(*batch).square().mean()

    def in_parts(self, a, v):
        return self.head(torch.cat([self.a(a), self.v(v)], 1))

    def encode(self, a):
        return self.a(a)

    def names(self):
        return [name for name, _ in self.named_children()]

    @staticmethod
    def help():
        return "help"

    @classmethod
    def made(cls):
        return cls()


def inputs(rows=6):
    torch.manual_seed(1)
    return torch.randn(rows, 5), torch.randn(rows, 7)


def made(taps=TAPS, sizes=SIZES, **options):
    torch.manual_seed(0)
    attached = attach(Model(), taps, sizes=sizes, seed=0, layout="bd", **options).eval()
    if attached.calibrator is not None:
        with torch.no_grad():
            for p in attached.calibrator.parameters():
                p.add_(0.3)
    return attached


WAYS = {
    "taps": {},
    "inputs": {"taps": {"a": 0, "v": 1}, "at": "", "sizes": {"a": 5, "v": 7}},
}


def test_attributes_of_the_model_are_read_and_set_through_it():
    attached = made()
    model = attached.model
    assert attached.config is Model.config
    assert attached.head is model.head
    assert attached.scale is model.scale
    assert attached.help() == "help"
    assert isinstance(attached.made(), Model)
    attached.width = 8
    assert (attached.width, model.beam, attached.beam) == (8, 4, 4)
    attached.config = {"size": 5}
    assert model.config == {"size": 5}
    attached.head = nn.Linear(8, 2)
    assert attached(*inputs()).shape == (6, 2)
    attached.note = "mine"
    assert not hasattr(model, "note")
    attached.labels = torch.zeros(6, dtype=torch.long)  # the wrapper's own come first
    assert model.labels == "the model's own"
    with pytest.raises(AttributeError, match="'Model' object has no attribute 'nothing'"):
        attached.nothing  # noqa: B018
    assert attached.names() == ["a", "v", "head"]
    assert attached.detach().head is attached.head


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("copied", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_forward_is_calibrated_inside_every_method_called_through_it(way, copied):
    attached = copied(made(**WAYS[way]))
    expected = attached(*inputs())
    assert not torch.equal(expected, attached.model(*inputs()))
    attached.calibration = None
    assert torch.equal(attached.predict(*inputs()), expected.argmax(1))
    assert attached.calibration is not None
    assert all(torch.equal(out, expected) for out in attached.generate(*inputs(), steps=3))
    assert torch.equal(attached.training_step(inputs()), expected.square().mean())
    assert (attached.steps, attached.model.steps) == (1, 1)
    assert attached.predict.__doc__ == "Return classes."
    attached.train()
    (attached.training_step(inputs()) + attached.auxiliary_loss()).backward()
    assert any(p.grad is not None for p in attached.calibrator.parameters())
    model = attached.detach()
    assert torch.equal(attached.eval().predict(*inputs()), model.predict(*inputs()))


def test_the_model_inside_is_the_original_without_calibration():
    attached = made()
    attached.model.predict(*inputs())
    assert attached.calibration is None
    assert torch.equal(attached.model(*inputs()), attached.model.in_parts(*inputs()))


def test_taps_called_outside_forward_are_refused_and_a_method_may_be_named():
    attached = made()
    for call in (lambda: attached.in_parts(*inputs()), lambda: attached.encode(inputs()[0])):
        with pytest.raises(
            UsageError, match=r"calls 'a' outside forward, where nothing is calibrated; give attach metho"
        ):
            call()
    expected = attached(*inputs())
    named = made(method="in_parts")
    for call in (named, named.in_parts):
        assert torch.equal(call(*inputs()), expected)
    assert named.calibrate(*inputs()).reliability.shape == (6, 2)
    assert torch.equal(made(method="forward")(*inputs()), expected)
    assert inspect.signature(named.forward) == inspect.signature(named.model.in_parts)
    with pytest.raises(UsageError, match=r"method must name a method of the model: .*in_parts.*; found 'steps'"):
        made(method="steps")


@pytest.mark.parametrize("way", WAYS)
def test_signatures_stay_the_model_s(way):
    attached = made(**WAYS[way])
    assert attached(*inputs(), scale=2.0).shape == (6, 3)
    with pytest.raises(ValueError, match="are not used by the model"):
        attached(*inputs(), other=2.0)
    found = []
    for of in (attached, copy.deepcopy(attached), pickle.loads(pickle.dumps(attached)), attached.model):
        found.append(
            [inspect.signature(of.forward), inspect.signature(of.generate), inspect.getfullargspec(of.predict)]
        )
    assert all(one[:2] == found[0][:2] for one in found)
    assert list(found[0][0].parameters) == ["a", "v", "extra"]
    seen = []
    attached.head.register_forward_pre_hook(lambda m, _: seen.append(inspect.signature(attached.a.forward)))
    attached(*inputs())
    assert seen == [inspect.signature(Encoder(5).forward)]


def test_a_lightning_module_is_attached_to_as_one():
    lightning = pytest.importorskip("lightning")
    module = type("Module", (Model, lightning.LightningModule), {"__module__": __name__})
    globals()["Module"] = module  # for pickle
    attached = attach(module(), TAPS, sizes=SIZES, layout="bd", seed=0).eval()
    for other in (attached, copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        assert isinstance(other, module)
        assert isinstance(other, lightning.LightningModule)
        assert torch.equal(other.training_step(inputs()), other.model.training_step(inputs()))
        assert other.calibration is not None
    assert type(attached.detach()) is module


@pytest.mark.compile
def test_compilation_goes_around_the_calibrator_or_says_that_it_does_not():
    attached, counter = made(), torch._dynamo.testing.CompileCounter()
    expected = attached(*inputs())
    torch._dynamo.reset()
    with pytest.warns(UserWarning, match=r"compiles nothing in it.*attached\.compile\(\) compiles its 3 submodules"):
        assert torch.equal(torch.compile(attached, backend=counter)(*inputs()), expected)
    assert counter.frame_count == 0
    attached.compile(backend=counter)
    for _ in range(2):
        assert torch.equal(attached(*inputs()), expected)
    assert counter.frame_count == 3
    torch._dynamo.reset()


@pytest.mark.compile
def test_export_is_refused_in_one_sentence():
    with pytest.raises(Exception, match="export the parts one by one"):
        torch.export.export(made(), inputs())


def train(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    attached = made().train()
    parallel = nn.parallel.DistributedDataParallel(attached, find_unused_parameters=True)
    a, v = inputs(8)
    (parallel(a[rank::2], v[rank::2]).square().mean() + attached.auxiliary_loss()).backward()
    torch.save({n: p.grad for n, p in attached.named_parameters()}, f"{folder}/{rank}.pt")
    whole, alone = made().train(), made().train()
    whole.model.scale, alone.model.scale = (nn.Parameter(torch.ones(1)) for _ in range(2))  # FSDP takes no scalars
    sharded = fully_shard(whole)
    (sharded(a[rank::2], v[rank::2]).square().mean() + sharded.auxiliary_loss()).backward()
    assert all(p.grad.full_tensor().isfinite().all() for p in sharded.parameters() if p.grad is not None)
    fully_shard(alone.model)
    with pytest.raises(ConcordantError, match="FSDP shards the model and not its calibrator"):
        alone(a, v)
    torch.distributed.destroy_process_group()


@pytest.mark.process
def test_two_processes_average_gradients_and_shard_weights(tmp_path):
    torch.multiprocessing.spawn(train, (str(tmp_path),), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one.keys() == two.keys()
    assert all(one[n] is two[n] if one[n] is None else torch.equal(one[n], two[n]) for n in one)
    assert one["model.a.fc.weight"].abs().sum() > 0
    assert one["calibrator.heads.a.gate.bias"].abs().sum() > 0
