import torch

from concordant import seeding
from concordant.calibration.perturbation import Perturbation, perturb
from concordant.rivals.none import NoCalibrator

SIZES = {"text": 4, "audio": 3}


def features(batch=20):
    draws = seeding.generator(0, "none")
    return {name: torch.randn(batch, size, generator=draws) for name, size in SIZES.items()}


def test_has_no_parameters_and_no_reliability():
    module = NoCalibrator(SIZES)
    assert list(module.parameters()) == []
    assert not module.has_reliability


def test_evaluation_is_the_identity():
    x = features()
    out = NoCalibrator(SIZES).eval()(x)
    assert all(torch.equal(out.features[name], x[name]) for name in SIZES)
    assert torch.equal(out.reliability, torch.ones(20, 2))
    assert not out.support.any()
    assert not out.conflict.any()


def test_training_perturbs_like_every_other_calibrator():
    x, settings = features(), Perturbation(probability=0.7)
    module = NoCalibrator(SIZES, perturbation=settings).train()
    out = module(x, generator=seeding.generator(1))
    expected = perturb(module.gather(x), settings, generator=seeding.generator(1))
    assert out.perturbed.any()
    assert torch.equal(out.perturbed, expected.perturbed)
    for name in SIZES:
        assert torch.equal(out.features[name], expected.batch.features[name])


def test_auxiliary_loss_moves_nothing():
    module = NoCalibrator(SIZES).train()
    out = module({name: x.requires_grad_() for name, x in features().items()})
    assert not out.auxiliary_loss.requires_grad
