import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.late import LateDense
from concordant.modalities import LAYOUTS


def test_logits_are_those_of_a_small_network_on_the_pooled_features():
    model = LateDense({"b": FeatureSpec(2, LAYOUTS["btd"]), "a": FeatureSpec(3, LAYOUTS["bd"])}, classes=4).eval()
    a, b = torch.randn(5, 3), torch.randn(5, 6, 2)
    joined = torch.cat([a, b.mean(1)], 1)
    first, head = model.hidden[0], model.head
    hidden = (joined @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(model({"a": a, "b": b}, {}, {}), hidden @ head.weight.T + head.bias)
