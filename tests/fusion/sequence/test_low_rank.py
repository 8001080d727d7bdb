import numpy as np
import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.low_rank import LowRankFusion
from concordant.fusion.sequence.tensor import outer_product
from concordant.modalities import LAYOUTS

SPECS = {name: FeatureSpec(3, LAYOUTS["bd"]) for name in "abc"}


def test_it_contracts_the_outer_product_with_the_tensor_that_its_factors_make():
    torch.manual_seed(0)
    model = LowRankFusion(SPECS, classes=4, size=2, rank=3).eval()
    torch.nn.init.normal_(model.bias)
    vectors = [torch.randn(5, 3) for _ in SPECS]
    full = np.zeros((3, 3, 3, 4))
    factors = {name: factor.detach().numpy() for name, factor in model.factors.items()}
    for r in range(3):
        for i in range(3):
            for j in range(3):
                for k in range(3):
                    product = factors["a"][r, i] * factors["b"][r, j] * factors["c"][r, k]  # (C,)
                    full[i, j, k] += model.weights[r].item() * product
    expected = outer_product(vectors).numpy() @ full.reshape(27, 4) + model.bias.detach().numpy()
    np.testing.assert_allclose(model.contract(vectors).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_an_absent_modality_counts_by_its_constant_alone():
    model = LowRankFusion(SPECS, classes=4, size=2).eval()
    features = {name: torch.randn(5, 3) for name in SPECS}
    nowhere = torch.zeros(5, dtype=torch.bool)
    z = model.subnetworks({name: x.unsqueeze(1) for name, x in features.items()}, {}, {"b": nowhere})
    assert torch.equal(z["b"], torch.tensor([1.0, 0.0, 0.0]).expand(5, -1))
    expected = model.contract([z[name] for name in "abc"])
    torch.testing.assert_close(model(features, {}, {"b": nowhere}), expected)


@pytest.mark.parametrize("name", ["size", "rank"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(UsageError, match=f"{name} must be 1 or more; found 0"):
        LowRankFusion(SPECS, classes=2, **{name: 0})
