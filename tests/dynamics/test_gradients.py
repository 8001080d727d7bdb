"""Gradient cosines in closed form, and each modality's loss over all fusions."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

from concordant.calibration import Calibration
from concordant.dynamics.gradients import cosine_table, gradient_cosines, modality_losses
from concordant.errors import UsageError
from concordant.fusion import FUSIONS, FeatureSpec
from concordant.modalities import LAYOUTS
from concordant.robustness.predict import evaluation_mode
from concordant.training.model import Output

B, C = 6, 3
SHAPES = {"a": ("btd", (2 * B, 5, 4)), "b": ("bd", (2 * B, 4)), "c": ("bchw", (2 * B, 4, 3, 2))}


def test_two_opposed_losses_give_minus_one():
    weight = torch.randn(500, requires_grad=True)
    loss = (weight**3).sum()
    found = gradient_cosines({"a": loss, "b": -2 * loss}, [weight])
    assert found == {("a", "b"): pytest.approx(-1, abs=1e-6)}


def test_cosines_are_those_of_the_gradients_over_all_parameters():
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 3)
    x = torch.randn(5, 4)
    losses = {name: layer(x)[:, i].square().sum() + layer.bias.sum() for i, name in enumerate("pqr")}
    flat = {
        name: torch.cat([g.flatten() for g in torch.autograd.grad(loss, layer.parameters(), retain_graph=True)])
        for name, loss in losses.items()
    }
    found = gradient_cosines(losses, list(layer.parameters()))
    assert list(found) == list(combinations("pqr", 2))
    for (one, other), value in found.items():
        assert value == pytest.approx(float(F.cosine_similarity(flat[one], flat[other], 0)), abs=1e-6)


def test_a_zero_gradient_has_no_cosine():
    weight, other = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    losses = {"a": weight.sum(), "still": 0 * weight.sum(), "elsewhere": other.sum(), "constant": torch.tensor(2.0)}
    found = gradient_cosines(losses, [weight])
    assert set(found.values()) == {None}
    assert len(found) == 6


def test_a_gradient_that_is_not_finite_has_no_cosine():
    weight = torch.zeros(2, requires_grad=True)
    found = gradient_cosines({"a": weight.sqrt().sum(), "b": weight.sum()}, [weight])
    assert found == {("a", "b"): None}


def test_frozen_parameters_and_nothing_at_all_are_allowed():
    weight, frozen = torch.ones(2, requires_grad=True), torch.ones(3)
    losses = {"a": weight.sum() + frozen.sum(), "b": weight.sum()}
    assert gradient_cosines(losses, [weight, frozen]) == {("a", "b"): pytest.approx(1)}
    assert gradient_cosines(losses, []) == {("a", "b"): None}
    assert gradient_cosines({}, [weight]) == {}


def test_nothing_is_left_in_grad():
    weight = torch.ones(2, requires_grad=True)
    gradient_cosines({"a": weight.sum(), "b": weight.prod()}, [weight])
    assert weight.grad is None


def test_losses_must_be_scalars():
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(UsageError, match=r"losses\['a'\] must be a scalar; found the shape \(2,\)"):
        cosine_table({"a": weight * 2}, [weight])


class Model(torch.nn.Module):
    def __init__(self, fusion):
        super().__init__()
        self.fusion = fusion


def world(fusion, *, present=None, decision=None, dtype=torch.float32):
    """Return a model with a fusion of three layouts, what it gave of 2B rows, and the labels of the first B."""
    torch.manual_seed(0)
    entry = FUSIONS[fusion]
    specs = {name: FeatureSpec(4, LAYOUTS[layout]) for name, (layout, _) in SHAPES.items()}
    built = entry.build(specs, classes=C, dropout=0.5, **entry.small).train()
    here = torch.ones(2 * B, 3, dtype=torch.bool) if present is None else present
    given = {} if present is None else {name: here[:, index] for index, name in enumerate(SHAPES)}
    features = {name: torch.randn(shape, requires_grad=True) for name, (_, shape) in SHAPES.items()}
    met, _ = built.encode(features, {}, given)
    calibration = Calibration(
        features={name: x.to(dtype) for name, x in met.items()},
        names=tuple(SHAPES),
        reliability=here.float(),
        gates={},
        support=torch.zeros(2 * B, 3, 3),
        conflict=torch.zeros(2 * B, 3, 3),
        present=here,
        logits=torch.zeros(2 * B, 3),
        perturbed=None,
        auxiliary_loss=torch.zeros(()),
        all_present=present is None,
        decision=decision,
    )
    return Model(built), Output(torch.zeros(2 * B, C), calibration, {}, {}), torch.arange(B) % C


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_has_a_loss_of_each_modality_and_a_cosine_of_each_pair(fusion):
    model, out, labels = world(fusion)
    states = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    stream = torch.random.get_rng_state()
    losses = modality_losses(model, out, labels, F.cross_entropy)
    assert list(losses) == list(SHAPES)
    cosines = gradient_cosines(losses, list(model.fusion.parameters()))
    assert all(value is not None and -1 <= value <= 1 for value in cosines.values())
    assert torch.equal(torch.random.get_rng_state(), stream)
    assert modes == [part.training for part in model.modules()]
    assert all(torch.equal(states[name], value) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("fusion", ["concat", "transformer", "tfn"])
def test_the_loss_is_the_fusion_s_with_that_modality_alone_on_the_untouched_half(fusion):
    here = torch.rand(2 * B, 3, generator=torch.Generator().manual_seed(1)) < 0.6
    here[0] = True
    model, out, labels = world(fusion, present=here)
    losses = modality_losses(model, out, labels, F.cross_entropy)
    model.eval()
    for index, name in enumerate(SHAPES):
        rows = here[:B, index]
        features = {key: x[:B][rows].detach() for key, x in out.calibration.features.items()}
        alone = {key: torch.full((int(rows.sum()),), key == name) for key in SHAPES}
        expected = F.cross_entropy(model.fusion.join(features, {}, alone), labels[rows])
        assert losses[name].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_modality_that_no_instance_has_gives_no_loss():
    here = torch.ones(2 * B, 3, dtype=torch.bool)
    here[:B, 1] = False
    model, out, labels = world("concat", present=here)
    assert list(modality_losses(model, out, labels, F.cross_entropy)) == ["a", "c"]


def test_where_the_calibrator_decides_there_is_nothing():
    model, out, labels = world("concat", decision=torch.zeros(2 * B, C))
    assert modality_losses(model, out, labels, F.cross_entropy) == {}


def test_features_of_another_precision_are_brought_to_the_fusion_s():
    model, out, labels = world("transformer", dtype=torch.bfloat16)
    assert all(loss.isfinite() for loss in modality_losses(model, out, labels, F.cross_entropy).values())


class Normalised(torch.nn.Module):
    """A fusion with running statistics."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, C))
        self.meeting = {name: FeatureSpec(4, LAYOUTS[layout]) for name, (layout, _) in SHAPES.items()}

    def join(self, features, masks, present):
        return self.head(features["b"])


