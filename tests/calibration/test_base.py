"""What every calibrator keeps to, ours and the rivals: the frame's promises."""

import copy
import inspect
import pickle
import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations, prune

from concordant import seeding
from concordant.calibration.base import Calibrator
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.calibration.fill import fill_loss, misfit
from concordant.calibration.objective import agreement_loss, clean_loss
from concordant.calibration.perturbation import Perturbation, repeat_targets, with_copies
from concordant.errors import ConcordantError, UsageError
from concordant.rivals import (
    CALIBRATORS,
    EntropyGate,
    GatedUnits,
    JointGate,
    ModalityDropout,
    NoCalibrator,
    SelfGate,
)


class Filled(ContextualCalibrator):
    """The contextual calibrator with fill, under the promises of all."""

    def __init__(self, sizes, **options):
        super().__init__(sizes, fill="context", **options)


TRAINED = [ContextualCalibrator, Filled, SelfGate, JointGate]
# Those that learn from labels alone have their promises in tests/rivals.
OTHERS = [GatedUnits, EntropyGate]
ALL = [*TRAINED, *OTHERS, ModalityDropout, NoCalibrator]
SEEDED = [*TRAINED, EntropyGate]
WITHOUT_CHANCE = {EntropyGate: {"mask": 0.0}, ModalityDropout: {"probability": 0.0}}
LAYOUTS = {"vector": "bd", "steps": "btd", "channels": "bdt", "first": "tbd", "image": "bchw", "video": "bcthw"}
SIZES = {"vector": 6, "steps": 5, "channels": 4, "first": 3, "image": 2, "video": 3}
THREE = {"text": 6, "audio": 4, "vision": 5}

every = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
trained = pytest.mark.parametrize("kind", TRAINED, ids=lambda kind: kind.__name__)


