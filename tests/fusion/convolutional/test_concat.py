import numpy as np
import pytest
import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.convolutional.concat import ConcatMaps
from concordant.modalities import LAYOUTS


def logits_of(model, joined):
    return joined @ model.head.weight.T + model.head.bias


def test_logits_are_linear_in_the_cells_of_the_maps():
    specs = {"b": FeatureSpec(2, LAYOUTS["bchw"]), "a": FeatureSpec(3, LAYOUTS["bd"])}
    model = ConcatMaps(specs, classes=4, grid=2).eval()
    a, b = torch.randn(5, 3), torch.randn(5, 2, 6, 4)
    cells = torch.stack([b[:, :, y : y + 3, x : x + 2].mean((2, 3)) for y in (0, 3) for x in (0, 2)], 2)
    torch.testing.assert_close(model({"a": a, "b": b}, {}, {}), logits_of(model, torch.cat([a, cells.flatten(1)], 1)))


def test_a_grid_of_one_averages_over_the_whole_map():
    specs = {name: FeatureSpec(2, LAYOUTS["bchw"]) for name in "ab"}
    model = ConcatMaps(specs, classes=4, grid=1).eval()
    maps = {name: torch.randn(5, 2, 3, 7) for name in "ab"}
    joined = torch.cat([maps[name].mean((2, 3)) for name in "ab"], 1)
    torch.testing.assert_close(model(maps, {}, {}), logits_of(model, joined))


@pytest.mark.parametrize("value", [0.0, 9.0, float("nan")])
def test_a_cell_of_a_masked_map_is_the_mean_over_its_valid_places(value):
    specs = {name: FeatureSpec(2, LAYOUTS["bchw"]) for name in "ab"}
    model = ConcatMaps(specs, classes=4, grid=2).eval()
    maps = {name: torch.randn(3, 2, 4, 6) for name in "ab"}
    valid = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    valid[1, :2, :3] = False  # a cell without a valid place
    expected = np.zeros((3, 2, 2, 2))
    for row in range(3):
        for y in range(2):
            for x in range(2):
                block = valid[row, 2 * y : 2 * y + 2, 3 * x : 3 * x + 3].numpy()
                places = maps["a"][row, :, 2 * y : 2 * y + 2, 3 * x : 3 * x + 3].numpy()[:, block]
                expected[row, :, y, x] = places.mean(1) if block.any() else 0
    whole = torch.nn.functional.adaptive_avg_pool2d(maps["b"], 2).flatten(1)
    joined = torch.cat([torch.from_numpy(expected).float().flatten(1), whole], 1)
    spoilt = torch.where(valid.unsqueeze(1), maps["a"], value)
    found = model({"a": spoilt, "b": maps["b"]}, {"a": valid.flatten(1)}, {})
    torch.testing.assert_close(found, logits_of(model, joined))


def test_maps_smaller_than_the_grid_are_taken():
    specs = {name: FeatureSpec(2, LAYOUTS["bchw"]) for name in "ab"}
    model = ConcatMaps(specs, classes=4, grid=2).eval()
    maps = {"a": torch.randn(3, 2, 1, 1), "b": torch.randn(3, 2, 5, 1)}
    assert model(maps, {}, {}).isfinite().all()
