"""What passes features on leaves them alone whatever it thinks of them."""

import torch

from concordant.calibration.result import Modulation, Summaries
from concordant.rivals.passing import Passing

SIZES = {"text": 3, "audio": 2}


class Doubting(Passing):
    """Takes every modality for broken, and opens every gate as far as it goes."""

    def modulate(self, summaries: Summaries) -> Modulation:
        assert (summaries.vectors, summaries.energies) == ({}, {})
        ones = summaries.present.new_ones(summaries.present.shape, dtype=torch.float32)
        return Modulation(-9 * ones, {name: 1.5 * ones[:, :1].expand(-1, size) for name, size in SIZES.items()})


def test_reliability_and_gates_scale_nothing():
    features = {"text": torch.randn(5, 3), "audio": torch.randn(5, 4, 2)}
    out = Doubting(SIZES).eval()(features)
    assert (out.reliability < 0.01).all()
    assert all(torch.equal(out.features[name], x) for name, x in features.items())


def test_nothing_is_learned_of_what_passes():
    module = Doubting(SIZES, perturbation=False).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    features = {"text": 7 + torch.randn(5, 3), "audio": torch.randn(5, 4, 2)}
    out = module(features)
    assert all(torch.equal(out.features[name], x) for name, x in features.items())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_only_what_does_not_count_and_is_no_number_becomes_zero():
    features = {"text": torch.randn(5, 3), "audio": torch.randn(5, 4, 2)}
    mask = torch.arange(4) < torch.tensor([4, 3, 2, 1, 1])[:, None]
    features["audio"][~mask] = torch.tensor([torch.nan, 5.0])
    out = Doubting(SIZES).eval()(features, masks={"audio": mask}).features["audio"]
    assert torch.equal(out[mask], features["audio"][mask])
    assert (out[~mask] == torch.tensor([0.0, 5.0])).all()
