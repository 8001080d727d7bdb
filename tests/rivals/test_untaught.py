import pytest
import torch

from concordant.rivals import CALIBRATORS
from concordant.rivals.untaught import Untaught

UNTAUGHT = [name for name in CALIBRATORS if issubclass(CALIBRATORS[name].build, Untaught)]


def test_these_rivals_are_not_taught_what_was_perturbed():
    assert UNTAUGHT == ["gmu", "modality-dropout", "uncertainty", "evidential", "evidential-conflict", "aecf"]


@pytest.mark.parametrize("name", ["gmu", "modality-dropout", "uncertainty", "evidential"])
def test_without_labels_they_have_no_loss_though_they_see_perturbations(name):
    entry = CALIBRATORS[name]
    options = {"classes": 3} if entry.classes else {}
    module = entry.build({"text": 4, "audio": 3}, **options).train()
    out = module({"text": torch.randn(64, 4), "audio": torch.randn(64, 3)})
    assert out.perturbed.any()
    assert float(out.auxiliary_loss) == 0
