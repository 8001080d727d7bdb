import pytest
import torch

from concordant.encoders.sequence import SequenceEncoder


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("length", "left"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3), (64, 16)])
def test_two_halvings_leave_a_quarter_of_the_steps_rounded_up(length, left):
    features, mask = SequenceEncoder(inputs=3, size=4)(torch.randn(2, length, 3), torch.ones(2, length).bool())
    assert features.shape == (2, left, 4)
    assert mask.shape == (2, left)
    assert mask.all()


@pytest.mark.parametrize(("valid", "left"), [(0, 0), (1, 1), (2, 1), (4, 1), (5, 2), (6, 2), (8, 2), (9, 3), (10, 3)])
def test_a_sequence_keeps_as_many_valid_steps_as_it_would_have_alone(valid, left):
    mask = torch.arange(10).expand(1, -1) < valid
    _, kept = SequenceEncoder(inputs=3, size=4)(torch.randn(1, 10, 3), mask)
    assert kept.tolist() == [[step < left for step in range(3)]]


def test_sequences_of_different_lengths_share_a_batch():
    encoder = SequenceEncoder(inputs=3, size=4).eval()
    lengths = torch.tensor([7, 2, 5])
    x = torch.randn(3, 7, 3)
    features, kept = encoder(x, torch.arange(7) < lengths.unsqueeze(1))
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(x[row : row + 1, :length])[0][0]
        torch.testing.assert_close(features[row][kept[row]], alone)


def test_padding_that_is_not_finite_is_harmless():
    encoder = SequenceEncoder(inputs=3, size=4)
    x = torch.randn(2, 8, 3)
    x[:, 5:] = float("nan")
    features, kept = encoder(x, torch.arange(8).expand(2, -1) < 5)
    features[kept].sum().backward()
    assert features.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in encoder.parameters())