def shake(module, seed=0):
    """Change every weight and running statistic by draws that depend on its name alone."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=seeding.generator(seed, name))
        for name, buffer in module.named_buffers():
            draw = torch.rand(buffer.shape, generator=seeding.generator(seed, name))
            buffer.copy_(draw - 0.5 if name.endswith("mean") else draw + 0.5)
    return module


def build(kind, sizes=THREE, *, shaken=True, **options):
    if kind in SEEDED:
        options.setdefault("seed", 0)
    options = {**WITHOUT_CHANCE.get(kind, {}), **options}
    module = kind(sizes, **options).eval()
    return shake(module) if shaken else module


def mixed(batch=4, dtype=torch.float32):
    draws = seeding.generator(0, "mixed")
    shapes = {
        "vector": (batch, 6),
        "steps": (batch, 7, 5),
        "channels": (batch, 4, 3),
        "first": (5, batch, 3),
        "image": (batch, 2, 3, 4),
        "video": (batch, 3, 2, 3, 2),
    }
    return {name: torch.randn(shape, generator=draws).to(dtype) for name, shape in shapes.items()}


def three(batch=6, length=5, seed=0):
    """Return a vector and two masked sequences, one of which has no valid step in instance 2."""
    draws = seeding.generator(seed, "three")
    features = {
        "text": torch.randn(batch, 6, generator=draws),
        "audio": torch.randn(batch, length, 4, generator=draws),
        "vision": torch.randn(batch, length, 5, generator=draws),
    }
    lengths = torch.randint(1, length + 1, (2, batch), generator=draws)
    lengths[0, 2] = 0
    masks = {name: torch.arange(length) < n.unsqueeze(1) for name, n in zip(("audio", "vision"), lengths, strict=True)}
    return features, masks


def same(one, other, **tolerance):
    torch.testing.assert_close(one, other, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))


def refused(text, error=UsageError):
    return pytest.raises(error, match=re.escape(text))


# Identity


@every
@pytest.mark.parametrize("layouts", ["auto", LAYOUTS], ids=["auto", "named"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_untrained_output_is_the_input_bit_for_bit(kind, layouts, dtype):
    features = mixed(dtype=dtype)
    if layouts == "auto":  # which cannot know "bdt" and "tbd"
        features = {name: x for name, x in features.items() if LAYOUTS[name] not in ("bdt", "tbd")}
    sizes = {name: SIZES[name] for name in features}
    out = build(kind, sizes, shaken=False, layouts=layouts)(features)
    for name, x in features.items():
        assert torch.equal(out.features[name], x)
        assert out.features[name].dtype == dtype
    assert torch.equal(out.reliability, torch.ones_like(out.reliability))
    torch.testing.assert_close(out.logits, torch.full_like(out.logits, 3.0))


@every
def test_untrained_output_is_the_input_with_masks_too(kind):
    features, masks = three()
    out = build(kind, shaken=False)(features, masks=masks)
    for name, x in features.items():
        assert torch.equal(out.features[name], x)


@every
def test_untrained_training_output_is_the_perturbed_input(kind):
    module = build(kind, THREE, shaken=False).train()
    features, masks = three(batch=40)
    out = module(features, masks=masks, generator=seeding.generator(1))
    assert out.perturbed.any()
    for index, name in enumerate(THREE):
        kept = ~out.perturbed[:, index]
        assert torch.equal(out.features[name][kept], features[name][kept])


@trained
def test_trained_output_is_reliability_times_gate_times_input(kind):
    features = mixed(dtype=torch.float64)
    out = build(kind, SIZES, layouts=LAYOUTS)(features)
    for index, name in enumerate(SIZES):
        axes = LAYOUTS[name].replace("c", "d")
        expected = torch.einsum(f"{axes},b,bd->{axes}", features[name], out.reliability[:, index], out.gates[name])
        if out.expected:
            rest = torch.einsum("b,bd->bd", 1 - out.reliability[:, index], out.expected[name])
            shape = [rest.shape["bd".index(axis)] if axis in "bd" else 1 for axis in axes]
            expected = expected + (rest.T if axes.index("d") < axes.index("b") else rest).reshape(shape)
        same(out.features[name], expected, rtol=1e-12, atol=1e-12)
        assert not torch.equal(out.features[name], features[name])


@every
def test_single_present_modality_passes_untouched(kind):
    features = mixed()
    present = {name: torch.eye(len(SIZES), dtype=torch.bool)[index][:4] for index, name in enumerate(SIZES)}
    module = build(kind, SIZES, layouts=LAYOUTS)
    out = module(features, present=present)
    assert out.present.sum(1).tolist() == [1, 1, 1, 1]
    for name, x in features.items():
        assert torch.equal(out.features[name], x)
        assert torch.equal(out.gates[name], torch.ones_like(out.gates[name]))
    assert torch.equal(out.reliability, out.present.float())


# What an instance's result depends on


@every
def test_order_of_modalities_does_not_matter(kind):
    features = mixed()
    backwards = list(reversed(SIZES))
    one = build(kind, SIZES, layouts=LAYOUTS)(features)
    two = build(kind, {name: SIZES[name] for name in backwards}, layouts=LAYOUTS)(features)
    turn = [backwards.index(name) for name in SIZES]
    assert two.names == tuple(backwards)
    for name in SIZES:
        same(one.features[name], two.features[name])
        same(one.gates[name], two.gates[name])
    same(one.reliability, two.reliability[:, turn])
    for cue in ("support", "conflict"):
        same(getattr(one, cue), getattr(two, cue)[:, turn][:, :, turn])


@every
def test_order_in_the_call_does_not_matter(kind):
    features, masks = three()
    module = build(kind)
    one, two = module(features, masks), module(dict(reversed(features.items())), masks)
    assert torch.equal(one.reliability, two.reliability)
    for name in features:
        assert torch.equal(one.features[name], two.features[name])


@every
def test_other_instances_do_not_matter(kind):
    features, masks = three()
    features = {name: x.double() for name, x in features.items()}  # products of one row and of six differ by rounding
    module = build(kind).double()
    whole = module(features, masks)
    for row in range(6):
        alone = module({n: x[[row]] for n, x in features.items()}, {n: x[[row]] for n, x in masks.items()})
        for name in features:
            same(alone.features[name], whole.features[name][[row]])
        same(alone.reliability, whole.reliability[[row]])
        same(alone.support, whole.support[[row]])


@every
@pytest.mark.parametrize("garbage", [1e4, float("nan"), float("inf")])
def test_padding_changes_nothing(kind, garbage):
    features, masks = three()
    module = build(kind)
    before = module(features, masks)
    padded, longer = dict(features), {}
    for name in masks:
        padded[name] = F.pad(features[name], (0, 0, 0, 3), value=garbage)
        longer[name] = F.pad(masks[name], (0, 3))
    after = module(padded, longer)
    same(after.reliability, before.reliability, rtol=0, atol=1e-6)
    for name in features:
        length = features[name].shape[1]
        same(after.features[name][:, :length], before.features[name], rtol=0, atol=1e-6)
        rest = after.features[name][:, length:]
        assert torch.equal(rest, torch.full_like(rest, garbage if garbage == 1e4 else 0.0))


@every
@pytest.mark.parametrize("layout", ["btd", "bdt", "tbd", "bchw", "bcthw"])
def test_padded_equals_unpadded(kind, layout):
    sizes = {"b": 3, "t": 5, "d": 4, "c": 4, "h": 3, "w": 2}
    axis = layout.index("t") if "t" in layout else layout.index("w")
    draws = seeding.generator(0, layout)
    x = torch.randn([sizes[letter] for letter in layout], generator=draws)
    other = torch.randn(3, 6, generator=draws)
    module = build(kind, {"x": 4, "y": 6}, layouts={"x": layout, "y": "bd"})
    plain = module({"x": x, "y": other})
    pad = [0, 0] * (x.dim() - 1 - axis) + [0, 2]
    shape = [x.shape[i] for i, letter in enumerate(layout) if letter in "thw"]
    mask = torch.ones(3, *shape, dtype=torch.bool)
    where = [letter for letter in layout if letter in "thw"].index(layout[axis])
    mask = F.pad(mask, [0, 0] * (len(shape) - 1 - where) + [0, 2])
    padded = module({"x": F.pad(x, pad, value=float("nan")), "y": other}, masks={"x": mask})
    same(padded.features["x"].narrow(axis, 0, x.shape[axis]), plain.features["x"], rtol=0, atol=1e-6)
    same(padded.features["y"], plain.features["y"], rtol=0, atol=1e-6)
    same(padded.reliability, plain.reliability, rtol=0, atol=1e-6)


# Absence


def run_with_gradients(module, features, **how):
    module.zero_grad()
    features = {name: x.clone().requires_grad_() for name, x in features.items()}
    out = module(features, generator=seeding.generator(3), **how)
    loss = out.auxiliary_loss + out.reliability.square().sum()
    for index, name in enumerate(module.names):
        if name in features:
            here = out.present[:, index].view(-1, *[1] * (features[name].dim() - 1))
            loss = loss + torch.where(here, out.features[name], 0).square().sum()
    loss.backward()
    weights = {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}
    return out, {name: x.grad for name, x in features.items()}, weights


@every
@pytest.mark.parametrize("training", [False, True])
def test_absent_values_change_nothing_and_no_gradient(kind, training):
    features, masks = three(batch=8)
    away = torch.tensor([True, False] * 4)
    present = {"text": ~away}
    spoilt = {name: x.clone() for name, x in features.items()}
    spoilt["text"][away] = float("nan")
    spoilt["audio"][~masks["audio"]] = float("inf")
    runs = []
    for given in (features, spoilt):
        module = build(kind, dropout=0.0).train(training)
        runs.append(run_with_gradients(module, given, masks=masks, present=present))
    (one, inputs, weights), (two, spoilt_inputs, spoilt_weights) = runs
    assert two.reliability.isfinite().all()
    assert (two.reliability[away, 0] == 0).all()
    assert torch.equal(one.reliability, two.reliability)
    assert torch.equal(one.auxiliary_loss, two.auxiliary_loss)
    for name, x in two.features.items():
        assert x.isfinite().all()
        valid = torch.isfinite(spoilt[name])
        assert torch.equal(x[valid], one.features[name][valid])
        assert spoilt_inputs[name].isfinite().all()
        assert torch.equal(inputs[name][valid], spoilt_inputs[name][valid])
    for name, gradient in spoilt_weights.items():
        if gradient is not None:
            assert gradient.isfinite().all()
            assert torch.equal(gradient, weights[name])


@every
def test_fully_masked_sequence_is_absent(kind):
    features, masks = three()
    module = build(kind)
    masked = module(features, masks)
    assert masked.present[2].tolist() == [True, False, True]
    del masks["audio"]
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[2] = False
    here = torch.arange(6) != 2
    one = module(features, {**masks, "audio": mask})
    two = module(features, masks, present={"audio": here})
    same(one.reliability, two.reliability)
    for name in features:
        same(one.features[name], two.features[name])


@every
@pytest.mark.parametrize("training", [False, True])
def test_missing_modality_equals_absent_everywhere(kind, training):
    features, masks = three()
    nowhere = torch.zeros(6, dtype=torch.bool)
    without = {name: x for name, x in features.items() if name != "vision"}
    spoilt = {**features, "vision": torch.full_like(features["vision"], float("nan"))}
    del masks["vision"]
    off = {"perturbation": None, "dropout": 0.0}
    one, _, weights = run_with_gradients(build(kind, **off).train(training), without, masks=masks)
    two, _, others = run_with_gradients(
        build(kind, **off).train(training), spoilt, masks=masks, present={"vision": nowhere}
    )
    assert list(one.features) == ["text", "audio"]
    assert (one.reliability[:, 2] == 0).all()
    assert torch.equal(one.reliability, two.reliability)
    for name in one.features:
        assert torch.equal(one.features[name], two.features[name])
    for name, gradient in weights.items():
        # Weights that nothing used have no gradient in one run and zeros in the other.
        other = torch.zeros_like(others[name]) if gradient is None else gradient
        assert other.isfinite().all()
        assert torch.equal(other, others[name])


@every
@pytest.mark.parametrize("training", [False, True])
def test_sequence_without_steps_is_absent(kind, training):
    features, _ = three()
    features["audio"] = torch.zeros(6, 0, 4)
    off = {"perturbation": None, "dropout": 0.0}
    one = build(kind, **off).train(training)(features)
    del features["audio"]
    two = build(kind, **off).train(training)(features)
    assert one.features["audio"].shape == (6, 0, 4)
    assert one.auxiliary_loss.isfinite()
    same(one.reliability, two.reliability)


@pytest.mark.parametrize("kind", [ContextualCalibrator, JointGate])
def test_absence_of_one_is_seen_by_the_others(kind):
    features, _ = three()
    module = build(kind)
    with_all = module(features).reliability[:, 0]
    without = module(features, present={"vision": torch.zeros(6, dtype=torch.bool)}).reliability[:, 0]
    assert (with_all != without).all()


@every
@pytest.mark.parametrize("batch", [0, 1])
def test_smallest_batches_run(kind, batch):
    features, _ = three(batch=3)
    module = build(kind).train()
    out = module({name: x[:batch] for name, x in features.items()}, labels=torch.arange(batch))
    assert out.reliability.shape == (batch, 3)
    assert out.auxiliary_loss.isfinite()


# NaN and infinity


@every
def test_nonfinite_in_a_present_modality_is_an_error_with_names_and_counts(kind):
    features, masks = three()
    features["text"][[0, 3]] = float("nan")
    features["vision"][1, 0, 2] = float("-inf")
    with refused("modality (instances): 'text' (2 of 6), 'vision' (1 of 6); clean them", ConcordantError):
        build(kind)(features, masks)


@every
@pytest.mark.parametrize("training", [False, True])
def test_nonfinite_may_be_taken_as_absent(kind, training):
    features, masks = three()
    features["text"][[0, 3]] = float("nan")
    masks["vision"][1, 0] = True
    features["vision"][1, 0, 2] = float("inf")
    options = {"nonfinite": "absent", "dropout": 0.0}
    out = build(kind, **options).train(training)(features, masks, generator=seeding.generator(1))
    declared = {"text": torch.tensor([False, True, True, False, True, True]), "vision": torch.arange(6) != 1}
    expected = build(kind, dropout=0.0).train(training)(
        features, masks, present=declared, generator=seeding.generator(1)
    )
    assert torch.equal(out.present, expected.present)
    assert torch.equal(out.reliability, expected.reliability)
    assert torch.equal(out.auxiliary_loss, expected.auxiliary_loss)
    for name in features:
        assert out.features[name].isfinite().all()
        assert torch.equal(out.features[name], expected.features[name])


@every
def test_nonfinite_copies_do_not_spoil_the_rest(kind):
    features, _ = three(batch=40)
    features["text"][0] = float("nan")
    module = build(kind, nonfinite="absent", dropout=0.0).train()
    copies = with_copies(module.gather(features), Perturbation(), generator=seeding.generator(1))
    out = module(copies.batch, perturbed=copies.perturbed)
    assert out.present[:, 0].tolist() == ([False] + [True] * 39) * 2
    assert not (out.perturbed & ~out.present).any()
    with refused("'text' (1 of 40)", ConcordantError):
        build(kind).gather(features)


# Training


@every
def test_evaluation_perturbs_and_updates_nothing(kind):
    features, masks = three()
    module = build(kind, perturbation=Perturbation(probability=1))
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    one, two = module(features, masks), module(features, masks)
    assert one.perturbed is None
    assert one.auxiliary_loss.item() == 0
    assert module.auxiliary_loss().item() == 0
    assert torch.equal(one.reliability, two.reliability)
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, before[name])


@trained
def test_running_statistics_learn_from_untouched_present_rows_only(kind):
    features, masks = three(batch=30)
    present = {"text": torch.arange(30) % 5 != 0}
    module = build(kind, shaken=False, perturbation=Perturbation(probability=0.7)).train()
    out = module(features, masks, present=present, generator=seeding.generator(1))
    assert out.perturbed.any()
    for index, name in enumerate(THREE):
        rows = out.present[:, index] & ~out.perturbed[:, index]
        assert rows.sum() < 30
        expected = []
        for row in rows.nonzero().squeeze(1).tolist():
            x = features[name][row]
            steps = x.unsqueeze(0) if name == "text" else x[masks[name][row]]
            expected.append(torch.cat([steps.mean(0), (steps.var(0, correction=0) + 1e-8).sqrt()]))
        summary = torch.stack(expected)
        same(module.standardise[name].mean, summary.mean(0))
        same(module.standardise[name].variance, summary.var(0, correction=0), rtol=1e-4, atol=1e-6)
        energies = [0.5 * (half.square().mean(1) + 1e-12).log() for half in summary.chunk(2, 1)]
        same(module.standardise_energy[name].mean, torch.stack(energies, 1).mean(0))
        assert module.standardise[name].updates.item() == 1


@every
def test_auxiliary_loss_is_the_weighted_sum(kind):
    if kind not in (*TRAINED, NoCalibrator):
        pytest.skip("it has losses of its own, or none")
    features, masks = three(batch=12)
    options = {"clean_weight": 0.7, "dropout": 0.0}
    if issubclass(kind, ContextualCalibrator):
        options["agreement_weight"] = 0.3
    module = build(kind, **options).train()
    labels = torch.arange(12) % 3
    out = module(features, masks, labels=labels, generator=seeding.generator(1))
    copied = build(kind, **options).train()
    summaries = copied._summaries(*replay(copied, features, masks))
    made = copied.modulate(summaries)
    # Without reliability there is nothing to say of what was perturbed.
    weight = 0.7 if module.has_reliability else 0.0
    expected = weight * clean_loss(out.logits, out.perturbed, out.present)
    if isinstance(module, ContextualCalibrator):
        clean = ~out.perturbed.any(1)
        expected = expected + 0.3 * agreement_loss(made.embeddings, clean, out.present, labels)
    if module.fills:
        errors = misfit(copied.expect(made, out.reliability.clamp(max=1)), summaries.vectors)
        expected = expected + 0.1 * fill_loss(errors, out.present & ~out.perturbed)
    same(out.auxiliary_loss, expected)
    assert module.auxiliary_loss() is out.auxiliary_loss


def replay(module, features, masks):
    """Return the perturbed batch and what was perturbed, by the same draws as a forward's."""
    from concordant.calibration.perturbation import perturb

    made = perturb(module.gather(features, masks), module.perturbation, generator=seeding.generator(1))
    return made.batch, made.perturbed


