import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.encoders import (
    FilmEncoder,
    FilmMapEncoder,
    MapEncoder,
    ResNetEncoder,
    SequenceEncoder,
    VectorEncoder,
    build_encoder,
)
from concordant.errors import UsageError

CASES = {
    "bd": ((9,), VectorEncoder, "bd", (8,)),
    "btd": ((10, 5), SequenceEncoder, "btd", (3, 8)),
    "bchw": ((2, 8, 4), MapEncoder, "bchw", (8, 4, 2)),
    "bcthw": ((2, 6, 9, 5), FilmEncoder, "btd", (6, 8)),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("layout", CASES)
def test_the_layout_chooses_the_encoder_and_its_features_have_the_size_asked_for(layout):
    shape, kind, feature_layout, expected = CASES[layout]
    encoder = build_encoder(layout, shape, size=8)
    assert type(encoder) is kind
    assert encoder.size == 8
    assert encoder.feature_layout == feature_layout
    features, mask = encoder(torch.randn(3, *shape))
    assert features.shape == (3, *expected)
    assert mask is None
    assert features.dtype == torch.float32


def test_films_keep_their_maps_where_asked_for():
    encoder = build_encoder("bcthw", (2, 6, 9, 5), size=8, maps=True)
    assert type(encoder) is FilmMapEncoder
    assert encoder(torch.randn(3, 2, 6, 9, 5))[0].shape == (3, 8, 6, 4, 4)


def test_a_resnet_reads_maps_and_films_and_the_rest_have_one_kind_of_encoder():
    for layout, shape, feature_layout in (("bchw", (2, 40, 32), "bchw"), ("bcthw", (2, 3, 40, 32), "bcthw")):
        encoder = build_encoder(layout, shape, kind="resnet18", stages=2)
        assert type(encoder) is ResNetEncoder
        assert (encoder.size, encoder.feature_layout) == (128, feature_layout)
    assert type(build_encoder("bd", (9,), kind="resnet18")) is VectorEncoder
    with pytest.raises(UsageError, match="unknown kind of encoder 'vgg'; choose from: small, resnet18"):
        build_encoder("bd", (9,), kind="vgg")


@pytest.mark.parametrize("layout", ["bdt", "b", ""])
def test_an_unknown_layout_is_refused_with_the_choices(layout):
    text = f"no encoder reads inputs with layout '{layout}'; choose from: bd, btd, bchw, bcthw"
    with pytest.raises(UsageError, match=text):
        build_encoder(layout, (4, 4))


@pytest.mark.parametrize("layout", CASES)
def test_gradients_reach_the_inputs_and_every_weight(layout):
    shape = CASES[layout][0]
    encoder = build_encoder(layout, shape, size=8, dropout=0.0)
    x = torch.randn(4, *shape, requires_grad=True)
    (encoder(x)[0] ** 2).sum().backward()
    assert x.grad.abs().sum() > 0
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("layout", CASES)
def test_dropout_acts_in_training_alone(layout):
    shape = CASES[layout][0]
    encoder = build_encoder(layout, shape, size=8, dropout=0.5)
    x = torch.randn(4, *shape)
    encoder.train()
    assert not torch.equal(encoder(x)[0], encoder(x)[0])
    encoder.eval()
    assert torch.equal(encoder(x)[0], encoder(x)[0])


@pytest.mark.parametrize("layout", CASES)
def test_instances_do_not_influence_each_other_when_evaluating(layout):
    shape = CASES[layout][0]
    encoder = build_encoder(layout, shape, size=8).eval()
    x = torch.randn(5, *shape)
    torch.testing.assert_close(encoder(x)[0][:2], encoder(x[:2])[0])


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["btd", "bcthw"]), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_padding_behind_a_sequence_changes_none_of_its_features(layout, length, padding, seed):
    torch.manual_seed(seed)
    shape = (length, 3) if layout == "btd" else (2, length, 5, 4)
    time = 1 if layout == "btd" else 2
    encoder = build_encoder(layout, shape, size=6).eval()
    x = torch.randn(2, *shape)
    garbage = torch.full([padding if axis == time else size for axis, size in enumerate(x.shape)], 1e3)
    mask = torch.arange(length + padding).expand(2, -1) < length
    plain, _ = encoder(x)
    padded, kept = encoder(torch.cat([x, garbage], time), mask)
    assert kept.shape == padded.shape[:2]
    steps = plain.shape[1]
    assert kept[:, :steps].all()
    assert not kept[:, steps:].any()
    torch.testing.assert_close(padded[:, :steps], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["btd", "bcthw"])
def test_a_mask_that_is_true_everywhere_changes_nothing(layout):
    shape = CASES[layout][0]
    encoder = build_encoder(layout, shape, size=8).eval()
    x = torch.randn(3, *shape)
    length = x.shape[1 if layout == "btd" else 2]
    assert torch.equal(encoder(x, torch.ones(3, length, dtype=torch.bool))[0], encoder(x)[0])
