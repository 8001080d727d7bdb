import numpy as np
import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.convolutional.attention import MapAttention, coarse
from concordant.modalities import LAYOUTS, to_positions


def test_maps_with_many_places_are_averaged_onto_a_grid():
    spec = FeatureSpec(2, LAYOUTS["bchw"])
    x = torch.randn(3, 2, 6, 3)
    valid = torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    valid[0, :2] = False
    places, known = coarse(torch.where(valid.unsqueeze(1), x, torch.nan), spec, valid.flatten(1), 3)
    assert places.shape == (3, 9, 2)
    for b, row, column in np.ndindex(3, 3, 3):
        rows = slice(2 * row, 2 * row + 2)
        kept = x[b, :, rows, column][:, valid[b, rows, column]]
        assert known[b, 3 * row + column] == (kept.shape[1] > 0)
        if kept.shape[1]:
            torch.testing.assert_close(places[b, 3 * row + column], kept.mean(1))


def test_smaller_maps_and_sequences_stay_as_they_are():
    for name, shape in (("bchw", (3, 2, 3, 2)), ("btd", (3, 40, 2)), ("bd", (3, 2))):
        spec, x = FeatureSpec(2, LAYOUTS[name]), torch.randn(shape)
        places, known = coarse(x, spec, None, 4)
        assert torch.equal(places, to_positions(x, spec.layout))
        assert known is None


def test_a_modality_looks_at_the_others_and_holds_its_own():
    torch.manual_seed(0)
    specs = {name: FeatureSpec(3, LAYOUTS["bchw"]) for name in "ab"}
    model = MapAttention(specs, classes=4, width=8, heads=2, grid=4).eval()
    maps = {name: torch.randn(5, 3, 3, 3) for name in "ab"}
    for block in model.across.values():
        torch.nn.init.zeros_(block.attend.out_proj.weight)
    pooled = []
    model.head.register_forward_pre_hook(lambda _, x: pooled.append(x[0]))
    model(maps, {}, {})
    model({**maps, "b": torch.randn(5, 3, 3, 3)}, {}, {})
    torch.testing.assert_close(pooled[0][:, :8], pooled[1][:, :8])  # nothing of b reaches a any more
    assert not torch.allclose(pooled[0][:, 8:], pooled[1][:, 8:])


def test_names_of_modalities_do_not_matter():
    specs = {name: FeatureSpec(3, LAYOUTS["bchw"]) for name in "ab"}
    model, other = (MapAttention(specs, classes=4, width=8, heads=2).eval() for _ in range(2))
    swap, state = {"a": "b", "b": "a"}, {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if parts[0] in ("project", "across"):
            parts[1] = swap[parts[1]]
        state[".".join(parts)] = value
    state["head.weight"] = state["head.weight"].roll(8, 1)
    other.load_state_dict(state)
    maps = {name: torch.randn(5, 3, 4, 3) for name in "ab"}
    torch.testing.assert_close(other({swap[n]: x for n, x in maps.items()}, {}, {}), model(maps, {}, {}))
