import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.crossmodal import CrossmodalTransformer
from concordant.modalities import LAYOUTS

SPECS = {name: FeatureSpec(5, LAYOUTS["btd"]) for name in "abc"}
SMALL = {"width": 8, "heads": 2, "layers": 2, "memory_layers": 1}


def build(specs=SPECS, **options):
    torch.manual_seed(0)
    return CrossmodalTransformer(specs, classes=4, **{**SMALL, **options}).eval()


def test_a_padded_batch_equals_its_samples_one_by_one():
    model = build()
    lengths = {"a": [6, 2, 4], "b": [1, 3, 3], "c": [2, 5, 1]}
    features = {name: torch.randn(3, max(one), 5) for name, one in lengths.items()}
    masks = {name: torch.arange(max(one)) < torch.tensor(one).unsqueeze(1) for name, one in lengths.items()}
    whole = model(features, masks, {})
    for row in range(3):
        alone = {name: x[row : row + 1, : lengths[name][row]] for name, x in features.items()}
        torch.testing.assert_close(model(alone, {}, {})[0], whole[row], rtol=1e-4, atol=1e-5)


def test_with_two_modalities_their_names_do_not_matter():
    two = {name: SPECS[name] for name in "ab"}
    model, other = build(two), build(two)
    swap = {"a": "b", "b": "a"}
    state = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if parts[0] in ("project", "memory", "across"):
            parts[1] = swap[parts[1]]
        if parts[0] == "across":
            parts[2] = swap[parts[2]]
        state[".".join(parts)] = value
    for key in ("residual.0.weight", "head.weight"):  # which see one modality's places before the other's
        state[key] = state[key].roll(8, 1)
    for key in ("residual.3.weight", "residual.3.bias"):
        state[key] = state[key].roll(8, 0)
    other.load_state_dict(state)
    features = {name: torch.randn(3, 4, 5) for name in "ab"}
    found = other({swap[name]: x for name, x in features.items()}, {}, {})
    torch.testing.assert_close(found, model(features, {}, {}), rtol=1e-4, atol=1e-5)


def test_every_ordered_pair_has_its_own_transformer():
    model = build()
    pairs = {(target, source) for target, sources in model.across.items() for source in sources}
    assert pairs == {(x, y) for x in "abc" for y in "abc" if x != y}
    assert build({"a": SPECS["a"]}).across["a"].keys() == {}.keys()


def test_a_source_is_looked_at_by_the_others_alone():
    model = build()
    features = {name: torch.randn(2, 4, 5) for name in SPECS}
    blocks = model.across["a"]["b"]
    for block in blocks:  # without the attention to b nothing of b reaches a
        torch.nn.init.zeros_(block.attend.out_proj.weight)
    tokens, valid = {}, {}
    for name, x in features.items():
        tokens[name] = model.project[name](x.transpose(1, 2)).transpose(1, 2)
        valid[name] = torch.ones(2, 4, dtype=torch.bool)
    one = model._found("a", tokens, valid)
    two = model._found("a", {**tokens, "b": torch.randn_like(tokens["b"])}, valid)
    torch.testing.assert_close(one, two)
    three = model._found("a", {**tokens, "c": torch.randn_like(tokens["c"])}, valid)
    assert not torch.allclose(one, three)


def test_an_even_kernel_is_refused():
    with pytest.raises(UsageError, match="kernel must be odd, or steps would be shifted; found 2"):
        build(kernel=2)
