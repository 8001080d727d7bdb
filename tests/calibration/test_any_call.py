"""Random calls of every calibrator: any layouts, precisions, sizes of values, masks, absences, classes and batches.

Finite features give finite results; before training they pass bit for bit; what an absent or padded place holds has no
influence at all.
"""

import math
import random
from contextlib import nullcontext
from dataclasses import fields
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant import seeding
from concordant.calibration import ops
from concordant.calibration.perturbation import Perturbation, repeat_targets, with_copies
from concordant.modalities import AUTO, BY_AXES, LAYOUTS, over
from concordant.rivals import ABLATIONS, CALIBRATORS

KINDS = (*CALIBRATORS, *ABLATIONS, "after-fusion")
HALVES = (torch.float16, torch.bfloat16)
PRECISIONS = (*HALVES, torch.float32, torch.float64)
GARBAGE = (float("nan"), float("inf"), -float("inf"), 1e30, -6e4, 0.0)
SCALES = (1.0, 1.0, 1.0, 0.0, 1e-30, 300.0, 3e4, 1e10, 1e15, 2e19, 1e30, 1e300)


class Case:
    """One call, drawn from a seed: the calibrator with its weights, and features, masks, presence and labels."""

    def __init__(self, seed):
        dice, draws = random.Random(seed), seeding.generator(seed, "any call")  # noqa: S311
        self.seed, self.kind = seed, dice.choice(KINDS)
        entry = CALIBRATORS[self.kind]
        count, batch = dice.choice((2, 2, 3, 3, 4, 7)), dice.choice((0, 1, 2, 3, 5, 8))
        classes = dice.randint(2, 4) if entry.classes or (entry.unimodal and dice.random() < 0.5) else None
        self.training, self.copies, self.shaken = (dice.random() < share for share in (0.6, 0.3, 0.6))
        self.layouts, self.features, self.garbage, self.valid, self.masks, self.present = {}, {}, {}, {}, {}, {}
        sizes, precision = {}, dice.choice((*PRECISIONS, None))
        for name in "abcdefg"[:count]:
            layout = LAYOUTS[dice.choice(list(LAYOUTS))]
            sizes[name] = dice.randint(1, 5)
            shape = [dice.choice((0, 1, 1, 2, 3, 4, 600 if dice.random() < 0.1 else 5)) for _ in layout.name]
            shape[layout.batch], shape[layout.feature] = batch, sizes[name]
            dtype = precision or dice.choice(PRECISIONS)
            scale = min(dice.choice(SCALES), torch.finfo(dtype).max)
            x = (torch.rand(shape, generator=draws, dtype=torch.float64) * 2 - 1) * scale
            self.layouts[name] = dice.choice(
                (layout.name, layout.name, AUTO if layout.name in BY_AXES.values() else layout.name)
            )
            length = math.prod(shape[axis] for axis in layout.positions)
            here = torch.ones(batch, dtype=torch.bool)
            if dice.random() < 0.4:
                self.present[name] = here = torch.rand(batch, generator=draws) < 0.7
            if dice.random() < 0.15:
                self.present[name] = here = torch.zeros(batch, dtype=torch.bool)
                if dice.random() < 0.5:
                    continue
            valid = here.unsqueeze(1).expand(batch, length)
            if layout.positions and dice.random() < 0.5:
                self.masks[name] = torch.rand((batch, length), generator=draws) < dice.choice((0.2, 0.6, 0.95))
                valid = valid & self.masks[name]
            self.features[name] = x.to(dtype)
            keep = over(valid.unsqueeze(2), x, layout) if x.numel() else torch.ones_like(x, dtype=torch.bool)
            self.valid[name] = keep.expand_as(x)
            choices = torch.tensor(GARBAGE)[torch.randint(len(GARBAGE), shape, generator=draws)]
            self.garbage[name] = torch.where(keep, x, choices).to(dtype)
        if not self.features:
            self.features = {"a": torch.zeros(batch, sizes["a"])}
            self.layouts["a"], self.present["a"] = "bd", torch.zeros(batch, dtype=torch.bool)
            self.masks.pop("a", None)
            self.garbage, self.valid = dict(self.features), {"a": torch.zeros(batch, sizes["a"], dtype=torch.bool)}
        self.labels = None
        if dice.random() < 0.6 or entry.classes:
            self.labels = torch.randint(classes or 3, (batch,), generator=draws)
        self.autocast = dice.choice((None, None, *HALVES))
        self.block = dice.choice((ops.BLOCK, 256))
        options = {
            **entry.options,
            **({"classes": classes} if classes else {}),
            **({"fused": 3} if entry.fused else {}),
        }
        if dice.random() < 0.3:
            kinds = dice.choice((("noise",), ("swap", "zero"), ("dimensions",)))
            options["perturbation"] = Perturbation(probability=0.9, kinds=kinds, variation=dice.choice((0.0, 0.5)))
        torch.manual_seed(seed)
        self.calibrator = entry.build(sizes, layouts=self.layouts, **options)
        if self.shaken:
            strength = dice.choice((0.3, 3.0, 400.0))
            with torch.no_grad():
                for weight in self.calibrator.parameters():
                    weight += strength * torch.randn(weight.shape, generator=draws)
        if dice.random() < 0.3:
            self.calibrator.to(dice.choice(HALVES))
        if dice.random() < 0.2:
            self.calibrator.tolerate(1.0)

    def call(self, features):
        """Return the result of one call, the statistics after it, which are put back, and gradients by name."""
        calibrator, labels = self.calibrator.train(self.training), self.labels
        features = {name: x.clone().requires_grad_() for name, x in features.items()}
        before = {name: buffer.clone() for name, buffer in calibrator.named_buffers()}
        torch.manual_seed(self.seed)
        autocast = torch.autocast("cpu", self.autocast) if self.autocast else nullcontext()
        with autocast, mock.patch.object(ops, "BLOCK", self.block):
            if self.copies and self.training:
                batch = calibrator.gather(features, self.masks, self.present)
                twice = with_copies(batch, calibrator.perturbation or Perturbation())
                labels = None if labels is None else repeat_targets(labels)
                out = calibrator(twice.batch, labels=labels, perturbed=twice.perturbed)
            else:
                out = calibrator(features, self.masks, self.present, labels=labels)
        state = {name: buffer.clone() for name, buffer in calibrator.named_buffers()}
        calibrator.load_state_dict(before, strict=False)
        total = out.auxiliary_loss + out.reliability.sum() + out.support.sum() + out.logits.sigmoid().sum()
        total = total + sum(gate.sum() for gate in out.gates.values())
        inputs = {**dict(calibrator.named_parameters()), **{f"features.{name}": x for name, x in features.items()}}
        grads = [None] * len(inputs)
        if total.requires_grad:
            with mock.patch.object(ops, "BLOCK", self.block):
                grads = torch.autograd.grad(total, list(inputs.values()), allow_unused=True)
        return out, state, {name: x for name, x in zip(inputs, grads, strict=True) if x is not None}


