import pytest
import torch

from concordant.errors import UsageError
from concordant.rivals import ModalityAttention

SIZES = {"a": 6, "b": 4, "c": 5}


def moved(**options):
    module = ModalityAttention(SIZES, layouts="bd", seed=0, **options)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=draws)
    return module.eval()


def features():
    draws = torch.Generator().manual_seed(0)
    return {name: torch.randn(7, size, generator=draws) for name, size in SIZES.items()}


def test_weights_are_softmax_weights_relative_to_the_highest():
    out = moved()(features())
    assert torch.equal(out.reliability.amax(1), torch.ones(7))
    weights = out.reliability / out.reliability.sum(1, keepdim=True)
    scores = out.reliability.log()
    torch.testing.assert_close(weights, scores.softmax(1))
    assert all((gate == 1).all() for gate in out.gates.values())


def test_the_query_is_the_mean_of_the_present_modalities():
    module, given = moved(), features()
    here = {"c": torch.zeros(7, dtype=torch.bool)}
    other = {**given, "c": torch.full((7, 5), 9.0)}
    assert torch.equal(module(given, present=here).reliability, module(other, present=here).reliability)
    assert not torch.allclose(module(given).reliability, module(other).reliability)


def test_it_has_the_losses_of_the_contextual_calibrator():
    both = moved().train()
    torch.manual_seed(0)
    total = both(features(), labels=torch.arange(7) % 3).auxiliary_loss
    losses = []
    for options in ({"clean_weight": 0.0}, {"agreement_weight": 0.0}):
        torch.manual_seed(0)
        losses.append(moved(**options).train()(features(), labels=torch.arange(7) % 3).auxiliary_loss)
    assert all(loss > 0 for loss in losses)
    torch.testing.assert_close(total, losses[0] + losses[1])


def test_the_common_space_has_at_least_two_dimensions():
    with pytest.raises(UsageError, match="hidden must be 2 or more; found 1"):
        ModalityAttention(SIZES, hidden=1)
