import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from concordant.calibration import pooling, scaling
from concordant.calibration.scaling import pass_on, scaled
from concordant.modalities import LAYOUTS, gather, over_features, over_positions

SIZES = {"b": 4, "t": 5, "d": 3, "c": 3, "h": 2, "w": 2}
LETTERS = ["bd", "btd", "bdt", "tbd", "bchw", "bcthw"]
KINDS = pytest.mark.parametrize("kind", ["none", "presence", "mask"])


@pytest.fixture(autouse=True, params=[1 << 20, 16], ids=["one block", "many blocks"])
def small_blocks(request, monkeypatch):
    for module in (pooling, scaling):
        monkeypatch.setattr(module, "BLOCK", request.param)
    monkeypatch.setattr(scaling, "FEWEST", min(request.param, scaling.FEWEST))


def example(layout, kind, dtype=torch.float64):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn([SIZES[letter] for letter in layout], generator=draws, dtype=dtype)
    scale = torch.rand(4, 3, generator=draws, dtype=dtype)
    length = x.numel() // 12
    valid = None
    if kind == "presence":
        valid = torch.tensor([[True], [False], [True], [False]])
    elif kind == "mask":
        valid = torch.rand(4, length, generator=draws) < 0.6
    return x, scale, valid


def by_hand(x, scale, layout, valid):
    where = LAYOUTS[layout]
    times = x * over_features(scale, where)
    if valid is None:
        return times
    clean = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.where(over_positions(valid, x, where), times, clean)


@KINDS
@pytest.mark.parametrize("layout", LETTERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_valid_features_are_scaled_and_the_rest_is_as_it_was(kind, layout, dtype):
    x, scale, valid = example(layout, kind, dtype)
    found = scaled(x, scale, LAYOUTS[layout], valid)
    assert torch.equal(found, by_hand(x, scale, layout, valid))
    assert torch.equal(scaled(x, torch.ones_like(scale), LAYOUTS[layout], valid), x)


@KINDS
@pytest.mark.parametrize("layout", LETTERS)
def test_gradients_equal_those_of_the_plain_formula(kind, layout):
    x, scale, valid = example(layout, kind)
    weights = torch.randn_like(x)
    results = []
    for make in (scaled, lambda x, scale, _, valid: by_hand(x, scale, layout, valid)):
        pair = x.clone().requires_grad_(), scale.clone().requires_grad_()
        (make(*pair, LAYOUTS[layout], valid) * weights).sum().backward()
        results.append((pair[0].grad, pair[1].grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


@KINDS
@pytest.mark.parametrize("layout", ["btd", "bdt", "tbd"])
def test_gradients_of_gradients_are_right(kind, layout):
    x, scale, valid = example(layout, kind)
    both = x.requires_grad_(), scale.requires_grad_()
    torch.autograd.gradcheck(lambda *given: scaled(*given, LAYOUTS[layout], valid), both)
    torch.autograd.gradgradcheck(lambda *given: scaled(*given, LAYOUTS[layout], valid), both)


@pytest.mark.parametrize("layout", LETTERS[1:])
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf])
def test_what_is_not_finite_and_not_valid_becomes_zero_without_a_gradient(layout, garbage):
    x, scale, valid = example(layout, "mask")
    keep = over_positions(valid, x, LAYOUTS[layout]).expand_as(x)
    x = torch.where(keep, x, garbage)
    x.requires_grad_()
    scale.requires_grad_()
    found = scaled(x, scale, LAYOUTS[layout], valid)
    assert (found[~keep] == 0).all()
    found.sum().backward()
    assert (x.grad[~keep] == 0).all()
    clean = torch.where(keep, x.detach(), 0)
    expected = (clean.sum(LAYOUTS[layout].positions), over_features(scale, LAYOUTS[layout]).expand_as(x)[keep])
    torch.testing.assert_close(scale.grad, expected[0])
    assert torch.equal(x.grad[keep], expected[1])


def test_either_gradient_may_be_left_out():
    x, scale, valid = example("btd", "mask")
    scaled(x, scale.requires_grad_(), LAYOUTS["btd"], valid).sum().backward()
    assert x.grad is None
    scaled(x.requires_grad_(), scale.detach(), LAYOUTS["btd"], valid).sum().backward()
    assert x.grad is not None


@KINDS
def test_only_input_scale_and_mask_are_saved(kind):
    x, scale, valid = example("btd", kind)
    x, scale = x.requires_grad_(), scale.requires_grad_()
    saved = {}
    with saved_tensors_hooks(lambda t: saved.setdefault(t.data_ptr(), t), lambda t: t):
        scaled(x, scale, LAYOUTS["btd"], valid)
    rest = [t for t in saved.values() if t.data_ptr() not in (x.data_ptr(), scale.data_ptr())]
    assert sum(t.nbytes for t in rest) <= (0 if valid is None else valid.nbytes)


@KINDS
def test_transforms_give_the_same(kind):
    x, scale, valid = example("btd", kind)
    found = torch.func.vmap(lambda x, scale: scaled(x, scale, LAYOUTS["btd"], valid))(
        torch.stack([x, 2 * x]), torch.stack([scale, scale])
    )
    assert torch.equal(found[0], by_hand(x, scale, "btd", valid))
    assert torch.equal(found[1], by_hand(2 * x, scale, "btd", valid))


def test_passing_on_copies_nothing_that_is_finite():
    x, _, valid = example("btd", "mask")
    batch = gather({"a": x}, sizes={"a": 3}, layouts={"a": "btd"}, masks={"a": valid})
    assert pass_on(batch)["a"] is x
    x[~valid] = torch.nan
    assert torch.equal(pass_on(batch)["a"], torch.where(valid.unsqueeze(2), x, 0))
