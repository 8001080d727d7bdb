import pytest
import torch

from concordant.errors import UsageError
from concordant.rivals import ModalityDropout

SIZES = {"text": 4, "audio": 3, "video": 2}


def features(rows):
    return {name: torch.randn(rows, size) for name, size in SIZES.items()}


def test_modalities_are_removed_in_training_with_the_given_probability_and_never_all():
    torch.manual_seed(0)
    out = ModalityDropout(SIZES, probability=0.5, perturbation=None).train()(features(4000))
    assert out.present.any(1).all()
    assert not out.all_present
    # One of the three is saved in the eighth of the rows that would lose all.
    assert out.present.float().mean() == pytest.approx(0.5 + 1 / 24, abs=0.02)
    assert torch.equal(out.reliability, out.present.float())


def test_nothing_is_removed_when_predicting():
    given = features(50)
    out = ModalityDropout(SIZES, probability=0.9).eval()(given)
    assert out.present.all()
    assert out.all_present
    assert all(torch.equal(out.features[name], x) for name, x in given.items())


def test_absent_modalities_stay_absent():
    present = {"text": torch.zeros(200, dtype=torch.bool)}
    out = ModalityDropout(SIZES, probability=0.5, perturbation=None).train()(features(200), present=present)
    assert not out.present[:, 0].any()
    assert out.present.any(1).all()


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_probabilities_out_of_range_are_refused(probability):
    with pytest.raises(UsageError, match=r"probability must lie in \[0, 1\); found"):
        ModalityDropout(SIZES, probability=probability)
