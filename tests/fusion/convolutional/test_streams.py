"""Pooling of streams, and the fusions of pooled streams: concat, sum, film, gated."""

import numpy as np
import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FUSIONS, FeatureSpec
from concordant.fusion.convolutional.streams import (
    ConcatMaps,
    FilmStreams,
    GatedStreams,
    SumLogits,
    pool_stream,
    pooled_size,
)
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


# Concatenation and summation


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


def test_logits_add_up_and_an_absent_stream_adds_nothing():
    model = SumLogits({name: FeatureSpec(3, LAYOUTS["bchw"]) for name in "ab"}, classes=4).eval()
    maps = {name: torch.randn(5, 3, 2, 6) for name in "ab"}
    own = {n: maps[n].mean((2, 3)) @ model.heads[n].weight.T + model.heads[n].bias for n in "ab"}
    torch.testing.assert_close(model(maps, {}, {}), own["a"] + own["b"])
    here = torch.arange(5) % 2 == 0
    torch.testing.assert_close(model(maps, {}, {"b": here}), own["a"] + here[:, None] * own["b"])
    nothing = {"b": torch.zeros(5, 12, dtype=torch.bool)}
    torch.testing.assert_close(model(maps, nothing, {}), own["a"])


# FiLM

MIXED = {
    "audio": FeatureSpec(3, LAYOUTS["bchw"]),
    "text": FeatureSpec(4, LAYOUTS["bd"]),
    "video": FeatureSpec(2, LAYOUTS["bcthw"]),
}


def mixed():
    return {"audio": torch.randn(5, 3, 4, 4), "text": torch.randn(5, 4), "video": torch.randn(5, 2, 3, 4, 4)}


def test_the_others_scale_and_shift_the_modulated_one():
    model = FilmStreams(MIXED, classes=4, modulated="audio").eval()
    given = mixed()
    seen = torch.cat([given["text"], given["video"].mean((2, 3, 4))], 1)
    weights = seen @ model.film.weight.T + model.film.bias
    x = (1 + weights[:, :3]) * given["audio"].mean((2, 3)) + weights[:, 3:]
    torch.testing.assert_close(model(given, {}, {}), x @ model.head.weight.T + model.head.bias)


def test_the_stream_with_most_axes_is_modulated_ties_by_name():
    assert FilmStreams(MIXED, classes=2).modulated == "video"
    assert FilmStreams(dict.fromkeys(("b", "a"), MIXED["audio"]), classes=2).modulated == "a"


def test_film_of_one_stream_is_a_linear_layer():
    model = FilmStreams({"audio": MIXED["audio"]}, classes=2)
    assert {name for name, _ in model.named_parameters()} == {"head.weight", "head.bias"}


def test_a_missing_modulated_stream_is_refused():
    with pytest.raises(UsageError, match="modulated must name one of audio, text, video; found 'nose'"):
        FilmStreams(MIXED, classes=2, modulated="nose")


# Gating

PAIR = {"audio": FeatureSpec(3, LAYOUTS["bchw"]), "image": FeatureSpec(2, LAYOUTS["bchw"])}


def test_one_stream_gates_the_other():
    model = GatedStreams(PAIR, classes=4, width=6).eval()
    assert model.gating == "audio"
    maps = {"audio": torch.randn(5, 3, 4, 4), "image": torch.randn(5, 2, 4, 4)}
    own = {n: maps[n].mean((2, 3)) @ model.layers[n].weight.T + model.layers[n].bias for n in maps}
    expected = (own["image"] / (1 + torch.exp(-own["audio"]))) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(maps, {}, {}), expected)
    # Without the gating stream the gate is that of its layer's bias.
    gate = torch.sigmoid(model.layers["audio"].bias)
    expected = (own["image"] * gate) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(maps, {}, {"audio": torch.zeros(5, dtype=torch.bool)}), expected)


def test_the_stream_with_fewest_axes_gates():
    specs = {"a": FeatureSpec(3, LAYOUTS["bcthw"]), "b": FeatureSpec(2, LAYOUTS["bd"]), **PAIR}
    assert GatedStreams(specs, classes=2).gating == "b"
    assert GatedStreams(specs, classes=2, gating="image").gating == "image"


def test_a_missing_gating_stream_is_refused():
    with pytest.raises(UsageError, match="gating must name one of audio, image; found 'nose'"):
        GatedStreams(PAIR, classes=2, gating="nose")