def tensors(out, case):
    """Yield every tensor of a result by name, features at their valid places alone."""
    for field in fields(out):
        value = getattr(out, field.name)
        if field.name == "features":
            for name, x in value.items():
                valid, axis = case.valid[name], LAYOUTS[layout(case, name)].batch
                if x.shape != valid.shape:
                    valid = torch.cat([valid, valid], axis)
                yield f"features.{name}", torch.where(valid, x, 0)
        elif isinstance(value, dict):
            yield from ((f"{field.name}.{name}", x) for name, x in value.items())
        elif isinstance(value, torch.Tensor):
            yield field.name, value


def layout(case, name):
    given = case.layouts[name]
    return BY_AXES[case.features[name].dim()] if given == AUTO else given


def check(seed):
    case = Case(seed)
    plain, state, grads = case.call(case.features)
    about = f"{case.kind}, case {seed}"
    for name, x in plain.features.items():
        assert x.dtype == case.features[name].dtype, about
        assert x.isfinite().all(), f"{about}: {name}"
    for name, x in (*tensors(plain, case), *state.items()):
        assert x.isfinite().all(), f"{about}: {name}"
    spoilt, spoilt_state, spoilt_grads = case.call(case.garbage)
    for (name, x), (_, y) in zip(tensors(plain, case), tensors(spoilt, case), strict=True):
        assert torch.equal(x, y), f"{about}: {name} differs by {(x.double() - y.double()).abs().max()}"
    assert all(torch.equal(state[name], spoilt_state[name]) for name in state), about
    # Through layers in half precision a gradient may overflow on its way to features in another precision.
    halves = any(weight.dtype in HALVES for weight in (*grads.values(), *case.calibrator.parameters()))
    for name, x in grads.items():
        assert x.isfinite().all() or halves, f"{about}: gradient of {name}"
        assert torch.equal(x.nan_to_num(), spoilt_grads[name].nan_to_num()), f"{about}: gradient of {name} differs"
        if name.startswith("features."):
            assert not x[~case.valid[name.removeprefix("features.")]].any(), f"{about}: gradient of {name} leaks"
    if not case.training and not case.shaken and CALIBRATORS[case.kind].identity:
        for name, x in case.features.items():
            assert torch.equal(plain.features[name], x), f"{about}: {name} is not the input"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_finite_gives_finite_and_what_does_not_count_has_no_influence(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(12))
def test_thousands_of_calls(block):
    for seed in range(500 * block, 500 * (block + 1)):
        check(seed)