@every
def test_auxiliary_loss_needs_a_forward(kind):
    module = build(kind).train()
    with refused("auxiliary_loss() has nothing to return: call the calibrator on a batch first", ConcordantError):
        module.auxiliary_loss()


@every
def test_perturbation_can_be_switched_off(kind):
    features, masks = three()
    for setting in (False, None):
        out = build(kind, shaken=False, perturbation=setting).train()(features, masks)
        assert out.perturbed is None
        for name, x in features.items():
            assert torch.equal(out.features[name], x)


@every
def test_what_the_caller_touched_is_not_touched_again(kind):
    features, _ = three()
    perturbed = torch.zeros(6, 3, dtype=torch.bool)
    perturbed[0, 1] = True
    module = build(kind, shaken=False, perturbation=Perturbation(probability=1)).train()
    out = module(features, perturbed=perturbed)
    assert torch.equal(out.perturbed, perturbed)
    for name, x in features.items():
        assert torch.equal(out.features[name], x)


@every
def test_clean_and_perturbed_copies_go_through(kind):
    features, masks = three()
    module = build(kind, shaken=False).train()
    copies = with_copies(module.gather(features, masks), Perturbation(), generator=seeding.generator(1))
    labels = repeat_targets(torch.arange(6))
    out = module(copies.batch, perturbed=copies.perturbed, labels=labels)
    assert torch.equal(out.perturbed, copies.perturbed)
    for name, x in features.items():
        assert torch.equal(out.features[name][:6], x)
    assert out.auxiliary_loss.isfinite()


