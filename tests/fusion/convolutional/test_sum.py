import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.convolutional.sum import SumLogits
from concordant.modalities import LAYOUTS


def test_logits_add_up_and_an_absent_stream_adds_nothing():
    model = SumLogits({name: FeatureSpec(3, LAYOUTS["bchw"]) for name in "ab"}, classes=4).eval()
    maps = {name: torch.randn(5, 3, 2, 6) for name in "ab"}
    own = {n: maps[n].mean((2, 3)) @ model.heads[n].weight.T + model.heads[n].bias for n in "ab"}
    torch.testing.assert_close(model(maps, {}, {}), own["a"] + own["b"])
    here = torch.arange(5) % 2 == 0
    torch.testing.assert_close(model(maps, {}, {"b": here}), own["a"] + here[:, None] * own["b"])
    nothing = {"b": torch.zeros(5, 12, dtype=torch.bool)}
    torch.testing.assert_close(model(maps, nothing, {}), own["a"])
