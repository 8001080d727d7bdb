"""Fill and blend: equations against plain tensor code, identity, absence, precision, vmap and export."""

import pytest
import torch
from torch import nn

from concordant import ContextualCalibrator, UsageError, seeding
from concordant.rivals.after_fusion import AfterFusion
from tests.calibration.reference import summary

SIZES = {"text": 6, "audio": 4, "vision": 5}
LAYOUTS = {"text": "bd", "audio": "btd", "vision": "bchw"}
SHAPES = {"text": (8, 6), "audio": (8, 7, 4), "vision": (8, 5, 2, 3)}


def shaken(seed=0, **options):
    options = {"fill": "context", "layouts": LAYOUTS, **options}
    module = ContextualCalibrator(SIZES, seed=seed, dropout=0.0, **options)
    draws = seeding.generator(seed, "weights")
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=draws)
        for name, buffer in module.named_buffers():
            values = torch.rand(buffer.shape, generator=draws)
            buffer.copy_(values - 0.5 if name.endswith("mean") else values + 0.5)
    return module.eval()


def given(dtype=torch.float32):
    draws = seeding.generator(0, "features")
    features = {name: torch.randn(shape, generator=draws).to(dtype) for name, shape in SHAPES.items()}
    lengths = torch.tensor([7, 3, 1, 7, 5, 2, 7, 4])
    present = {"vision": torch.arange(8) % 3 != 1}
    return features, {"audio": torch.arange(7) < lengths.unsqueeze(1)}, present


def positions(name, features):
    x, size = features[name], SIZES[name]
    return x.reshape(8, size, -1).mT if name == "vision" else x.view(8, -1, size)


def by_hand(module, features, masks, present, out):
    """Return b of every modality, (B, D), and what is expected of the features, from the equations alone."""
    here = torch.stack([present.get(name, torch.ones(8, dtype=torch.bool)) for name in SIZES], 1)
    z, found = {}, {}
    for m, name in enumerate(SIZES):
        flat = positions(name, features)
        valid = here[:, m, None] & masks.get(name, torch.ones(flat.shape[:2], dtype=torch.bool))
        s, running = summary(flat, valid, name != "text"), module.standardise[name]
        u = ((s - running.mean) / (running.variance + 1e-4).sqrt()).clamp(-5, 5)
        z[name] = nn.functional.layer_norm(module.heads[name].compare(u), (32,), eps=1e-12)
    # Reliability before the tolerance, as the logits have it.
    a = here * (torch.sigmoid(out.logits) / torch.sigmoid(torch.tensor(3.0))).clamp(max=1)
    for name in SIZES:
        others = [a[:, list(SIZES).index(n), None] * z[n] for n in sorted(SIZES) if n != name]
        first, _, last = module.predictors[name]
        predicted = last(nn.functional.gelu(first(torch.cat(others, 1))))
        running, size = module.standardise[name], SIZES[name]
        b = running.mean[:size] + (running.variance[:size] + 1e-4).sqrt() * predicted
        m = list(SIZES).index(name)
        w, wide = out.reliability[:, m], {"text": (8, 6), "audio": (8, 1, 4), "vision": (8, 5, 1, 1)}[name]
        w = w.view(8, *[1] * (features[name].dim() - 1))
        x = w * out.gates[name].view(wide) * features[name] + (1 - w) * b.view(wide)
        keep = here[:, m, None] & masks.get(name, torch.ones(8, 1, dtype=torch.bool))
        keep = keep.view(*keep.shape, 1) if name == "audio" else keep.view(8, *[1] * (features[name].dim() - 1))
        found[name] = b, torch.where(keep, x, features[name])
    return found