@every
def test_one_generator_gives_one_result(kind):
    features, masks = three()
    outs = [build(kind, dropout=0.0).train()(features, masks, generator=seeding.generator(1)) for _ in range(2)]
    assert torch.equal(outs[0].perturbed, outs[1].perturbed)
    assert torch.equal(outs[0].reliability, outs[1].reliability)


@trained
def test_seed_alone_sets_the_initial_weights(kind):
    torch.manual_seed(1)
    one = kind(THREE, seed=4)
    torch.manual_seed(2)
    two, other = kind(THREE, seed=4), kind(THREE, seed=5)
    differ = []
    for name, weight in one.named_parameters():
        assert torch.equal(weight, two.get_parameter(name))
        differ.append(not torch.equal(weight, other.get_parameter(name)))
    assert any(differ)


@trained
def test_initial_weights_follow_the_global_seed_without_one(kind):
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(next(kind(THREE).heads["text"].parameters()))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@trained
def test_gradients_reach_every_weight_and_input(kind):
    features, masks = three(batch=30)
    module = build(kind).train()
    _, inputs, weights = run_with_gradients(module, features, masks=masks)
    assert all(gradient.abs().sum() > 0 for gradient in inputs.values())
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in weights.values())


# Precision, copies, files, compilation


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("cast", [False, True], ids=["features", "module too"])
def test_other_precisions_work(kind, dtype, cast):
    features, masks = three(batch=12)
    module = build(kind).train()
    if cast:
        module = module.to(dtype)
    features = {name: x.to(dtype).requires_grad_() for name, x in features.items()}
    out = module(features, masks, generator=seeding.generator(1))
    loss = out.auxiliary_loss + sum(x.float().square().mean() for x in out.features.values())
    loss.backward()
    for name, x in features.items():
        assert out.features[name].dtype == dtype
        assert out.features[name].isfinite().all()
        assert x.grad.isfinite().all()
    for weight in module.parameters():
        assert weight.grad.isfinite().all()


