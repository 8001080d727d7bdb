import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.perceiver import PerceiverFusion
from concordant.modalities import LAYOUTS

SPECS = {name: FeatureSpec(5, LAYOUTS["btd"]) for name in "ab"}
SMALL = {"width": 8, "latents": 3, "rounds": 3, "blocks": 1, "heads": 2}


def build(**options):
    torch.manual_seed(0)
    return PerceiverFusion(SPECS, classes=4, **{**SMALL, **options}).eval()


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
    state = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if parts[0] in ("project", "whose"):
            parts[1] = swap[parts[1]]
        state[".".join(parts)] = value
    other.load_state_dict(state)
    features = {name: torch.randn(3, 4, 5) for name in "ab"}
    torch.testing.assert_close(other({swap[n]: x for n, x in features.items()}, {}, {}), model(features, {}, {}))


def test_rounds_after_the_first_share_their_weights():
    assert len(build(rounds=1).look) == 1
    sizes = {rounds: sum(p.numel() for p in build(rounds=rounds).parameters()) for rounds in (2, 3, 8)}
    assert len(set(sizes.values())) == 1
    features = {name: torch.randn(3, 4, 5) for name in "ab"}
    assert not torch.allclose(build(rounds=2)(features, {}, {}), build(rounds=3)(features, {}, {}))


@pytest.mark.parametrize("name", ["latents", "rounds", "blocks"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(UsageError, match=f"{name} must be 1 or more; found 0"):
        build(**{name: 0})
