import pytest
import torch
from torch import nn

from concordant.errors import UsageError
from concordant.fusion import FUSIONS, FeatureSpec
from concordant.fusion.head import head_of, head_width, scaled_head
from concordant.modalities import LAYOUTS

VECTORS = {"a": FeatureSpec(6, LAYOUTS["bd"]), "b": FeatureSpec(4, LAYOUTS["btd"])}
MAPS = {"a": FeatureSpec(6, LAYOUTS["bchw"]), "b": FeatureSpec(4, LAYOUTS["bchw"])}
FEATURES = {"a": torch.randn(3, 6), "b": torch.randn(3, 5, 4)}
PLACES = {"a": torch.randn(3, 6, 4, 4), "b": torch.randn(3, 4, 4, 4)}


def built(name):
    entry = FUSIONS[name]
    maps = entry.setting == "convolutional"
    torch.manual_seed(0)
    return entry.build(MAPS if maps else VECTORS, classes=3, **entry.small).eval(), PLACES if maps else FEATURES


@pytest.mark.parametrize("name", [name for name in FUSIONS if FUSIONS[name].head])
def test_every_fusion_that_says_so_has_one_head_whose_input_can_be_scaled(name):
    model, features = built(name)
    plain = model(features, {}, {})
    width = head_width(model)
    with scaled_head(model, torch.ones(3, width)):
        assert torch.equal(model(features, {}, {}), plain)
    with scaled_head(model, torch.zeros(3, width)):
        nothing = model(features, {}, {})
    torch.testing.assert_close(nothing, nothing[:1].expand(3, -1))  # nothing is left to tell instances apart
    assert torch.equal(model(features, {}, {}), plain)  # and it is over


def test_the_scale_is_a_product_with_what_a_linear_head_sees():
    model, features = built("lf-dnn")
    scale = torch.rand(3, head_width(model))
    seen = []
    handle = model.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(features, {}, {})
    handle.remove()
    with scaled_head(model, scale):
        scaled = model(features, {}, {})
    with scaled_head(model, None):
        plain = model(features, {}, {})
    torch.testing.assert_close(scaled, model.head(seen[0] * scale))
    torch.testing.assert_close(plain, model.head(seen[0]))


@pytest.mark.parametrize("name", [name for name in FUSIONS if not FUSIONS[name].head])
def test_a_fusion_without_a_single_head_is_refused(name):
    model, _ = built(name)
    assert not isinstance(getattr(model, "head", None), nn.Module)
    with pytest.raises(UsageError, match=f"{type(model).__name__} has no single head for all modalities"):
        head_of(model)
