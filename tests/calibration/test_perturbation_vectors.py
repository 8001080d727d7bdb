"""Vectors of one size are perturbed all at once: the same draws, and the same numbers, as one modality by another."""

import pytest
import torch

from concordant.calibration import perturbation
from concordant.calibration.perturbation import KINDS, Perturbation, perturb
from concordant.calibration.perturbation_vectors import side_by_side
from concordant.modalities import gather

NAMES = ("text", "audio", "video")


def batch_of(size=24, width=5, *, dtype=torch.float32, **given):
    draws = torch.Generator().manual_seed(3)
    features = {name: torch.randn(size, width, generator=draws).to(dtype).requires_grad_() for name in NAMES}
    layouts, sizes = dict.fromkeys(NAMES, "bd"), dict.fromkeys(NAMES, width)
    return features, gather(features, sizes=sizes, layouts=layouts, **given)


def outcome(batch, features, settings, chance):
    for x in features.values():
        x.grad = None
    generator = torch.Generator().manual_seed(11)
    hurt = perturb(batch, settings, probability=chance, generator=generator)
    sum((x.float() * torch.arange(x.shape[1])).sum() for x in hurt.batch.features.values()).backward()
    gradients = {name: x.grad.clone() for name, x in features.items()}
    return hurt, gradients, generator.get_state()


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), KINDS])
@pytest.mark.parametrize("chance", [1.0, 0.5])
@pytest.mark.parametrize(("size", "dtype"), [(24, torch.float32), (1, torch.float32), (24, torch.bfloat16)])
def test_all_at_once_is_one_by_one(monkeypatch, kinds, chance, size, dtype):
    features, batch = batch_of(size, dtype=dtype)
    settings = Perturbation(kinds=kinds)
    assert side_by_side(batch) is not None
    found, gradients, state = outcome(batch, features, settings, chance)
    monkeypatch.setattr(perturbation, "side_by_side", lambda batch: None)
    expected, others, spent = outcome(batch, features, settings, chance)
    assert torch.equal(found.perturbed, expected.perturbed)
    assert torch.equal(found.kind, expected.kind)
    assert torch.equal(state, spent)
    assert list(found.batch.features) == list(expected.batch.features)
    for name in NAMES:
        torch.testing.assert_close(found.batch.features[name], expected.batch.features[name])
        torch.testing.assert_close(gradients[name], others[name])


def test_it_can_be_done_where_values_are_unknown():
    features, _ = batch_of()
    layouts, sizes = dict.fromkeys(NAMES, "bd"), dict.fromkeys(NAMES, 5)
    stacked = torch.stack([features[name].detach() for name in NAMES], 1)  # (B, M, D), as two runs of half the batch
    runs = stacked.reshape(2, -1, len(NAMES), 5)

    def one(x):
        batch = gather(dict(zip(NAMES, x.unbind(1), strict=True)), sizes=sizes, layouts=layouts)
        hurt = perturb(batch, Perturbation(), probability=1.0)
        return torch.stack([hurt.batch.features[name] for name in NAMES], 1), hurt.perturbed

    found, perturbed = torch.vmap(one, randomness="different")(runs)
    assert (perturbed.sum(2) == 1).all()
    torch.testing.assert_close(found[~perturbed], runs[~perturbed], rtol=0, atol=0)
    assert not torch.equal(found[perturbed], runs[perturbed])


def test_only_vectors_of_one_size_that_all_instances_have_lie_side_by_side():
    features, batch = batch_of(4)
    assert torch.equal(side_by_side(batch), torch.stack([features[name] for name in NAMES]))
    sizes = dict.fromkeys(NAMES, 5)
    here = torch.tensor([True, True, True, False])
    assert side_by_side(batch_of(4, present={"text": here})[1]) is None
    assert side_by_side(gather({"text": features["text"]}, sizes=sizes, layouts=dict.fromkeys(NAMES, "bd"))) is None
    other = {**features, "audio": torch.zeros(4, 6)}
    assert side_by_side(gather(other, sizes={**sizes, "audio": 6}, layouts=dict.fromkeys(NAMES, "bd"))) is None
    other = {**features, "audio": torch.zeros(4, 5, dtype=torch.float64)}
    assert side_by_side(gather(other, sizes=sizes, layouts=dict.fromkeys(NAMES, "bd"))) is None
    other = {**features, "audio": torch.zeros(4, 2, 5)}
    assert side_by_side(gather(other, sizes=sizes, layouts={**dict.fromkeys(NAMES, "bd"), "audio": "btd"})) is None
