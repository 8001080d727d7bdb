import numpy as np
import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FUSIONS, FeatureSpec
from concordant.fusion.convolutional.streams import pool_stream, pooled_size
from concordant.modalities import LAYOUTS

POOLED = [name for name in FUSIONS if "pooled" in FUSIONS[name].points]


def test_films_are_averaged_over_time_and_over_the_cells_of_the_grid():
    spec = FeatureSpec(2, LAYOUTS["bcthw"])
    x = torch.randn(3, 2, 5, 4, 6)
    found = pool_stream(x, spec, None, None, 2).view(3, 2, 2, 2)
    for row, column in np.ndindex(2, 2):
        cell = x[:, :, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        torch.testing.assert_close(found[:, :, row, column], cell.mean((2, 3, 4)))
    assert pooled_size(spec, 2) == 8


def test_a_masked_cell_of_a_film_is_the_mean_over_its_valid_places_and_times():
    spec = FeatureSpec(2, LAYOUTS["bcthw"])
    x = torch.randn(3, 2, 5, 4, 4)
    valid = torch.rand(3, 5, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.4
    valid[0, :, :2, :2] = False
    spoilt = torch.where(valid.unsqueeze(1), x, torch.nan)
    found = pool_stream(spoilt, spec, valid.flatten(1), None, 2).view(3, 2, 2, 2)
    for b, row, column in np.ndindex(3, 2, 2):
        places = np.s_[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        for d in range(2):
            kept = x[b, d][places][valid[b][places]]
            expected = kept.mean() if len(kept) else torch.zeros(())
            torch.testing.assert_close(found[b, d, row, column], expected)


@pytest.mark.parametrize("name", POOLED)
def test_where_the_calibrator_stands_changes_nothing_without_one(name):
    entry = FUSIONS[name]
    specs = {
        "a": FeatureSpec(3, LAYOUTS["bchw"]),
        "b": FeatureSpec(2, LAYOUTS["bcthw"]),
        "c": FeatureSpec(4, LAYOUTS["btd"]),
    }
    features = {"a": torch.randn(5, 3, 4, 6), "b": torch.randn(5, 2, 3, 4, 4), "c": torch.randn(5, 7, 4)}
    present = {"b": torch.arange(5) != 1}
    found = []
    for at in ("maps", "pooled"):
        torch.manual_seed(0)
        model = entry.build(specs, classes=4, at=at, **entry.small).eval()
        found.append(model(features, {"c": torch.arange(7).expand(5, -1) < 3}, present))
        sizes = {one: spec.size for one, spec in model.meeting.items()}
        assert sizes == ({"a": 3, "b": 2, "c": 4} if at == "maps" else {"a": 12, "b": 8, "c": 4})
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("name", POOLED)
def test_another_point_is_refused(name):
    with pytest.raises(UsageError, match="at must be one of maps, pooled; found 'head'"):
        FUSIONS[name].build({"a": FeatureSpec(3, LAYOUTS["bchw"])}, classes=2, at="head")