@pytest.mark.parametrize("tolerance", [None, 1.0])
def test_expected_and_blended_features_equal_the_equations(tolerance):
    module, batch = shaken(), given()
    module.tolerate(tolerance)
    with torch.no_grad():
        out = module(*batch)
        for name, (b, x) in by_hand(module, *batch, out).items():
            torch.testing.assert_close(out.expected[name], b, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(out.features[name], x, rtol=1e-4, atol=1e-5)


def test_the_loss_is_a_tenth_of_the_mean_square_over_clean_present_modalities():
    features, masks, present = given()
    perturbed = torch.zeros(8, 3, dtype=torch.bool)
    perturbed[torch.arange(4), torch.tensor([0, 1, 2, 0])] = True
    losses, modules = [], [shaken(), shaken(fill="mean")]
    modules[1].load_state_dict(modules[0].state_dict(), strict=False)
    for module in modules:
        losses.append(module.train()(features, masks, present, perturbed=perturbed).auxiliary_loss)
    out, module = modules[0].eval()(features, masks, present), modules[0]
    errors, mean_errors = [], []
    for m, name in enumerate(SIZES):
        flat = positions(name, features)
        valid = out.present[:, m, None] & masks.get(name, torch.ones(flat.shape[:2], dtype=torch.bool))
        running, size = module.standardise[name], SIZES[name]
        spread = (running.variance[:size] + 1e-4).sqrt()
        u = ((summary(flat, valid, False) - running.mean[:size]) / spread).clamp(-5, 5)
        counted = out.present[:, m] & ~perturbed[:, m]
        errors.append((u - (out.expected[name] - running.mean[:size]) / spread).square().mean(1)[counted])
        mean_errors.append(u.square().mean(1)[counted])
    expected = 0.1 * (torch.cat(errors).mean() - torch.cat(mean_errors).mean())
    torch.testing.assert_close(losses[0] - losses[1], expected, rtol=1e-3, atol=1e-5)
    losses[0].backward()
    assert all(weight.grad.abs().sum() > 0 for weight in module.predictors.parameters())
    assert all(head.compare.weight.grad.abs().sum() > 0 for head in module.heads.values())


@pytest.mark.parametrize("fill", ["mean", "context"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_within_the_tolerance_features_pass_bit_for_bit(fill, dtype):
    features, masks, present = given(dtype)
    features["text"][0] = -0.0
    module = shaken(fill=fill)
    with torch.no_grad():
        for head in module.heads.values():
            head.gate.weight.zero_(), head.gate.bias.zero_()
    module.tolerate(2.0)
    out = module(features, masks, present)
    for m, name in enumerate(SIZES):
        clean = out.reliability[:, m] == 1
        assert clean.any()
        assert torch.equal(out.features[name][clean].double().sign(), features[name][clean].double().sign())
        one, other = (x[name][clean].contiguous().view(torch.uint8) for x in (out.features, features))
        assert torch.equal(one, other)
    assert any((out.reliability[:, m] < 1).logical_and(out.present[:, m]).any() for m in range(3))


def test_a_fill_of_the_mean_blends_with_the_running_mean():
    module, (features, masks, present) = shaken(fill="mean"), given()
    out = module(features, masks, present)
    for name, size in SIZES.items():
        assert torch.equal(out.expected[name], module.standardise[name].mean[:size].expand(8, -1))
    assert not any(key.startswith("predictors") for key in module.state_dict())
    assert shaken(fill="none")(features, masks, present).expected == {}


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_an_absent_modality_is_given_what_the_others_let_one_expect(garbage):
    features, masks, present = given()
    present["audio"], absent = torch.arange(8) != 1, ~present["vision"]
    features["vision"][absent] = garbage
    features["audio"][1] = garbage
    kept, filled = (shaken(absent=absent)(features, masks, present) for absent in ("keep", "fill"))
    for name in SIZES:
        torch.testing.assert_close(kept.expected[name], filled.expected[name])
        assert filled.features[name].isfinite().all()
    b = filled.expected["vision"][absent][:, :, None, None].expand(-1, -1, 2, 3)
    assert torch.equal(filled.features["vision"][absent], b)
    audio = filled.features["audio"][1]
    assert torch.equal(audio[:3], filled.expected["audio"][1].expand(3, -1))
    # Padded steps are not filled, and there is no feature of a modality that the call leaves out.
    assert torch.equal(audio[3:], kept.features["audio"][1, 3:])
    alone = shaken(absent="fill")({"text": features["text"]})
    assert torch.equal(alone.features["text"], features["text"])
    assert set(alone.features) == {"text"}
    assert alone.expected["audio"].shape == (8, 4)
    assert not alone.expected["audio"].eq(alone.expected["audio"][0]).all()


def test_whoever_is_absent_has_no_influence_on_what_is_expected():
    features, masks, present = given()
    one = shaken()(features, masks, present)
    features["vision"][~present["vision"]] = 7
    other = shaken()(features, masks, present)
    assert all(torch.equal(one.expected[name], other.expected[name]) for name in SIZES)


def test_large_expected_features_stay_in_the_range_of_half_precision():
    module, (features, masks, present) = shaken(absent="fill"), given(torch.float16)
    for running in module.standardise.values():
        running.mean.fill_(1e6)
    out = module(features, masks, present)
    assert all(x.dtype == torch.float16 and x.isfinite().all() for x in out.features.values())


def test_seeds_in_one_pass_equal_single_passes():
    modules, (features, masks, present) = [shaken(seed) for seed in (0, 1)], given()
    parameters, buffers = torch.func.stack_module_state(modules)
    call = lambda p, b: torch.func.functional_call(modules[0], (p, b), (features, masks, present)).features  # noqa: E731
    together = torch.vmap(call)(parameters, buffers)
    for row, module in enumerate(modules):
        for name, x in module(features, masks, present).features.items():
            torch.testing.assert_close(together[name][row], x)


class Features(nn.Module):
    def __init__(self, calibrate):
        super().__init__()
        self.calibrate = calibrate

    def forward(self, features, masks, present):
        return self.calibrate(features, masks, present).features


@pytest.mark.compile
def test_a_filling_calibrator_can_be_exported(tmp_path):
    import onnxruntime

    module, batch = Features(shaken(absent="fill")).eval(), given()
    expected = module(*batch)
    exported = torch.export.export(module, batch)
    torch.testing.assert_close(exported.module()(*batch), expected)
    torch.onnx.export(exported, f=tmp_path / "filled.onnx", dynamo=True, optimize=False, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "filled.onnx")
    flat = [x.numpy() for part in batch for x in part.values()]
    found = session.run(None, dict(zip([one.name for one in session.get_inputs()], flat, strict=True)))
    for one, other in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ContextualCalibrator, {"fill": "zero"}, "fill must be 'none' or 'mean' or 'context'; found 'zero'"),
        (ContextualCalibrator, {"absent": "drop"}, "absent must be 'keep' or 'fill'; found 'drop'"),
        (ContextualCalibrator, {"absent": "fill"}, "absent='fill' needs features to fill with; set fill='context'"),
        (AfterFusion, {"fill": "mean", "fused": 3}, "AfterFusion does not scale the features, which fill='mean' needs"),
    ],
)
def test_wrong_fills_are_refused(kind, options, message):
    with pytest.raises(UsageError, match=message):
        kind(SIZES, **options)
