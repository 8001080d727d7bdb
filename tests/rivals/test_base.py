"""What rivals share: classes that do not scale features, and training without the loss on what was perturbed."""

import pytest
import torch

from concordant.calibration.result import Modulation, Summaries
from concordant.rivals import CALIBRATORS, NoCalibrator
from concordant.rivals.base import Rival, keep_one

SIZES = {"text": 3, "audio": 2}
OWN_LOSS = [name for name in CALIBRATORS if issubclass(CALIBRATORS[name].build, Rival)]


def test_these_rivals_have_losses_of_their_own():
    assert OWN_LOSS == ["gmu", "modality-dropout", "uncertainty", "evidential", "evidential-conflict", "aecf"]


@pytest.mark.parametrize("name", ["gmu", "modality-dropout", "uncertainty", "evidential"])
def test_without_labels_they_have_no_loss_although_features_are_perturbed(name):
    entry = CALIBRATORS[name]
    options = {"classes": 3} if entry.classes else {}
    module = entry.build({"text": 4, "audio": 3}, **options).train()
    out = module({"text": torch.randn(64, 4), "audio": torch.randn(64, 3)})
    assert out.perturbed.any()
    assert float(out.auxiliary_loss) == 0


def test_the_kept_modality_is_present_and_preferred():
    kept = torch.tensor([[False, False, True], [False, False, False], [False, True, False]])
    present = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
    preference = torch.tensor([[0.1, 0.2, 0.9], [0.3, 0.1, 0.2], [0.9, 0.1, 0.2]])
    expected = torch.tensor([[False, True, True], [True, False, False], [False, True, False]])
    assert torch.equal(keep_one(kept, present, preference), expected)


class Doubting(NoCalibrator):
    """A reliability near 0 and gates of 1.5, which must not scale anything."""

    def modulate(self, summaries: Summaries) -> Modulation:
        assert (summaries.vectors, summaries.energies) == ({}, {})
        ones = summaries.present.new_ones(summaries.present.shape, dtype=torch.float32)
        return Modulation(-9 * ones, {name: 1.5 * ones[:, :1].expand(-1, size) for name, size in SIZES.items()})


def test_reliability_and_gates_scale_nothing():
    features = {"text": torch.randn(5, 3), "audio": torch.randn(5, 4, 2)}
    out = Doubting(SIZES).eval()(features)
    assert (out.reliability < 0.01).all()
    assert all(torch.equal(out.features[name], x) for name, x in features.items())


def test_no_statistics_are_learned():
    module = Doubting(SIZES, perturbation=False).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    features = {"text": 7 + torch.randn(5, 3), "audio": torch.randn(5, 4, 2)}
    out = module(features)
    assert all(torch.equal(out.features[name], x) for name, x in features.items())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_only_nan_at_invalid_steps_becomes_zero():
    features = {"text": torch.randn(5, 3), "audio": torch.randn(5, 4, 2)}
    mask = torch.arange(4) < torch.tensor([4, 3, 2, 1, 1])[:, None]
    features["audio"][~mask] = torch.tensor([torch.nan, 5.0])
    out = Doubting(SIZES).eval()(features, masks={"audio": mask}).features["audio"]
    assert torch.equal(out[mask], features["audio"][mask])
    assert (out[~mask] == torch.tensor([0.0, 5.0])).all()
