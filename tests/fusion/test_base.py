import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from concordant.errors import UsageError
from concordant.fusion import FUSIONS
from concordant.fusion.base import FeatureSpec, Fusion, head_of, head_width, masked_mean, mean_of, scaled_head
from concordant.modalities import LAYOUTS


def mean_by_hand(x, mask, here):
    rows = []
    for row, one in enumerate(x.double().numpy()):
        steps = [one[t] for t in range(len(one)) if mask is None or mask[row, t]]
        counts = steps and (here is None or here[row])
        rows.append(np.mean(steps, 0) if counts else np.zeros(x.shape[2]))
    return np.stack(rows)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 99))
def test_masked_mean_equals_numpy_whatever_else_the_tensor_holds(batch, length, width, masked, absent, seed):
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, width, generator=draws)
    mask = torch.rand(batch, length, generator=draws) < 0.6 if masked else None
    here = torch.rand(batch, generator=draws) < 0.6 if absent else None
    expected = mean_by_hand(x, mask, here)
    if mask is not None:
        x = torch.where(mask.unsqueeze(2), x, torch.nan)
    if here is not None:
        x = torch.where(here.view(-1, 1, 1), x, torch.nan)
    np.testing.assert_allclose(masked_mean(x, mask, here), expected, atol=1e-6)


def test_the_mean_over_modalities_is_over_those_that_are_present():
    values = [torch.full((3, 2), 1.0), torch.full((3, 2), 4.0)]
    values[1][1] = torch.nan
    here = [torch.tensor([True, True, False]), torch.tensor([True, False, False])]
    assert mean_of(values, here).tolist() == [[2.5, 2.5], [1.0, 1.0], [0.0, 0.0]]
    assert mean_of(values, here, torch.full((3, 2), 7.0))[2].tolist() == [7.0, 7.0]


def test_the_forward_pass_is_one_half_after_the_other():
    class Halves(Fusion):
        def encode(self, features, masks, present):
            return {name: x + 1 for name, x in features.items()}, {"left": masks["a"]}

        def join(self, features, masks, present):
            return features["a"] * 2, masks, present

    fusion = Halves({"a": FeatureSpec(2, LAYOUTS["bd"])}, classes=4)
    x, mask, here = torch.randn(3, 2), torch.ones(3, 1).bool(), {"a": torch.ones(3).bool()}
    found, left, present = fusion({"a": x}, {"a": mask}, here)
    assert torch.equal(found, (x + 1) * 2)
    assert left == {"left": mask}
    assert present is here


def test_a_loss_of_its_own_counts_in_training_alone_and_is_left_behind_by_copies():
    fusion = FUSIONS["misa"].build({"a": FeatureSpec(2, LAYOUTS["bd"]), "b": FeatureSpec(2, LAYOUTS["bd"])}, classes=2)
    features = {name: torch.randn(4, 2) for name in "ab"}
    assert float(fusion.auxiliary_loss()) == 0  # before any pass
    fusion(features, {}, {})
    assert float(fusion.auxiliary_loss()) > 0
    assert float(copy.deepcopy(fusion).auxiliary_loss()) == 0
    assert float(fusion.eval().auxiliary_loss()) == 0


def test_the_base_has_sorted_names_and_no_forward_pass():
    specs = {"b": FeatureSpec(2, LAYOUTS["bd"]), "a": FeatureSpec(3, LAYOUTS["bdt"])}
    fusion = Fusion(specs, classes=4)
    assert fusion.names == ("a", "b")
    assert fusion.specs == specs
    assert fusion.classes == 4
    x = torch.randn(5, 3, 6)
    torch.testing.assert_close(fusion.positions("a", {"a": x}), x.transpose(1, 2))
    with pytest.raises(NotImplementedError):
        fusion({"a": x}, {}, {})


# Heads

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
def test_fusions_with_one_head_have_its_input_scaled(name):
    model, features = built(name)
    plain = model(features, {}, {})
    width = head_width(model)
    with scaled_head(model, torch.ones(3, width)):
        assert torch.equal(model(features, {}, {}), plain)
    with scaled_head(model, torch.zeros(3, width)):
        nothing = model(features, {}, {})
    torch.testing.assert_close(nothing, nothing[:1].expand(3, -1))  # no difference between instances is left
    assert torch.equal(model(features, {}, {}), plain)  # the hook is removed


def test_the_scale_multiplies_the_input_of_the_head():
    model, features = built("lf-dnn")
    scale = torch.rand(3, head_width(model))
    inputs = []
    handle = model.head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    model(features, {}, {})
    handle.remove()
    with scaled_head(model, scale):
        scaled = model(features, {}, {})
    with scaled_head(model, None):
        plain = model(features, {}, {})
    torch.testing.assert_close(scaled, model.head(inputs[0] * scale))
    torch.testing.assert_close(plain, model.head(inputs[0]))


@pytest.mark.parametrize("name", [name for name in FUSIONS if not FUSIONS[name].head])
def test_a_fusion_without_a_single_head_is_refused(name):
    model, _ = built(name)
    assert not isinstance(getattr(model, "head", None), nn.Module)
    with pytest.raises(UsageError, match=f"{type(model).__name__} has no single head for all modalities"):
        head_of(model)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lf-dnn", {"classes": np.float64(3)}, r"classes must be an integer of 1 or more; found np\.float64\(3\.0\)"),
        ("lf-dnn", {"classes": 0}, "classes must be 1 or more; found 0"),
        ("lf-dnn", {"dropout": torch.tensor(0.1)}, r"dropout must be a number; found tensor\(0\.1000\)"),
        ("mbt", {"dropout": 1.0}, r"dropout must lie in \[0, 1\); found 1\.0"),
        (
            "mult",
            {"width": "40", "layers": 1.5},
            "width must be an integer of 1 or more; found '40'; layers must be an",
        ),
    ],
)
def test_arguments_of_wrong_types_are_refused_in_one_sentence(name, options, message):
    specs = {one: FeatureSpec(4, LAYOUTS["btd"]) for one in ("text", "audio")}
    with pytest.raises(UsageError, match=message):
        FUSIONS[name].build(specs, **{"classes": 3, **options})
    with pytest.raises(UsageError, match=r"'a\.b' cannot name a modality"):
        FUSIONS[name].build({"a.b": specs["text"], "c": specs["text"]}, classes=3)
    assert FUSIONS[name].build(specs, classes=np.int64(3), **FUSIONS[name].small).classes == 3