def test_running_statistics_stand_still():
    _, out, labels = world("concat")
    model = Model(Normalised()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert len(modality_losses(model, out, labels, F.cross_entropy)) == 3
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Needy(torch.nn.Module):
    """Fails, or gives nothing finite, unless all modalities are there."""

    def __init__(self, fail):
        super().__init__()
        self.head = torch.nn.Linear(4, C)
        self.fail = fail
        self.meeting = {name: FeatureSpec(4, LAYOUTS[layout]) for name, (layout, _) in SHAPES.items()}

    def join(self, features, masks, present):
        if not present["b"].all() and self.fail:
            raise ValueError("b is needed")
        return self.head(features["b"]) / present["b"].float()[:, None].sqrt()


@pytest.mark.parametrize("fail", [True, False])
def test_a_fusion_that_needs_the_others_has_no_loss_without_them(fail):
    _, out, labels = world("concat")
    losses = modality_losses(Model(Needy(fail)), out, labels, F.cross_entropy)
    assert list(losses) == ["b"]


def test_running_out_of_memory_is_not_taken_for_a_fusion_s_failure(monkeypatch):
    model, out, labels = world("concat")

    def fail(*given):
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr(model.fusion, "join", fail)
    with pytest.raises(torch.OutOfMemoryError):
        modality_losses(model, out, labels, F.cross_entropy)


def test_each_part_gets_its_own_mode_back():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(2)).train()
    module[1].eval()
    with evaluation_mode(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False]


def test_modes_come_back_after_a_failure_too():
    module = torch.nn.Dropout().train()
    with pytest.raises(KeyError), evaluation_mode(module):
        raise KeyError
    assert module.training
