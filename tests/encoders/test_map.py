import pytest
import torch
import torch.nn.functional as F

from concordant.encoders import build_encoder
from concordant.encoders.map import FilmMapEncoder, MapEncoder


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (8, 4, (4, 2)),
        (16, 16, (8, 8)),
        (7, 5, (4, 3)),
        (1, 1, (1, 1)),
        (1, 6, (1, 3)),
        (28, 28, (7, 7)),
        (17, 3, (5, 1)),
    ],
)
def test_maps_are_halved_and_large_ones_once_more(height, width, expected):
    encoder = MapEncoder(inputs=2, height=height, width=width, size=6)
    assert encoder(torch.randn(3, 2, height, width))[0].shape == (3, 6, *expected)


@pytest.mark.parametrize(("layout", "maps"), [("bchw", False), ("bcthw", False), ("bcthw", True)])
def test_the_smallest_width_reads_large_maps(layout, maps):
    shape = (3, 20, 20) if layout == "bchw" else (3, 4, 20, 20)
    encoder = build_encoder(layout, shape, size=2, maps=maps)
    assert encoder(torch.randn(2, *shape))[0].isfinite().all()


def by_channel(x):
    """Normalise every channel of every instance over its places: group normalisation with a channel a group."""
    return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()


def test_map_features_are_two_normalised_convolutions_with_a_halving_between():
    encoder = MapEncoder(inputs=1, height=8, width=8, size=4).eval()
    x = torch.randn(2, 1, 8, 8)
    first, second = encoder.stages[0][0].weight, encoder.stages[2][0].weight
    half = F.max_pool2d(by_channel(F.conv2d(x, first, padding=1)).relu(), 2)
    torch.testing.assert_close(encoder(x)[0], by_channel(F.conv2d(half, second, padding=1)).relu())


def test_an_instance_is_normalised_by_itself():
    encoder = MapEncoder(inputs=1, height=8, width=8, size=16).train()
    encoder.stages[-1].p = 0.0
    x = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(encoder(x)[0][:2], encoder(x[:2])[0])


def test_film_is_encoded_frame_by_frame_before_neighbours_are_joined():
    encoder = build_encoder("bcthw", (1, 9, 6, 6), size=8).eval()
    x = torch.randn(1, 1, 9, 6, 6)
    other = x.clone()
    other[:, :, 4] += 1
    changed = (encoder(x)[0] != encoder(other)[0]).any(2)[0]
    assert changed[3:6].any()
    assert not changed[:3].any()
    assert not changed[6:].any()


def test_film_of_one_frame_has_one_step():
    film = build_encoder("bcthw", (3, 1, 5, 7), size=8)
    assert film(torch.randn(2, 3, 1, 5, 7))[0].shape == (2, 1, 8)


def test_maps_of_a_film_are_kept_frame_by_frame():
    encoder = FilmMapEncoder(inputs=1, size=8).eval()
    x, mask = torch.randn(2, 1, 5, 15, 20), torch.arange(5).expand(2, -1) < torch.tensor([[5], [3]])
    features, places = encoder(x, mask)
    assert features.shape == (2, 8, 5, 4, 4)
    assert torch.equal(places.view(2, 5, 16), mask.unsqueeze(2).expand(-1, -1, 16))
    alone, _ = encoder(x[1:, :, :3])
    torch.testing.assert_close(features[1:, :, :3], alone)


def test_padded_frames_have_no_influence_on_the_maps_of_others():
    encoder = FilmMapEncoder(inputs=1, size=8).eval()
    x, mask = torch.randn(2, 1, 5, 15, 20), torch.arange(5).expand(2, -1) < 3
    other = x.clone()
    other[:, :, 3:] = 100.0
    found, expected = encoder(other, mask)[0], encoder(x, mask)[0]
    assert torch.equal(found[:, :, :3], expected[:, :, :3])
