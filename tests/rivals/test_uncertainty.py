import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from concordant.errors import UsageError
from concordant.rivals import ConfidenceWeights
from concordant.rivals.base import relative_weights
from concordant.rivals.uncertainty import confidence, ranking_loss, share_of_best

SIZES = {"text": 4, "audio": 3}


def shaken():
    module = ConfidenceWeights(SIZES, classes=3, layouts="bd", dropout=0.0, perturbation=None)
    torch.manual_seed(0)
    for head in module.heads.values():
        torch.nn.init.normal_(head.weight)
        torch.nn.init.normal_(head.bias)
    return module


def test_features_are_scaled_by_confidence_relative_to_the_most_confident():
    module = shaken().eval()
    features = {name: torch.randn(6, size) for name, size in SIZES.items()}
    out = module(features)
    energies = []
    for name, x in features.items():
        logits = module.heads[name](module.standardise[name](x)).detach().numpy()
        energies.append([math.log(sum(math.exp(value) for value in row)) for row in logits])
    energies = np.maximum(np.array(energies).T, 1e-3)
    expected = energies / energies.max(1, keepdims=True)
    assert (expected < 0.9).any()
    np.testing.assert_allclose(out.reliability.numpy(), expected, rtol=1e-4)
    for index, name in enumerate(SIZES):
        scaled = features[name].numpy() * expected[:, index, None]
        np.testing.assert_allclose(out.features[name].detach().numpy(), scaled, rtol=1e-4, atol=1e-6)


def test_weights_are_softmax_weights_up_to_a_factor():
    scores, present = torch.randn(5, 3), torch.tensor([[True, True, True]] * 4 + [[True, False, True]])
    weights = relative_weights(scores, present)
    softmax = torch.where(present, scores, -torch.inf).softmax(1)
    ratio = torch.where(present, weights, 0) / torch.where(present, weights, 0).sum(1, keepdim=True)
    torch.testing.assert_close(ratio, softmax)
    assert torch.equal(relative_weights(scores, torch.zeros_like(present)).isfinite().all(), torch.tensor(True))


def test_negative_confidences_become_the_smallest():
    found = share_of_best(torch.tensor([[2.0, -5.0, 9.0]]), torch.tensor([[True, True, False]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0005, 1.0]]))


def test_absent_modalities_leave_gradients_finite():
    scores = torch.tensor([[1.0, 1e4]], requires_grad=True)
    relative_weights(scores, torch.tensor([[True, False]])).sum().backward()
    assert scores.grad.isfinite().all()


def test_ranking_loss_is_the_loop_over_neighbours():
    scores, losses = torch.randn(7), torch.rand(7) * 3
    here = torch.tensor([True, True, False, True, True, True, True])
    found, count = 0.0, 0
    for i in range(7):
        j = (i - 1) % 7
        if not (here[i] and here[j]):
            continue
        gap = math.exp(-losses[i]) - math.exp(-losses[j])
        found += max(0.0, abs(gap) - np.sign(gap) * float(scores[i] - scores[j]))
        count += 1
    assert float(ranking_loss(scores, losses, here)) == pytest.approx(found / count, rel=1e-5)


def test_own_loss_is_the_sum_of_classifier_and_ranking_losses():
    module = shaken().train()
    features = {name: torch.randn(6, size) for name, size in SIZES.items()}
    labels = torch.arange(6) % 3
    out = module(features, labels=labels)
    expected = 0.0
    for name, x in features.items():
        logits = module.heads[name](module.standardise[name](x))
        losses = F.cross_entropy(logits, labels, reduction="none")
        ranked = ranking_loss(confidence(logits), losses, torch.ones(6, dtype=torch.bool))
        expected = expected + losses.mean() + 0.1 * ranked
    torch.testing.assert_close(out.auxiliary_loss, expected)
    assert float(module(features).auxiliary_loss) == 0.0  # without labels


def test_a_better_predicting_modality_becomes_more_reliable():
    torch.manual_seed(0)
    module = ConfidenceWeights(SIZES, classes=2, layouts="bd", perturbation=None).train()
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(150):
        labels = torch.randint(2, (64,))
        text = torch.randn(64, 4) + 3 * labels[:, None]
        out = module({"text": text, "audio": torch.randn(64, 3)}, labels=labels)
        optimizer.zero_grad()
        out.auxiliary_loss.backward()
        optimizer.step()
    labels = torch.randint(2, (200,))
    out = module.eval()({"text": torch.randn(200, 4) + 3 * labels[:, None], "audio": torch.randn(200, 3)})
    assert out.reliability[:, 0].mean() > 0.95
    assert out.reliability[:, 1].mean() < 0.8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"classes": 1}, "classes must be 2 or more; found 1"),
        ({"task_weight": -1}, "task_weight must not be negative; found -1"),
        ({"rank_weight": -1, "temperature": 0}, "rank_weight must not be negative.*temperature must lie in"),
    ],
)
def test_wrong_arguments_are_refused(options, text):
    with pytest.raises(UsageError, match=text):
        ConfidenceWeights(SIZES, **{"classes": 3, **options})
