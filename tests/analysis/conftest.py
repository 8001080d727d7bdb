"""A world where the truth is known: what is wrong, in which modality of which instance, in which dimensions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from concordant import ContextualCalibrator, repeat_targets, with_copies

CLASSES, WRONG = 4, slice(5, 10)
SIZES = {"a": 14, "b": 8, "c": 8}


def make_world(count, seed):
    """Modality b is noise for odd instances; dimensions 5 to 9 of modality a are another class's for every fourth."""
    draws = np.random.default_rng(seed)
    prototypes = {m: np.random.default_rng(99).normal(0, 1.5, (CLASSES, d)) for m, d in SIZES.items()}
    labels = draws.integers(0, CLASSES, count)
    x = {m: prototypes[m][labels] + 0.7 * draws.standard_normal((count, d)) for m, d in SIZES.items()}
    noisy = np.arange(count) % 2 == 1
    wrong = np.arange(count) % 4 == 0
    x["b"][noisy] = 1.5 * draws.standard_normal((noisy.sum(), SIZES["b"]))
    other = (labels + draws.integers(1, CLASSES, count)) % CLASSES
    x["a"][wrong, WRONG] = 2.0 * prototypes["a"][other[wrong], WRONG]
    return SimpleNamespace(
        x={m: values.astype(np.float32) for m, values in x.items()}, labels=labels, noisy=noisy, wrong=wrong
    )


class Calibrated(nn.Module):
    """A calibrator before a linear head on all features side by side; the twin is the head alone."""

    def __init__(self, calibrator):
        super().__init__()
        self.calibrator = calibrator
        self.head = nn.Linear(sum(SIZES.values()), CLASSES)

    def forward(self, features, masks=None, present=None):
        if self.calibrator is None:
            return SimpleNamespace(logits=self.join(features))
        out = self.calibrator(features, present=present)
        return SimpleNamespace(logits=self.join(out.features), calibration=out)

    def join(self, features):
        return self.head(torch.cat([features[m] for m in SIZES], 1))


def train(model, world, *, perturbed):
    """Train on clean and perturbed copies, the calibrator with its own loss; the twin on the same features."""
    torch.manual_seed(0)
    judge = model.calibrator if model.calibrator is not None else ContextualCalibrator(SIZES, layouts="bd", seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    x = {m: torch.from_numpy(values) for m, values in world.x.items()}
    y = torch.from_numpy(world.labels)
    draws = torch.Generator().manual_seed(0)
    for _ in range(300):
        rows = torch.randint(len(y), (128,), generator=draws)
        batch = judge.gather({m: values[rows] for m, values in x.items()})
        hurt = with_copies(batch, ContextualCalibrator(SIZES).perturbation, generator=draws)
        targets = repeat_targets(y[rows])
        loss = torch.zeros(())
        features = hurt.batch.features
        if model.calibrator is not None:
            out = model.calibrator(hurt.batch, labels=targets, touched=hurt.touched)
            features, loss = out.features, out.auxiliary_loss
        loss = loss + nn.functional.cross_entropy(model.join(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def planted():
    """A calibrated model and its uncalibrated twin, trained in the planted world, with a test part of it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        world = make_world(2000, 0)
        twin = train(Calibrated(None), world, perturbed=True)
        ours = train(Calibrated(ContextualCalibrator(SIZES, layouts="bd", seed=0)), world, perturbed=True)
    return SimpleNamespace(train=world, test=make_world(800, 1), ours=ours, twin=twin, wrong=WRONG)
