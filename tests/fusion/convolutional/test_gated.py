import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FeatureSpec
from concordant.fusion.convolutional.gated import GatedStreams
from concordant.modalities import LAYOUTS

SPECS = {"audio": FeatureSpec(3, LAYOUTS["bchw"]), "image": FeatureSpec(2, LAYOUTS["bchw"])}


def test_one_stream_gates_the_other():
    model = GatedStreams(SPECS, classes=4, width=6).eval()
    assert model.gating == "audio"
    maps = {"audio": torch.randn(5, 3, 4, 4), "image": torch.randn(5, 2, 4, 4)}
    own = {n: maps[n].mean((2, 3)) @ model.layers[n].weight.T + model.layers[n].bias for n in maps}
    expected = (own["image"] / (1 + torch.exp(-own["audio"]))) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(maps, {}, {}), expected)
    # Without the gating stream the gate is that of its layer's bias.
    gate = torch.sigmoid(model.layers["audio"].bias)
    expected = (own["image"] * gate) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(maps, {}, {"audio": torch.zeros(5, dtype=torch.bool)}), expected)


def test_the_stream_with_fewest_axes_gates():
    specs = {"a": FeatureSpec(3, LAYOUTS["bcthw"]), "b": FeatureSpec(2, LAYOUTS["bd"]), **SPECS}
    assert GatedStreams(specs, classes=2).gating == "b"
    assert GatedStreams(specs, classes=2, gating="image").gating == "image"


def test_a_stream_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="gating must name one of audio, image; found 'nose'"):
        GatedStreams(SPECS, classes=2, gating="nose")
