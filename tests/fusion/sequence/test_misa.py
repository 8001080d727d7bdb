import numpy as np
import pytest
import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.misa import MisaFusion, masked_error, moment_discrepancy, orthogonality
from concordant.modalities import LAYOUTS

SPECS = {name: FeatureSpec(3, LAYOUTS["bd"]) for name in "abc"}


def test_moment_discrepancy_is_the_formula():
    one, other = torch.rand(6, 4), torch.rand(6, 4)
    first, second = torch.tensor([1, 1, 0, 1, 1, 1]).bool(), torch.tensor([1, 0, 1, 1, 0, 1]).bool()
    x, y = one[first].numpy(), other[second].numpy()
    expected = np.linalg.norm(x.mean(0) - y.mean(0))
    for k in range(2, 6):
        moments = [((z - z.mean(0)) ** k).mean(0) for z in (x, y)]
        expected += np.linalg.norm(moments[0] - moments[1])
    assert float(moment_discrepancy(one, other, first, second)) == pytest.approx(expected, rel=1e-4)
    assert float(moment_discrepancy(one, one, first, first)) == pytest.approx(0, abs=1e-4)
    assert float(moment_discrepancy(one, other, first, torch.zeros(6).bool())) == 0


def test_orthogonality_is_the_formula():
    one, other = torch.rand(6, 4), torch.rand(6, 4)
    here = torch.tensor([1, 1, 0, 1, 1, 1]).bool()
    x, y = (z[here].numpy() - z[here].numpy().mean(0) for z in (one, other))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    total = np.mean([(x[:, i] @ y[:, j]) ** 2 for i in range(4) for j in range(4)])
    assert float(orthogonality(one, other, here)) == pytest.approx(total, rel=1e-4)


def test_the_error_is_over_the_rows_that_are_there():
    one, other = torch.rand(3, 2), torch.rand(3, 2)
    here = torch.tensor([True, False, True])
    expected = ((one - other)[here] ** 2).mean()
    torch.testing.assert_close(masked_error(one, other, here), expected)


def test_losses_are_added_with_the_released_weights_in_training_alone():
    torch.manual_seed(0)
    model = MisaFusion(SPECS, classes=2, width=8).train()
    features = {name: torch.randn(6, 3) for name in SPECS}
    model(features, {}, {})
    projected = {name: model.project[name](x) for name, x in features.items()}
    private = {name: model.private[name](x) for name, x in projected.items()}
    shared = {name: model.shared(x) for name, x in projected.items()}
    here = torch.ones(6, dtype=torch.bool)
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    apart = sum(orthogonality(private[n], shared[n], here) for n in "abc")
    apart = apart + sum(orthogonality(private[x], private[y], here) for x, y in pairs)
    together = sum(moment_discrepancy(shared[x], shared[y], here, here) for x, y in pairs) / 3
    kept = sum(masked_error(model.restore[n](private[n] + shared[n]), projected[n], here) for n in "abc") / 3
    torch.testing.assert_close(model.auxiliary_loss(), 0.3 * apart + together + kept)
    assert float(model.eval().auxiliary_loss()) == 0


def test_losses_are_finite_where_modalities_are_absent_or_alone():
    for names in ("a", "abc"):
        model = MisaFusion({name: SPECS[name] for name in names}, classes=2, width=8).train()
        features = {name: torch.full((4, 3), torch.nan) for name in names}
        features["a"] = torch.randn(4, 3)
        present = {name: torch.zeros(4, dtype=torch.bool) for name in names if name != "a"}
        loss = model(features, {}, present).square().sum() + model.auxiliary_loss()
        loss.backward()
        assert loss.isfinite()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())
