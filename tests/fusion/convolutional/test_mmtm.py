import numpy as np
import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.convolutional.mmtm import TransferFusion, TransferModule
from concordant.modalities import LAYOUTS

SPECS = {"a": FeatureSpec(4, LAYOUTS["bchw"]), "b": FeatureSpec(6, LAYOUTS["bcthw"])}


def features():
    return {"a": torch.randn(3, 4, 5, 2), "b": torch.randn(3, 6, 2, 3, 3)}


def test_gates_are_those_of_the_formula():
    module = TransferModule({"a": 4, "b": 8})
    squeezed = {"a": torch.randn(3, 4), "b": torch.randn(3, 8)}
    gates = module(squeezed)
    weight, bias = module.squeeze.weight.detach().numpy(), module.squeeze.bias.detach().numpy()
    assert weight.shape == (3, 12)  # a quarter of all channels
    for row in range(3):
        joint = np.concatenate([squeezed["a"][row], squeezed["b"][row]])
        z = np.maximum(weight @ joint + bias, 0)
        for name, layer in module.excite.items():
            e = layer.weight.detach().numpy() @ z + layer.bias.detach().numpy()
            np.testing.assert_allclose(gates[name][row].detach().numpy(), 2 / (1 + np.exp(-e)), rtol=1e-5)


def test_streams_gate_each_other_and_are_classified_apart():
    torch.manual_seed(0)
    model = TransferFusion(SPECS, classes=5, widths=(8,), blocks="small").eval()
    given = features()
    means = {"a": given["a"].mean((2, 3)), "b": given["b"].mean((2, 3, 4))}
    gates = model.transfers[0](means)
    a, _ = model.stages[0]["a"](given["a"] * gates["a"][:, :, None, None], None)
    b, _ = model.stages[0]["b"](given["b"] * gates["b"][:, :, None, None, None], None)
    logits = [model.heads["a"](a.mean((2, 3))), model.heads["b"](b.mean((2, 3, 4)))]
    torch.testing.assert_close(model(given, {}, {}), (logits[0] + logits[1]) / 2)


def test_an_absent_stream_is_squeezed_to_zeros_and_has_no_say():
    torch.manual_seed(0)
    model = TransferFusion(SPECS, classes=5, widths=(8,), blocks="small").eval()
    given = features()
    gates = model.transfers[0]({"a": given["a"].mean((2, 3)), "b": torch.zeros(3, 6)})
    a, _ = model.stages[0]["a"](given["a"] * gates["a"][:, :, None, None], None)
    found = model(given, {}, {"b": torch.zeros(3, dtype=torch.bool)})
    torch.testing.assert_close(found, model.heads["a"](a.mean((2, 3))))


def test_the_published_blocks_are_resnet_stages():
    model = TransferFusion(SPECS, classes=5).eval()
    assert [stage["a"].spec.size for stage in model.stages] == [12, 24]
    assert model(features(), {}, {}).isfinite().all()
