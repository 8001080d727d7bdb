import pytest
import torch

from concordant import seeding
from concordant.rivals.gate import Squeeze
from concordant.rivals.self_gate import SelfGate

SIZES = {"text": 4, "audio": 3}


def shaken(module):
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=seeding.generator(0, name))
    return module.eval()


def test_other_modalities_do_not_matter():
    module = shaken(SelfGate(SIZES, seed=0))
    text = torch.randn(5, 4)
    one = module({"text": text, "audio": torch.randn(5, 3)})
    two = module({"text": text, "audio": torch.randn(5, 3)})
    assert torch.equal(one.reliability[:, 0], two.reliability[:, 0])
    assert torch.equal(one.gates["text"], two.gates["text"])
    assert (one.reliability[:, 1] != two.reliability[:, 1]).all()
    assert not one.support.any()
    assert not one.conflict.any()


@pytest.mark.parametrize("hidden", [1, 8])
def test_squeeze_is_the_identity_before_training(hidden):
    shift, gate = Squeeze(5, hidden, 3)(torch.randn(7, 5))
    assert torch.equal(shift, torch.zeros(7))
    assert torch.equal(gate, torch.ones(7, 3))


def test_squeeze_equals_its_formula():
    module = shaken(Squeeze(5, 8, 3).double())
    x = torch.randn(7, 5, dtype=torch.float64)
    hidden = torch.nn.functional.gelu(module.squeeze(x))
    shift, gate = module(x)
    torch.testing.assert_close(shift, module.reliability(hidden)[:, 0])
    torch.testing.assert_close(gate, 1 + torch.tanh(module.gate(hidden)) / 2)


def test_hidden_sets_the_width():
    assert SelfGate(SIZES, hidden=7).heads["text"].squeeze.out_features == 7