@every
def test_float64_agrees_with_float32(kind):
    features, masks = three()
    module = build(kind)
    single = module(features, masks)
    double = module({name: x.double() for name, x in features.items()}, masks)
    same(double.reliability.float(), single.reliability, rtol=1e-4, atol=1e-5)
    for name in features:
        same(double.features[name].float(), single.features[name], rtol=1e-4, atol=1e-5)


@every
def test_dtypes_may_differ_between_modalities(kind):
    features, masks = three()
    features["text"], features["audio"] = features["text"].double(), features["audio"].bfloat16()
    out = build(kind).train()(features, masks)
    assert [x.dtype for x in out.features.values()] == [torch.float64, torch.bfloat16, torch.float32]
    assert out.auxiliary_loss.isfinite()


@every
def test_autocast_keeps_dtypes_and_results(kind):
    features, masks = three(batch=12)
    module = build(kind)
    plain = module(features, masks)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(features, masks)
    assert torch.equal(out.reliability, plain.reliability)
    assert all(x.dtype == torch.float32 for x in out.features.values())
    module.train()
    features = {name: x.requires_grad_() for name, x in features.items()}
    with torch.autocast("cpu", torch.bfloat16):
        out = module(features, masks)
        loss = out.auxiliary_loss + sum(x.square().mean() for x in out.features.values())
    loss.backward()
    assert all(x.grad.isfinite().all() for x in features.values())
    assert all(weight.grad.isfinite().all() for weight in module.parameters())


