"""The validation score and its standard error, against NumPy's of every instance."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from concordant.calibration import Perturbation
from concordant.training import validation
from concordant.training.batches import Tensors
from concordant.training.validation import VALIDATION_COPIES, validation_score


class Telling(nn.Module):
    """Says what its input says, and of perturbed copies the opposite where the draws say so."""

    def __init__(self):
        super().__init__()
        self.calibrator, self.told, self.encoded = nn.Identity(), [], 0

    def encode(self, inputs, masks, present):
        self.encoded += len(inputs["a"])
        return SimpleNamespace(features=inputs)

    def calibrate_and_fuse(self, batch, *, perturbation, generator):
        x = batch.features["a"]
        if perturbation is not None:
            sign = torch.where(torch.rand(len(x), 1, generator=generator) < 0.3, -1.0, 1.0)
            x = torch.cat([x, sign * x])
        self.told.append((self.calibrator.ranks, x))
        return SimpleNamespace(logits=x)


def part(count, kind):
    draws = torch.Generator().manual_seed(count)
    if kind == "real":
        labels = torch.randn(count, generator=draws)
        inputs = labels[:, None] + torch.rand(count, 1, generator=draws)
    else:
        labels = torch.randint(3, (count,), generator=draws)
        inputs = nn.functional.one_hot(labels, 3) + torch.rand(count, 3, generator=draws) * 1.5
    return Tensors({"a": inputs.float()}, labels, {}, {})


def right(logits, labels, kind):
    """Return what each instance counts."""
    logits, labels = logits.double().numpy(), labels.numpy()
    return (logits.argmax(1) == labels).astype(float) if kind == "class" else -np.abs(logits[:, 0] - labels)


@pytest.mark.parametrize("kind", ["class", "real"])
@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize("count", [1, 2, 23])
def test_the_score_is_the_mean_and_its_error_that_of_the_instances(count, chunk, kind, monkeypatch):
    monkeypatch.setattr(validation, "_EVALUATION_BATCH", chunk)
    valid = part(count, kind)
    values = right(valid.inputs["a"], valid.labels, kind)
    score, error = validation_score(Telling(), valid, None, 0, kind=kind)
    assert score == pytest.approx(values.mean(), abs=1e-6)
    assert error == pytest.approx(values.std() / count**0.5, abs=1e-5)


@pytest.mark.parametrize("kind", ["class", "real"])
@pytest.mark.parametrize("chunk", [7, 512])
def test_with_perturbations_it_is_the_mean_over_both_halves_of_all_copies(chunk, kind, monkeypatch):
    monkeypatch.setattr(validation, "_EVALUATION_BATCH", chunk)
    valid, model = part(23, kind), Telling()
    score, error = validation_score(model, valid, Perturbation(), 3, kind=kind)
    values = []
    for place, (_, logits) in enumerate(model.told):
        start = place % (len(model.told) // VALIDATION_COPIES) * chunk
        values.append(right(logits, valid.labels[start : start + chunk].repeat(2), kind))
    values = np.concatenate(values)
    assert model.encoded == 23  # once for all copies
    assert len(values) == 2 * VALIDATION_COPIES * 23
    assert values.mean() < right(valid.inputs["a"], valid.labels, kind).mean()
    assert score == pytest.approx(values.mean(), abs=1e-6)
    assert error == pytest.approx(values.std() / 23**0.5, abs=1e-5)  # not / sqrt(4 * 23)
    assert validation_score(Telling(), valid, Perturbation(), 3, kind=kind) == (score, error)
    assert validation_score(Telling(), valid, Perturbation(), 4, kind=kind) != (score, error)


class Adding:
    """Stands for one of several processes: keeps what it would add up with the others."""

    whole = True

    def __init__(self, rank, size):
        self.rank, self.size, self.rows, self.sums = rank, size, None, None

    def total(self, *values):
        self.sums = list(values)
        return self.sums


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("chunk", [1, 2, 7, 11, 512])
def test_every_instance_counts_in_one_process_alone(chunk, size, monkeypatch):
    monkeypatch.setattr(validation, "_EVALUATION_BATCH", chunk)
    valid, together = part(23, "class"), [Adding(rank, size) for rank in range(size)]
    for ranks in together:
        model = Telling()
        validation_score(model, valid, None, 0, ranks=ranks)
        assert model.calibrator.ranks is None
        sizes = [min(chunk, 23 - start) for start in range(0, 23, chunk)]
        shared = [known is ranks for known, _ in model.told]  # a chunk of too few goes through all, as if alone
        assert shared == [count >= size for count in sizes]
    values = right(valid.inputs["a"], valid.labels, "class")
    sums = np.array([ranks.sums for ranks in together]).sum(0)
    np.testing.assert_allclose(sums, [values.sum(), 0, values.sum()])
