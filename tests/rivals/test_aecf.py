import math

import pytest
import torch

from concordant.errors import UsageError
from concordant.rivals import EntropyGate
from concordant.rivals.aecf import relative_entropy, softmax_over

SIZES = {"text": 4, "audio": 3, "video": 2}


def shaken(**options):
    module = EntropyGate(SIZES, layouts="bd", dropout=0.0, perturbation=None, seed=0, **options)
    torch.manual_seed(0)
    for score in module.score.values():
        torch.nn.init.normal_(score.weight, std=2.0)
        torch.nn.init.normal_(score.bias, std=2.0)
    return module


def features(rows=6):
    return {name: torch.randn(rows, size) for name, size in SIZES.items()}


def scores_of(module, given):
    found = []
    for name, x in given.items():
        hidden = torch.nn.functional.gelu(module.squeeze[name](module.standardise[name](x)))
        found.append(module.score[name](hidden).squeeze(1))
    return torch.stack(found, 1).detach()


def test_features_are_scaled_by_softmax_weights_relative_to_the_largest():
    module, given = shaken().eval(), features()
    out = module(given)
    weights = scores_of(module, given).softmax(1)
    torch.testing.assert_close(out.reliability.detach(), weights / weights.amax(1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_entropy_is_a_share_of_the_largest_possible():
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    present = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    second = -(0.2 * math.log(0.2) + 0.3 * math.log(0.3) + 0.5 * math.log(0.5)) / math.log(3)
    torch.testing.assert_close(relative_entropy(weights, present), torch.tensor([1.0, second, 1.0]))


def test_weights_of_absent_modalities_are_zero():
    weights = softmax_over(torch.randn(2, 3), torch.tensor([[True, False, True], [False] * 3]))
    assert weights[0, 1] == 0
    assert float(weights[0].sum()) == pytest.approx(1)
    assert torch.equal(weights[1], torch.zeros(3))


def test_the_loss_holds_the_entropy_at_its_target():
    module, given = shaken(mask=0.0).train(), features()
    out = module(given)
    weights = scores_of(module, given).softmax(1)
    entropy = -(weights * weights.log()).sum(1) / math.log(3)
    torch.testing.assert_close(out.auxiliary_loss.detach(), 0.1 * (entropy - 0.7).square().mean(), rtol=1e-4, atol=1e-6)


def test_modalities_are_masked_more_often_at_low_entropy():
    torch.manual_seed(0)
    rates = []
    for spread in (0.0, 30.0):
        module = shaken(mask=0.5).train()
        for number, score in enumerate(module.score.values()):
            torch.nn.init.zeros_(score.weight)
            torch.nn.init.constant_(score.bias, spread * number)
        out = module(features(2000))
        assert out.present.any(1).all()
        rates.append(1 - float(out.present.float().mean()))
    assert rates[0] == 0.0  # the highest entropy there is
    assert rates[1] == pytest.approx(0.5 - 1 / 24, abs=0.03)  # one is saved where all would go


def test_nothing_is_masked_when_predicting():
    assert shaken(mask=1.0).eval()(features()).present.all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"hidden": 0}, "hidden must be 1 or more; found 0"),
        ({"mask": 1.5}, r"mask must lie in \[0, 1\]; found 1.5"),
        ({"target": -1, "entropy_weight": -1}, r"target must lie in \[0, 1\].*entropy_weight must not be negative"),
    ],
)
def test_wrong_arguments_are_refused(options, text):
    with pytest.raises(UsageError, match=text):
        EntropyGate(SIZES, **options)