@every
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["deepcopy", "pickle"]
)
def test_copies_after_a_training_forward_are_equal(kind, clone):
    features, masks = three()
    module = build(kind).train()
    module(features, masks)
    other = clone(module)
    with refused("auxiliary_loss() has nothing to return", ConcordantError):
        other.auxiliary_loss()
    assert module.auxiliary_loss().isfinite()
    one, two = module.eval()(features, masks), other.eval()(features, masks)
    assert torch.equal(one.reliability, two.reliability)
    for name in features:
        assert torch.equal(one.features[name], two.features[name])


@every
def test_weights_go_through_safetensors(kind, tmp_path):
    features, masks = three()
    module = build(kind).train()
    module(features, masks)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    other = build(kind, shaken=False)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    one, two = module.eval()(features, masks), other(features, masks)
    assert torch.equal(one.reliability, two.reliability)
    for name in features:
        assert torch.equal(one.features[name], two.features[name])


@pytest.mark.compile
@pytest.mark.parametrize(
    ("kind", "backend"),
    [(ContextualCalibrator, "inductor"), (SelfGate, "eager"), (JointGate, "eager"), (NoCalibrator, "eager")],
)
def test_compiled_equals_eager_and_raises_too(kind, backend):
    features, masks = three()
    module = build(kind)
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    with torch.no_grad():
        one, two = module(features, masks), compiled(features, masks)
        same(two.reliability, one.reliability)
        same(two.support, one.support)
        for name in features:
            same(two.features[name], one.features[name])
        features["text"][0, 0] = float("nan")
        with refused("'text' (1 of 6)", ConcordantError):
            compiled(features, masks)
        features["text"][0, 0] = 0.0
        assert compiled(features, masks).reliability.isfinite().all()
    torch.compiler.reset()


