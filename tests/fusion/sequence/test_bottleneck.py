import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.bottleneck import BottleneckFusion
from concordant.modalities import LAYOUTS

SPECS = {name: FeatureSpec(5, LAYOUTS["btd"]) for name in "ab"}
SMALL = {"width": 8, "layers": 3, "heads": 2, "alone": 1, "bottlenecks": 2}


def build(**options):
    torch.manual_seed(0)
    return BottleneckFusion(SPECS, classes=4, **{**SMALL, **options}).eval()


def test_a_padded_batch_equals_its_samples_one_by_one():
    model = build()
    lengths = {"a": [6, 2, 4], "b": [1, 3, 3]}
    features = {name: torch.randn(3, max(one), 5) for name, one in lengths.items()}
    masks = {name: torch.arange(max(one)) < torch.tensor(one).unsqueeze(1) for name, one in lengths.items()}
    whole = model(features, masks, {})
    for row in range(3):
        alone = {name: x[row : row + 1, : lengths[name][row]] for name, x in features.items()}
        torch.testing.assert_close(model(alone, {}, {})[0], whole[row], rtol=1e-4, atol=1e-5)


def test_names_of_modalities_do_not_matter():
    model, other = build(), build()
    swap = {"a": "b", "b": "a"}
    state = {
        ".".join(swap.get(part, part) if place == 1 else part for place, part in enumerate(key.split("."))): value
        for key, value in model.state_dict().items()
    }
    other.load_state_dict(state)
    features = {name: torch.randn(3, 4, 5) for name in "ab"}
    torch.testing.assert_close(other({swap[n]: x for n, x in features.items()}, {}, {}), model(features, {}, {}))


def test_modalities_talk_through_the_bottleneck_alone():
    model = build()
    features = {name: torch.randn(3, 4, 5) for name in "ab"}
    tokens, left = model.encode(features, {}, {})
    assert left == {}
    assert tokens["a"].shape == (3, 5, 8)
    alone = {"b": torch.zeros(3, dtype=torch.bool)}
    # Logits are averaged over modalities: with one alone it is its own token's, whatever the other holds.
    one = model.join(tokens, {}, alone)
    two = model.join({**tokens, "b": torch.randn_like(tokens["b"])}, {}, alone)
    torch.testing.assert_close(one, two)
    other = {**tokens, "b": torch.randn_like(tokens["b"])}
    assert not torch.allclose(model.join(tokens, {}, {}), model.join(other, {}, {}))


def test_what_comes_before_the_meeting_sees_one_modality_alone():
    model = build()
    features = {name: torch.randn(3, 4, 5) for name in "ab"}
    tokens, _ = model.encode(features, {}, {})
    other, _ = model.encode({**features, "b": torch.randn(3, 4, 5)}, {}, {})
    assert torch.equal(tokens["a"], other["a"])
    assert not torch.equal(tokens["b"], other["b"])
    assert model.meeting["a"].size == 8


def test_logits_are_the_mean_over_the_class_tokens():
    model = build(layers=1, alone=0)
    for blocks in model.after.values():  # blocks that change nothing
        for block in blocks:
            torch.nn.init.zeros_(block.attend.out_proj.weight)
            torch.nn.init.zeros_(block.attend.out_proj.bias)
            torch.nn.init.zeros_(block.forward_layers[-1].weight)
            torch.nn.init.zeros_(block.forward_layers[-1].bias)
    expected = torch.stack([model.head(model.normalise(model.start[name])) for name in "ab"]).mean(0)
    found = model({name: torch.randn(3, 4, 5) for name in "ab"}, {}, {})
    torch.testing.assert_close(found, expected.expand(3, -1))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alone": 3}, "alone must lie between 0 and layers - 1; found alone 3, layers"),
        ({"alone": -1}, "alone must be 0 or more; found -1"),
        ({"bottlenecks": 0}, "bottlenecks must be 1 or more; found 0"),
    ],
)
def test_wrong_arguments_are_refused(options, text):
    with pytest.raises(UsageError, match=text):
        build(**options)
