import numpy as np
import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.tensor import TensorFusion, outer_product, widest
from concordant.modalities import LAYOUTS


def specs(count, size=3):
    return {f"m{i}": FeatureSpec(size, LAYOUTS["bd"]) for i in range(count)}


def test_the_product_is_the_loop_over_all_entries():
    vectors = [torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 2)]
    found = outer_product(vectors).numpy().reshape(2, 3, 4, 2)
    for row in range(2):
        for i in range(3):
            for j in range(4):
                for k in range(2):
                    expected = vectors[0][row, i] * vectors[1][row, j] * vectors[2][row, k]
                    assert found[row, i, j, k] == pytest.approx(float(expected), rel=1e-5)


def test_all_orders_of_interaction_are_there():
    vectors = [torch.cat([torch.ones(1, 1), torch.randn(1, 2)], 1) for _ in range(3)]
    cube = outer_product(vectors).view(3, 3, 3)
    assert cube[0, 0, 0] == 1
    torch.testing.assert_close(cube[1:, 0, 0], vectors[0][0, 1:])  # one alone
    torch.testing.assert_close(cube[0, 1:, 1:], torch.outer(vectors[1][0, 1:], vectors[2][0, 1:]))  # two


def test_logits_are_those_of_the_pooled_product():
    model = TensorFusion(specs(2), classes=4, size=5, hidden=6).eval()
    features = {name: torch.randn(3, 3) for name in ("m0", "m1")}
    here = torch.tensor([True, False, True])
    z = []
    for name, x in features.items():
        vector = model.subnetworks.networks[name](x)
        if name == "m1":
            vector = torch.where(here[:, None], vector, 0)
        z.append(np.concatenate([np.ones((3, 1)), vector.detach().numpy()], 1))
    product = np.einsum("bi,bj->bij", *z).reshape(3, -1).astype(np.float32)
    expected = model.head(model.hidden(torch.from_numpy(product)))
    torch.testing.assert_close(model(features, {}, {"m1": here}), expected)


def test_sizes_shrink_with_the_number_of_modalities():
    assert [widest(count, 200_000) for count in (1, 2, 3, 4, 5)] == [32, 32, 32, 20, 10]
    for count in (2, 5):
        model = TensorFusion(specs(count), classes=2, largest=5_000)
        assert model.hidden[0].in_features <= 5_000


@pytest.mark.parametrize(
    ("count", "options", "text"),
    [
        (20, {}, "the outer product of 20 modalities would have at least 1048576 entries, more than 200000"),
        (3, {"size": 99}, "the outer product of 3 modalities would have 1000000 entries, more than 200000"),
    ],
)
def test_products_that_are_too_long_are_refused(count, options, text):
    with pytest.raises(UsageError, match=text):
        TensorFusion(specs(count), classes=2, **options)