@pytest.mark.compile
def test_compiled_untrained_output_is_the_input_bit_for_bit():
    features, _ = three()
    compiled = torch.compile(build(ContextualCalibrator, shaken=False, nonfinite="absent"), backend="aot_eager")
    with torch.no_grad():
        out = compiled(features)
    for name, x in features.items():
        assert torch.equal(out.features[name], x)
    torch.compiler.reset()


# Arguments


@every
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nonfinite": "skip"}, "nonfinite must be 'raise' or 'absent'; found 'skip'"),
        ({"clean_weight": -1}, "clean_weight must not be negative; found -1"),
        ({"clean_weight": float("nan")}, "clean_weight must not be negative; found nan"),
        ({"dropout": 1.0}, "dropout must lie in [0, 1); found 1.0"),
        ({"dropout": -0.1}, "dropout must lie in [0, 1); found -0.1"),
        ({"perturbation": 0.5}, "perturbation must be True, False, None or a Perturbation; found 0.5"),
        ({"layouts": "db"}, "unknown layout 'db' for 'text'; choose from: auto, bd"),
    ],
)
def test_constructor_refuses(kind, given, message):
    if not set(given) <= set(inspect.signature(kind).parameters):
        pytest.skip("it has no such argument")
    with refused(message):
        kind(THREE, **given)


@every
def test_constructor_refuses_sizes_without_names(kind):
    with refused("sizes must be a dictionary from modality to feature size; found [4, 3]"):
        kind([4, 3])


def test_constructor_says_all_faults_at_once():
    with pytest.raises(UsageError) as caught:
        Calibrator(THREE, nonfinite="x", clean_weight=-1, agreement_weight=-2, dropout=3)
    for name in ("nonfinite", "clean_weight", "agreement_weight", "dropout"):
        assert f"{name} must" in str(caught.value)


@every
def test_wrong_features_are_refused_at_the_edge(kind):
    with refused("features['text'] must have layout 'bd' with feature size 6; found shape (2, 7)"):
        build(kind)({"text": torch.zeros(2, 7)})


@every
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"labels": torch.zeros(6, 1, dtype=torch.long)},
            "labels must be class indices, integers of shape (6,); found torch.int64 (6, 1)",
        ),
        ({"labels": torch.zeros(5, dtype=torch.long)}, "integers of shape (6,); found torch.int64 (5,)"),
        ({"labels": torch.zeros(6)}, "integers of shape (6,); found torch.float32 (6,)"),
        (
            {"perturbed": torch.zeros(6, 2, dtype=torch.bool)},
            "perturbed must be a bool tensor of shape (6, 3); found torch.bool (6, 2)",
        ),
        (
            {"perturbed": torch.zeros(6, 3)},
            "perturbed must be a bool tensor of shape (6, 3); found torch.float32 (6, 3)",
        ),
    ],
)
def test_wrong_labels_and_touched_are_refused(kind, given, message):
    with refused(message):
        build(kind).train()(three()[0], **given)


