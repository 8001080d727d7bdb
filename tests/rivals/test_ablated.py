"""The contextual calibrator with parts switched off."""

import pytest
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.errors import UsageError
from concordant.rivals import CALIBRATORS, AblatedCalibrator, CalibratorEntry
from concordant.training.config import make_config
from concordant.training.train import train

SIZES = {"a": 6, "b": 4, "c": 5}


def features(seed=0):
    draws = torch.Generator().manual_seed(seed)
    return {name: torch.randn(12, size, generator=draws) for name, size in SIZES.items()}


def moved(cls, **options):
    """Return a calibrator whose weights are not those of the start, the same for every class."""
    module = cls(SIZES, layouts="bd", seed=0, **options)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, weight in sorted(module.named_parameters()):
            weight += 0.3 * torch.randn(weight.shape, generator=draws)
    return module


def step(module):
    torch.manual_seed(2)
    out = module.train()(features(), labels=torch.arange(12) % 3)
    (sum(x.square().mean() for x in out.features.values()) + out.auxiliary_loss).backward()
    return out, {name: weight.grad for name, weight in module.named_parameters()}


def test_with_nothing_switched_off_it_is_the_calibrator_bit_for_bit():
    ours, theirs = step(moved(AblatedCalibrator)), step(moved(ContextualCalibrator))
    for name in SIZES:
        assert torch.equal(ours[0].features[name], theirs[0].features[name])
    assert torch.equal(ours[0].auxiliary_loss, theirs[0].auxiliary_loss)
    assert all(torch.equal(ours[1][name], grad) for name, grad in theirs[1].items())


def test_switched_off_cosines_are_clamped():
    cosines = torch.tensor([-0.5, 0.0, 0.5])
    left = {
        (support, conflict): moved(AblatedCalibrator, support=support, conflict=conflict)
        .shown_cues("agreement", cosines)
        .tolist()
        for support in (True, False)
        for conflict in (True, False)
    }
    assert left == {
        (True, True): [-0.5, 0.0, 0.5],
        (False, True): [-0.5, 0.0, 0.0],
        (True, False): [0.0, 0.0, 0.5],
        (False, False): [0.0, 0.0, 0.0],
    }


def test_without_cues_other_modalities_have_no_influence():
    blind = moved(AblatedCalibrator, support=False, conflict=False).eval()
    told = moved(AblatedCalibrator).eval()
    given = features()
    turned = {**given, "b": -given["b"]}  # the same energy, another opinion
    column = 0  # of "a", which stays what it is
    assert torch.allclose(blind(given).reliability[:, column], blind(turned).reliability[:, column])
    assert not torch.allclose(told(given).reliability[:, column], told(turned).reliability[:, column])


def test_one_of_the_two_modulations_alone():
    given = features()
    whole = moved(ContextualCalibrator).eval()(given)
    instance = moved(AblatedCalibrator, gates=False).eval()(given)
    dimension = moved(AblatedCalibrator, reliability=False).eval()(given)
    for index, (name, x) in enumerate(given.items()):
        torch.testing.assert_close(instance.features[name], x * whole.reliability[:, index, None])
        torch.testing.assert_close(dimension.features[name], x * whole.gates[name])
    assert not moved(AblatedCalibrator, reliability=False).has_reliability
    assert (dimension.reliability == 1).all()


def test_losses_alone_leave_features_as_they_are():
    ours, theirs = step(moved(AblatedCalibrator, scaling=False)), step(moved(ContextualCalibrator))
    assert torch.equal(ours[0].auxiliary_loss, theirs[0].auxiliary_loss)
    assert torch.equal(ours[0].reliability, theirs[0].reliability)
    given = features()
    out = moved(AblatedCalibrator, scaling=False).eval()(given)
    assert all(torch.equal(out.features[name], x) for name, x in given.items())


def test_both_modulations_cannot_be_switched_off():
    with pytest.raises(UsageError, match="reliability and gates cannot both be switched off"):
        AblatedCalibrator(SIZES, reliability=False, gates=False)


def test_with_nothing_switched_off_a_trained_model_is_that_of_the_calibrator_bit_for_bit():
    CALIBRATORS.add(
        "context-whole", CalibratorEntry(AblatedCalibrator, "whole", stream="context", unimodal=True), listed=False
    )
    try:
        config = make_config("digits", calibrators=("context", "context-whole"), recipe={"steps": 6, "width": 8})
        task = prepare("digits", seed=0)
        ours, theirs = (train(task, config, variant, 0) for variant in config.variants)
    finally:
        del CALIBRATORS._entries["context-whole"]
    assert ours.history == theirs.history
    weights = theirs.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in ours.model.state_dict().items())


def test_unimodal_predictions_that_are_no_cues_are_still_trained():
    given = features()
    heard, unheard = (moved(AblatedCalibrator, classes=3, unimodal_cues=heard).eval() for heard in (True, False))
    before = unheard(given).reliability
    assert not torch.allclose(before, heard(given).reliability)
    with torch.no_grad():
        for head in unheard.unimodal.values():
            head.weight.mul_(-1)
    torch.testing.assert_close(unheard(given).reliability, before)
    loss = unheard.train()(given, labels=torch.zeros(len(before), dtype=torch.long)).auxiliary_loss
    loss.backward()
    assert all(head.weight.grad.abs().sum() > 0 for head in unheard.unimodal.values())
