import pytest
import torch

from concordant.encoders import build_encoder
from concordant.errors import UsageError

B, T, D = 3, 5, 4


def test_the_mean_is_over_valid_steps_and_stays_as_it_is():
    x, mask = torch.randn(B, T, D), torch.arange(T) < torch.tensor([[2], [5], [0]])
    encoder = build_encoder("btd", (T, D), kind="mean")
    mean, known = encoder(x, mask)
    torch.testing.assert_close(mean, torch.stack([x[0, :2].mean(0), x[1].mean(0), torch.zeros(D)]))
    assert known[:, 0].tolist() == [True, True, False]
    again, same = encoder(mean, known)
    assert torch.equal(again, mean)
    assert torch.equal(same, known)
    torch.testing.assert_close(encoder(x)[0], x.mean(1))


@pytest.mark.parametrize(("layout", "kind"), [("btd", "input"), ("bd", "input"), ("bd", "mean")])
def test_inputs_pass_unchanged(layout, kind):
    x = torch.randn(B, T, D) if layout == "btd" else torch.randn(B, D)
    encoder = build_encoder(layout, x.shape[1:], kind=kind)
    assert encoder(x) == (x, None)
    assert (encoder.size, encoder.feature_layout) == (D, layout)


def test_maps_are_refused():
    with pytest.raises(UsageError, match=r"reads vectors and sequences .*; found layout 'bchw'"):
        build_encoder("bchw", (3, 8, 8), kind="mean")