@every
def test_batch_of_other_modalities_is_refused(kind):
    batch = build(kind, {"text": 6, "video": 4}).gather({"text": torch.zeros(2, 6)})
    with refused("the batch was gathered for ['text', 'video']; the modalities are ['text', 'audio', 'vision']"):
        build(kind)(batch)


def test_base_leaves_the_modulation_to_its_kinds():
    with pytest.raises(NotImplementedError):
        Calibrator(THREE)(three()[0])


@every
def test_repr_names_modalities_with_size_and_layout(kind):
    module = kind({"text": 6, "audio": 4}, layouts={"audio": "bdt"})
    assert "text=6 (auto), audio=4 (bdt)" in repr(module)


@every
def test_auxiliary_loss_follows_the_device_of_the_module(kind):
    module = kind(THREE).to("meta").eval()
    assert module.auxiliary_loss().device.type == "meta"


# Layers are called: whatever replaces or surrounds a linear layer works


def layers(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def two_steps(module):
    """Train for two steps with labels; the second fails where a layer kept a graph of the first."""
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(2):
        features, masks = three()
        out = module.train()(features, masks, labels=torch.arange(6) % 3)
        loss = out.auxiliary_loss + sum(x.square().mean() for x in out.features.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()(features, masks)


class Adapted(nn.Module):
    """A low-rank adapter around a frozen layer."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def learnt(name):
    """Build any registered calibrator for three classes with weights that are not their first."""
    entry = CALIBRATORS[name]
    torch.manual_seed(0)
    options = {"classes": 3} if entry.classes or entry.unimodal else {}
    return shake(entry.build(THREE, **{**entry.options, **options}))


registered = pytest.mark.parametrize("name", list(CALIBRATORS))


@registered
def test_hooks_of_every_layer_run(name):
    module, seen = learnt(name).eval(), set()
    for number, layer in enumerate(layers(module)):
        layer.register_forward_hook(lambda *_, number=number: seen.add(number))
    module(*three())
    assert seen == set(range(len(layers(module))))


@registered
@pytest.mark.parametrize("how", ["pruned", "weight norm", "spectral norm", "old weight norm", "adapted"])
def test_layers_may_be_changed_from_outside(name, how):
    module, plain = learnt(name).eval(), learnt(name).eval()
    if not layers(module):
        pytest.skip("it has no layers")
    for path, layer in list(module.named_modules()):
        if isinstance(layer, nn.Linear):
            if how == "pruned":
                prune.l1_unstructured(layer, "weight", 0.5)
            elif how == "weight norm":
                parametrizations.weight_norm(layer)
            elif how == "spectral norm":
                parametrizations.spectral_norm(layer)
            elif how == "old weight norm":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    nn.utils.weight_norm(layer)
            else:
                parent, _, last = path.rpartition(".")
                setattr(module.get_submodule(parent), last, Adapted(layer))
    features, masks = three()
    found, before = module(features, masks), plain(features, masks)
    equal = all(torch.allclose(found.features[one], before.features[one], atol=1e-5) for one in features)
    assert equal == ("weight norm" in how)  # which changes nothing before training
    after = two_steps(module)
    assert all(x.isfinite().all() for x in after.features.values())
    if how == "pruned":
        assert all((layer.weight == 0).float().mean() >= 0.4 for layer in layers(module) if layer.weight.numel() > 1)


@registered
@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantisation_is_close(name):
    module = learnt(name).eval()
    features, masks = three()
    quantised = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
    assert not layers(quantised)
    found, expected = quantised(features, masks), module(features, masks)
    for one in features:
        torch.testing.assert_close(found.features[one], expected.features[one], rtol=0.1, atol=0.1)
    double = quantised({one: x.double() for one, x in features.items()}, masks)
    assert all(double.features[one].dtype == torch.float64 for one in features)


def test_a_batch_takes_no_further_masks_or_presence():
    calibrate = ContextualCalibrator({"a": 3, "b": 2}, seed=0)
    given = calibrate.gather({"a": torch.randn(4, 3), "b": torch.randn(4, 2)})
    with pytest.raises(UsageError, match="a batch of `gather` has masks and presence already"):
        calibrate(given, present={"a": torch.zeros(4, dtype=torch.bool)})
