import pytest
import torch
import torch.nn.functional as F

from concordant.training.vectorised.draws import Draws, NotStackableError, Replay, watch

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here, or CONCORDANT_TEST_GPU is not 1"
        ),
    ),
]


def generators(*seeds, device="cpu"):
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def noisy(x, generator):
    own = {"generator": generator, "device": x.device}
    x = F.dropout(x.transpose(0, 1), 0.3) + torch.rand(x.shape[::-1], device=x.device)  # a mask that is not contiguous
    x = F.dropout2d(x[:, :, None, None].expand(-1, -1, 2, 2), 0.5)
    return x + torch.randn(x.shape, **own) + torch.rand((x.shape[0], 1, 1, 1), **own)


@pytest.mark.parametrize("device", DEVICES)
def test_every_seed_meets_its_own_draws_twice_in_a_row(device):
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).to(device)  # three seeds
    planned = watch(lambda: noisy(x[0], torch.Generator(device)), device)
    assert [draw.kind for draw in planned] == ["keep", "uniform", "keep features", "normal", "uniform"]
    assert [draw.explicit for draw in planned] == [False, False, False, True, True]
    sources = generators(10, 11, 12, device=device), generators(20, 21, 22, device=device)
    draws = Draws(planned, *sources, device=device)

    def one(values, made):
        with Replay(planned, made):
            return noisy(values, torch.Generator(device))

    found = [torch.vmap(one)(x, draws.next()).clone() for _ in range(2)]
    for place in range(3):
        own = torch.Generator(device).manual_seed(20 + place)
        with torch.random.fork_rng():
            torch.manual_seed(10 + place)
            for turn in range(2):
                torch.testing.assert_close(found[turn][place], noisy(x[place], own))


def test_seeds_that_are_kept_go_on_where_they_were():
    planned = watch(lambda: F.dropout(torch.ones(4), 0.5))
    draws, alone = Draws(planned, generators(1, 2), generators(0, 0)), Draws(planned, generators(2), generators(0))
    assert torch.equal(draws.next()[0][1], alone.next()[0][0])
    draws.keep([1])
    assert torch.equal(draws.next()[0], alone.next()[0])


def test_evaluation_draws_nothing():
    assert watch(lambda: F.dropout(torch.ones(4), 0.5, training=False)) == []
    assert watch(lambda: F.dropout(torch.ones(4), 0.0)) == []


def test_watching_leaves_the_global_stream_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    watch(lambda: F.dropout(torch.ones(4), 0.5))
    assert torch.equal(torch.rand(2), expected)


def test_draws_that_cannot_be_handed_in_are_refused():
    attend = torch.nn.MultiheadAttention(4, 2, dropout=0.5)
    x = torch.ones(3, 1, 4)
    with pytest.raises(NotStackableError, match="it draws random numbers in a way that cannot be repeated"):
        watch(lambda: attend(x, x, x))


def test_a_mask_of_another_shape_is_refused():
    planned = watch(lambda: F.dropout(torch.ones(4), 0.5))
    made = Draws(planned, generators(1), generators(0)).next()
    told = r"drops values of shape \(5,\) where one seed alone has \(4,\)"
    with pytest.raises(NotStackableError, match=told), Replay(planned, [made[0][0]]):
        F.dropout(torch.ones(5), 0.5)
