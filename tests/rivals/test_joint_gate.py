import torch

from concordant import seeding
from concordant.rivals.joint_gate import JointGate

SIZES = {"text": 4, "audio": 3, "vision": 5}


def shaken():
    module = JointGate(SIZES, layouts="bd", seed=0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=seeding.generator(0, name))
    return module.eval()


def test_every_modality_sees_every_other():
    module = shaken()
    x = {name: torch.randn(5, size) for name, size in SIZES.items()}
    one = module(x)
    two = module({**x, "audio": torch.randn(5, 3)})
    assert (one.reliability != two.reliability).all()
    assert not torch.equal(one.gates["text"], two.gates["text"])
    assert not one.support.any()
    assert not one.conflict.any()


def test_gates_come_from_all_summaries_in_the_order_of_names():
    module = shaken()
    x = {name: torch.randn(5, size) for name, size in SIZES.items()}
    out = module(x)
    seen = []
    for name in ("audio", "text", "vision"):
        energy = 0.5 * (x[name].square().mean(1, keepdim=True) + 1e-4).log()
        seen += [module.standardise[name](x[name]), module.standardise_energy[name](energy)]
    for index, name in enumerate(SIZES):
        shift, gate = module.heads[name](torch.cat(seen, 1))
        torch.testing.assert_close(out.logits[:, index], 3 + shift)
        torch.testing.assert_close(out.gates[name], gate)


def test_absent_modality_enters_as_zeros():
    module = shaken()
    x = {name: torch.randn(5, size) for name, size in SIZES.items()}
    away = {"audio": torch.zeros(5, dtype=torch.bool)}
    one, two = module(x, present=away), module({**x, "audio": torch.randn(5, 3)}, present=away)
    assert torch.equal(one.reliability, two.reliability)
    energy = {n: 0.5 * (x[n].square().mean(1, keepdim=True) + 1e-4).log() for n in ("text", "vision")}
    parts = {n: torch.cat([module.standardise[n](x[n]), module.standardise_energy[n](energy[n])], 1) for n in energy}
    seen = torch.cat([torch.zeros(5, 4), parts["text"], parts["vision"]], 1)
    torch.testing.assert_close(one.logits[:, 0], 3 + module.heads["text"](seen)[0])
