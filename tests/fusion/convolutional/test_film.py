import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FeatureSpec
from concordant.fusion.convolutional.film import FilmStreams
from concordant.modalities import LAYOUTS

SPECS = {
    "audio": FeatureSpec(3, LAYOUTS["bchw"]),
    "text": FeatureSpec(4, LAYOUTS["bd"]),
    "video": FeatureSpec(2, LAYOUTS["bcthw"]),
}


def features():
    return {"audio": torch.randn(5, 3, 4, 4), "text": torch.randn(5, 4), "video": torch.randn(5, 2, 3, 4, 4)}


def test_the_others_scale_and_shift_the_modulated_one():
    model = FilmStreams(SPECS, classes=4, modulated="audio").eval()
    given = features()
    seen = torch.cat([given["text"], given["video"].mean((2, 3, 4))], 1)
    weights = seen @ model.film.weight.T + model.film.bias
    x = (1 + weights[:, :3]) * given["audio"].mean((2, 3)) + weights[:, 3:]
    torch.testing.assert_close(model(given, {}, {}), x @ model.head.weight.T + model.head.bias)


def test_the_stream_with_most_axes_is_modulated_ties_by_name():
    assert FilmStreams(SPECS, classes=2).modulated == "video"
    assert FilmStreams(dict.fromkeys(("b", "a"), SPECS["audio"]), classes=2).modulated == "a"


def test_alone_it_is_a_linear_layer():
    model = FilmStreams({"audio": SPECS["audio"]}, classes=2)
    assert {name for name, _ in model.named_parameters()} == {"head.weight", "head.bias"}


def test_a_stream_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="modulated must name one of audio, text, video; found 'nose'"):
        FilmStreams(SPECS, classes=2, modulated="nose")
