import numpy as np
import torch

from concordant.rivals import GatedUnits

SIZES = {"text": 4, "audio": 3}


def test_gates_are_twice_the_sigmoid_of_a_layer_over_all_summaries():
    gate = GatedUnits(SIZES, layouts="bd").eval()
    for layer in gate.gates.values():
        torch.nn.init.normal_(layer.weight)
        torch.nn.init.normal_(layer.bias)
    features = {"text": torch.randn(5, 4), "audio": torch.randn(5, 3)}
    present = {"audio": torch.tensor([True, True, False, True, True])}
    out = gate(features, present=present)
    standardised = {name: gate.standardise[name](x).numpy() for name, x in features.items()}
    for row in range(5):
        if row == 2:  # one modality alone is never changed
            assert torch.equal(out.gates["text"][row], torch.ones(4))
            continue
        inputs = np.concatenate([standardised["audio"][row], standardised["text"][row]])
        for name in SIZES:
            layer = gate.gates[name]
            for d in range(SIZES[name]):
                z = 1 / (1 + np.exp(-(layer.weight[d].detach().numpy() @ inputs + float(layer.bias[d].detach()))))
                np.testing.assert_allclose(out.gates[name][row, d].item(), 2 * z, rtol=1e-5)
                np.testing.assert_allclose(
                    out.features[name][row, d].item(), 2 * z * features[name][row, d].item(), rtol=1e-5, atol=1e-7
                )


def test_it_has_no_reliability():
    assert not GatedUnits.has_reliability
    out = GatedUnits(SIZES)({name: torch.randn(2, size) for name, size in SIZES.items()})
    assert torch.equal(out.reliability, torch.ones(2, 2))
