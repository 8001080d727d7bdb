"""The kernels against the plain operations that they stand in for; without a GPU, interpreted (see conftest)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.calibration import fused
from concordant.calibration.fused import pool_gradient, scale_gradients
from concordant.calibration.summary import pool
from concordant.errors import ConcordantError
from concordant.modalities import LAYOUTS
from concordant.rivals import CALIBRATORS

triton = pytest.importorskip("triton", reason="the kernels are written in Triton, which is not installed here")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7):
    pytest.skip("Triton before 3.7 cannot interpret kernels with NumPy 2.4", allow_module_level=True)

from concordant.calibration import kernels  # noqa: E402 - it needs Triton

KINDS = ("none", "presence", "mask")
FLOOR = fused.SMALLEST_VARIANCE


@pytest.fixture
def taken(monkeypatch):
    """Let kernels take what lies on the CPU too."""
    monkeypatch.setattr(fused, "DEVICES", ("cpu", "cuda"))


def make(size, length, width, kind, layout="btd", *, dtype=torch.float32, bad=True):
    """Return x in an order of memory, and what counts in it; what does not holds NaN."""
    draws = torch.Generator().manual_seed(size + 10 * length + 100 * width)
    x = torch.randn(size, length, width, generator=draws) * 2 + 3
    valid = None
    if kind == "presence":
        valid = torch.arange(size).unsqueeze(1) % 3 != 1
    elif kind == "mask":
        valid = torch.rand(size, length, generator=draws) < 0.6
    if valid is not None and bad:
        x = torch.where(valid.unsqueeze(2), x, torch.tensor(float("nan")))
    x = {"btd": x, "bdt": x.mT.contiguous().mT, "tbd": x.transpose(0, 1).contiguous().transpose(0, 1)}[layout]
    return x.to(DEVICE, dtype), None if valid is None else valid.to(DEVICE)


def reference(x, valid):
    """Return mean and deviation in double precision, by plain operations."""
    return pool(x.double(), valid, spread=True).float()


SHAPES = pytest.mark.parametrize("shape", [(5, 7, 3), (3, 300, 70), (2, 1, 5), (1, 129, 65), (0, 4, 2)], ids=str)


@SHAPES
@pytest.mark.parametrize("layout", ["btd", "bdt", "tbd"])
@pytest.mark.parametrize("kind", KINDS)
def test_summaries_are_those_of_plain_operations(kind, layout, shape):
    x, valid = make(*shape, kind, layout)
    found, finite = kernels.pool(x, valid, FLOOR)
    torch.testing.assert_close(found, reference(x, valid), rtol=1e-5, atol=1e-5)
    assert finite.all()
    assert finite.shape == (shape[0],)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_numbers_are_summed_in_long_ones(dtype):
    x, valid = make(4, 40, 6, "mask", dtype=dtype)
    found, _ = kernels.pool(x, valid, FLOOR)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference(x, valid), rtol=1e-5, atol=1e-5)
    by = torch.rand(4, 6, device=DEVICE).to(dtype)
    expected = torch.where(valid.unsqueeze(2), x * by.unsqueeze(1), torch.nan_to_num(x, nan=0.0))
    ulp = 0.0 if DEVICE == "cuda" else 2**-7 if dtype == torch.bfloat16 else 2**-10  # the interpreter cuts off
    torch.testing.assert_close(kernels.scale(x, by, valid), expected, rtol=ulp, atol=0)


def test_large_offsets_cost_no_digits():
    x, _ = make(2, 500, 4, "none")
    found, _ = kernels.pool(x + 1e4, None, FLOOR)
    torch.testing.assert_close(found, reference(x + 1e4, None), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_is_told_row_by_row(kind, bad):
    x, valid = make(6, 70, 40, kind)
    counted = torch.ones(6, 70, dtype=torch.bool, device=DEVICE) if valid is None else valid.expand(6, 70)
    row = 2
    step = int(counted[row].nonzero()[-1])
    x[row, step, 39] = bad
    _, finite = kernels.pool(x, valid, FLOOR)
    assert finite.tolist() == [index != row for index in range(6)]


def test_huge_numbers_are_finite():
    x = torch.full((2, 9, 3), 3e38, device=DEVICE)  # their sum is not
    _, finite = kernels.pool(x, None, FLOOR)
    assert finite.all()


@SHAPES
@pytest.mark.parametrize("layout", ["btd", "bdt", "tbd"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_summaries_are_those_of_the_formula(kind, layout, shape):
    x, valid = make(*shape, kind, layout)
    result, _ = kernels.pool(x, valid, FLOOR)
    above = torch.randn_like(result)
    found = kernels.pool_backward(x, valid, result, above)
    torch.testing.assert_close(found, pool_gradient(above, x, valid, result), rtol=1e-4, atol=1e-5)
    assert found.stride() == torch.empty_like(x).stride()


@SHAPES
@pytest.mark.parametrize("layout", ["btd", "bdt", "tbd"])
@pytest.mark.parametrize("kind", [*KINDS, "large"])
def test_scaled_features_and_their_gradients_are_those_of_the_formula(monkeypatch, kind, layout, shape):
    if kind == "large":
        monkeypatch.setattr(kernels, "LARGE", 0)  # a kernel of ours without a mask too
        kind = "none"
    x, valid = make(*shape, kind, layout)
    x = x.contiguous() if layout == "btd" else x
    by = torch.rand(shape[0], shape[2], device=DEVICE)
    keep = None if valid is None else valid.unsqueeze(2)
    expected = x * by.unsqueeze(1)
    if keep is not None:
        expected = torch.where(keep, expected, torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0))
    assert torch.equal(kernels.scale(x, by, valid), expected)
    above = torch.randn_like(expected)
    to_x, to_by = kernels.scale_backward(above, x, by, valid, for_x=True)
    for_x, for_by = scale_gradients(above, x, by.unsqueeze(1), keep)
    assert torch.equal(to_x, for_x)
    torch.testing.assert_close(to_by, for_by.squeeze(1), rtol=1e-4, atol=1e-4)
    nothing, again = kernels.scale_backward(above, x, by, valid, for_x=False)
    assert nothing is None
    assert torch.equal(again, to_by)


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 4),
    length=st.integers(1, 40),
    width=st.integers(1, 20),
    kind=st.sampled_from(KINDS),
    layout=st.sampled_from(["btd", "bdt", "tbd"]),
)
def test_any_shape_gives_the_plain_result(size, length, width, kind, layout):
    x, valid = make(size, length, width, kind, layout)
    found, finite = kernels.pool(x, valid, FLOOR)
    torch.testing.assert_close(found, reference(x, valid), rtol=1e-5, atol=1e-5)
    assert finite.all()


def both_ways(monkeypatch, name, layout, *, masked, training):
    """Return results of a calibrator, and gradients of features and parameters, without and with kernels."""
    draws = torch.Generator().manual_seed(0)
    shapes = {"btd": (4, 9, 6), "bchw": (4, 6, 3, 5), "tbd": (9, 4, 6), "bdt": (4, 6, 9)}
    features = {m: torch.randn(shapes[layout], generator=draws) for m in ("one", "two", "three")}
    masks = {}
    if masked and layout != "bchw":
        masks = {"one": torch.arange(9) < torch.tensor([[9], [4], [6], [1]])}
    found = []
    for devices in ((), ("cpu", "cuda")):
        monkeypatch.setattr(fused, "DEVICES", devices)
        module = CALIBRATORS[name].build(dict.fromkeys(features, 6), layouts=layout, seed=0).to(DEVICE).train(training)
        weights = torch.Generator().manual_seed(1)
        for parameter in module.parameters():
            parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=weights).to(DEVICE))
        leaves = {m: x.clone().to(DEVICE).requires_grad_() for m, x in features.items()}
        there = {m: mask.to(DEVICE) for m, mask in masks.items()}
        perturbed = torch.zeros(4, 3, dtype=torch.bool, device=DEVICE)
        torch.manual_seed(0)
        out = module(leaves, there, perturbed=perturbed if training else None)
        loss = sum((x * x).sum() for x in out.features.values()) + out.reliability.sum() + out.auxiliary_loss
        loss.backward()
        gradients = {m: leaf.grad for m, leaf in leaves.items()}
        gradients |= {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        found.append((out.reliability.detach(), {n: x.detach() for n, x in out.features.items()}, gradients))
    return found


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("layout", ["btd", "bchw", "tbd", "bdt"])
@pytest.mark.parametrize("name", ["context", "joint"])
def test_a_calibrator_is_the_same_with_kernels(monkeypatch, name, layout, masked, training):
    plain, with_kernels = both_ways(monkeypatch, name, layout, masked=masked, training=training)
    torch.testing.assert_close(with_kernels, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_nan_is_refused_by_name(training):
    module = CALIBRATORS["context"].build({"one": 4, "two": 4}, layouts="btd").to(DEVICE).train(training)
    features = {"one": torch.randn(3, 5, 4, device=DEVICE), "two": torch.randn(3, 5, 4, device=DEVICE)}
    features["two"][1, 2, 3] = float("nan")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    perturbed = torch.zeros(3, 2, dtype=torch.bool, device=DEVICE) if training else None
    with pytest.raises(ConcordantError, match=r"'two' \(1 of 3\)"):
        module(features, perturbed=perturbed)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.usefixtures("taken")
def test_nan_can_be_taken_as_absence(monkeypatch):
    module = CALIBRATORS["context"].build({"one": 4, "two": 4, "three": 4}, layouts="btd", nonfinite="absent")
    module = module.to(DEVICE).eval()
    features = {name: torch.randn(3, 5, 4, device=DEVICE) for name in module.names}
    features["two"][1, 2, 3] = float("inf")
    ours = module(features)
    monkeypatch.setattr(fused, "DEVICES", ())
    plain = module(features)
    assert ours.present.tolist() == plain.present.tolist() == [[True] * 3, [True, False, True], [True] * 3]
    torch.testing.assert_close(ours.reliability, plain.reliability)
    torch.testing.assert_close(ours.features, plain.features)


@pytest.mark.usefixtures("taken")
def test_gradients_of_gradients_are_left_to_plain_operations(monkeypatch):
    def second(devices):
        monkeypatch.setattr(fused, "DEVICES", devices)
        x = make(2, 5, 3, "none")[0].requires_grad_()
        summary = pool(x, None, spread=True)
        (first,) = torch.autograd.grad((summary**2).sum(), x, create_graph=True)
        (found,) = torch.autograd.grad((first**3).sum(), x)
        return found

    torch.testing.assert_close(second(("cpu", "cuda")), second(()), rtol=1e-3, atol=1e-4)


def test_kernels_are_for_gpus_and_common_numbers():
    x = torch.ones(2, 3, 4)
    assert not fused.fused(x)
    assert set(fused.DTYPES) == {torch.float32, torch.float16, torch.bfloat16}
    assert "bd" in LAYOUTS


@pytest.mark.usefixtures("taken")
def test_transforms_and_double_precision_take_plain_operations():
    assert not fused.fused(torch.ones(2, 3, 4, dtype=torch.float64))
    seen = []
    torch.func.vmap(lambda x: seen.append(fused.fused(x)) or x)(torch.ones(2, 3, 4))
    assert seen == [False]
