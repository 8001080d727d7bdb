import pytest
import torch

from concordant import seeding
from concordant.errors import UsageError
from concordant.rivals import JointGate, SelfGate
from concordant.rivals.gates import Squeeze

SIZES = {"text": 4, "audio": 3}
THREE = {"text": 4, "audio": 3, "vision": 5}


def shaken(module):
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=seeding.generator(0, name))
    return module.eval()


def test_other_modalities_have_no_influence_on_the_self_gate():
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


def test_hidden_is_the_width():
    assert SelfGate(SIZES, hidden=7).heads["text"].squeeze.out_features == 7


@pytest.mark.parametrize("kind", [SelfGate, JointGate])
def test_a_gate_needs_a_hidden_layer(kind):
    with pytest.raises(UsageError, match="hidden must be 1 or more; found 0"):
        kind({"a": 3, "b": 2}, hidden=0)


# The joint gate


def test_every_modality_depends_on_every_other():
    module = shaken(JointGate(THREE, layouts="bd", seed=0))
    x = {name: torch.randn(5, size) for name, size in THREE.items()}
    one = module(x)
    two = module({**x, "audio": torch.randn(5, 3)})
    assert (one.reliability != two.reliability).all()
    assert not torch.equal(one.gates["text"], two.gates["text"])
    assert not one.support.any()
    assert not one.conflict.any()


def test_gates_come_from_all_summaries_in_the_order_of_names():
    module = shaken(JointGate(THREE, layouts="bd", seed=0))
    x = {name: torch.randn(5, size) for name, size in THREE.items()}
    out = module(x)
    inputs = []
    for name in ("audio", "text", "vision"):
        energy = 0.5 * (x[name].square().mean(1, keepdim=True) + 1e-12).log()
        inputs += [module.standardise[name](x[name]), module.standardise_energy[name](energy)]
    for index, name in enumerate(THREE):
        shift, gate = module.heads[name](torch.cat(inputs, 1))
        torch.testing.assert_close(out.logits[:, index], 3 + shift)
        torch.testing.assert_close(out.gates[name], gate)


def test_absent_modality_enters_as_zeros():
    module = shaken(JointGate(THREE, layouts="bd", seed=0))
    x = {name: torch.randn(5, size) for name, size in THREE.items()}
    away = {"audio": torch.zeros(5, dtype=torch.bool)}
    one, two = module(x, present=away), module({**x, "audio": torch.randn(5, 3)}, present=away)
    assert torch.equal(one.reliability, two.reliability)
    energy = {n: 0.5 * (x[n].square().mean(1, keepdim=True) + 1e-12).log() for n in ("text", "vision")}
    both = {n: torch.cat([module.standardise[n](x[n]), module.standardise_energy[n](energy[n])], 1) for n in energy}
    inputs = torch.cat([torch.zeros(5, 4), both["text"], both["vision"]], 1)
    torch.testing.assert_close(one.logits[:, 0], 3 + module.heads["text"](inputs)[0])
