import math

import pytest
import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.transformer import TransformerFusion, sinusoids
from concordant.modalities import LAYOUTS


@pytest.mark.parametrize(("length", "width"), [(1, 2), (7, 8), (5, 5), (3, 1)])
def test_sinusoids_are_those_of_the_paper(length, width):
    found = sinusoids(torch.zeros(1, length, width))
    assert found.shape == (length, width)
    for place in range(length):
        for i in range(width):
            angle = place / 10_000 ** (2 * (i // 2) / width)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert found[place, i].item() == pytest.approx(expected, abs=1e-5)


def test_sinusoids_have_the_precision_of_the_tokens():
    assert sinusoids(torch.zeros(1, 4, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16


def model_of(names):
    torch.manual_seed(0)
    return TransformerFusion({name: FeatureSpec(3, LAYOUTS["btd"]) for name in names}, classes=4).eval()


def test_the_order_of_steps_matters():
    model = model_of("ab")
    features = {"a": torch.randn(2, 5, 3), "b": torch.randn(2, 4, 3)}
    turned = {**features, "a": features["a"].flip(1)}
    assert not torch.allclose(model(turned, {}, {}), model(features, {}, {}), atol=1e-4)


def test_whose_step_it_is_matters():
    model = model_of("ab")
    model.project["b"].load_state_dict(model.project["a"].state_dict())
    features = {"a": torch.randn(2, 5, 3), "b": torch.randn(2, 5, 3)}
    changed = {"a": features["b"], "b": features["a"]}
    found = model(features, {}, {})
    assert not torch.allclose(model(changed, {}, {}), found, rtol=0, atol=1e-5)
    with torch.no_grad():
        model.whose["b"].copy_(model.whose["a"])
    torch.testing.assert_close(model(changed, {}, {}), model(features, {}, {}), rtol=1e-4, atol=1e-5)


def test_padding_between_steps_keeps_their_places():
    model = model_of("ab")
    a, b = torch.randn(2, 5, 3), torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, True, False]] * 2)
    spoilt = torch.where(mask.unsqueeze(2), a, torch.nan)
    found = model({"a": spoilt, "b": b}, {"a": mask}, {})
    pulled = model({"a": a[:, [0, 1, 3]], "b": b}, {}, {})
    assert found.isfinite().all()
    assert not torch.allclose(found, pulled, rtol=0, atol=1e-5)


def test_gradients_stay_finite_where_nothing_but_one_modality_is_present():
    model = model_of("ab")
    features = {name: torch.randn(3, 4, 3, requires_grad=True) for name in "ab"}
    present = {"a": torch.zeros(3, dtype=torch.bool), "b": torch.ones(3, dtype=torch.bool)}
    model(features, {}, present).sum().backward()
    assert not features["a"].grad.any()
    assert features["b"].grad.any()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
