import math

import numpy as np
import pytest
import torch

from concordant.errors import UsageError
from concordant.rivals import ConflictEvidential, Evidential
from concordant.rivals.evidential import conflict, dempster, evidential_loss, uncertainty

SIZES = {"text": 4, "audio": 3, "video": 2}


def opinion(evidence):
    total = sum(evidence) + len(evidence)
    return [e / total for e in evidence], len(evidence) / total


def combined(first, second):
    """Return the reduced Dempster combination of two opinions, written out."""
    (b1, u1), (b2, u2) = first, second
    clash = sum(b1[i] * b2[j] for i in range(len(b1)) for j in range(len(b2)) if i != j)
    belief = [(x * y + x * u2 + y * u1) / (1 - clash) for x, y in zip(b1, b2, strict=True)]
    return belief, u1 * u2 / (1 - clash)


def test_opinions_combine_by_dempsters_rule():
    evidence = torch.rand(5, 3, 4, dtype=torch.float64) * 6
    for row, found in zip(evidence.tolist(), dempster(evidence).exp().sub(1).tolist(), strict=True):
        belief, doubt = opinion(row[0])
        for other in row[1:]:
            belief, doubt = combined((belief, doubt), opinion(other))
        assert sum(belief) + doubt == pytest.approx(1)
        np.testing.assert_allclose(found, [b * 4 / doubt for b in belief], rtol=1e-9)


def test_an_opinion_without_evidence_changes_nothing():
    evidence = torch.rand(5, 2, 4) * 6
    nothing = torch.zeros(5, 1, 4)
    torch.testing.assert_close(dempster(torch.cat([evidence, nothing], 1)), dempster(evidence))
    torch.testing.assert_close(dempster(torch.cat([nothing, evidence], 1)), dempster(evidence))


def test_the_loss_is_the_expected_cross_entropy_and_the_divergence_from_the_uniform():
    evidence = torch.tensor([[2.0, 0.5, 1.0]], dtype=torch.float64)
    alpha = torch.distributions.Dirichlet(evidence + 1)
    torch.manual_seed(0)
    sampled = -alpha.sample((200_000,))[:, 0, 1].log().mean()
    label, here = torch.tensor([1]), torch.tensor([True])
    assert float(evidential_loss(evidence, label, here, 0.0)) == pytest.approx(float(sampled), rel=0.01)
    misled = torch.distributions.Dirichlet(torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64))
    uniform = torch.distributions.Dirichlet(torch.ones(1, 3, dtype=torch.float64))
    divergence = torch.distributions.kl_divergence(misled, uniform)
    share = evidential_loss(evidence, label, here, 0.7) - evidential_loss(evidence, label, here, 0.0)
    torch.testing.assert_close(share, 0.7 * divergence.squeeze())
    assert float(evidential_loss(evidence, label, torch.tensor([False]), 1.0)) == 0.0


def test_conflict_is_the_loop_over_pairs():
    evidence = torch.rand(4, 3, 2, dtype=torch.float64) * 5
    present = torch.tensor([[True] * 3, [True] * 3, [True, False, True], [True, False, False]])
    for row, here, found in zip(evidence, present, conflict(evidence, present), strict=True):
        pairs = []
        for a in range(3):
            for b in range(3):
                if a == b or not (here[a] and here[b]):
                    continue
                (b1, u1), (b2, u2) = opinion(row[a].tolist()), opinion(row[b].tolist())
                p1, p2 = [x + u1 / 2 for x in b1], [x + u2 / 2 for x in b2]
                distance = sum(abs(x - y) for x, y in zip(p1, p2, strict=True)) / 2
                pairs.append(distance * (1 - u1) * (1 - u2))
        assert float(found) == pytest.approx(np.mean(pairs) if pairs else 0.0)


@pytest.mark.parametrize("kind", [Evidential, ConflictEvidential])
def test_the_decision_is_the_mean_of_the_combined_distribution(kind):
    module = kind(SIZES, classes=4, layouts="bd").eval()
    features = {name: 3 * torch.randn(6, size) for name, size in SIZES.items()}
    present = {"audio": torch.arange(6) > 1}
    out = module(features, present=present)
    for row in range(6):
        evidence = []
        for name, x in features.items():
            raw = module.heads[name](module.standardise[name](x[row : row + 1]))[0].tolist()
            there = name != "audio" or row > 1
            evidence.append([math.log1p(math.exp(value)) if there else 0.0 for value in raw])
        if kind is Evidential:
            belief, doubt = opinion(evidence[0])
            for other in evidence[1:]:
                belief, doubt = combined((belief, doubt), opinion(other))
            total = [b * 4 / doubt for b in belief]
        else:
            total = np.sum(evidence, 0) / (3 if row > 1 else 2)
        alpha = np.array(total) + 1
        np.testing.assert_allclose(out.decision[row].softmax(0).tolist(), alpha / alpha.sum(), rtol=1e-4)
        for index, one in enumerate(evidence):
            expected = 1 - opinion(one)[1] if sum(one) else 0.0  # absent: 0 by the frame's word
            assert out.reliability[row, index].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", [Evidential, ConflictEvidential])
def test_it_learns_by_its_own_losses(kind):
    torch.manual_seed(0)
    module = kind(SIZES, classes=2, layouts="bd", annealing=50).train()
    optimizer = torch.optim.Adam(module.parameters(), 0.05)

    def batch():
        labels = torch.randint(2, (128,))
        features = {name: torch.randn(128, size) + labels[:, None] for name, size in SIZES.items()}
        return features, labels

    for _ in range(100):
        features, labels = batch()
        out = module(features, labels=labels)
        optimizer.zero_grad()
        out.auxiliary_loss.backward()
        assert all(weight.grad.isfinite().all() for weight in module.parameters())
        optimizer.step()
    features, labels = batch()
    out = module.eval()(features)
    assert (out.decision.argmax(1) == labels).float().mean() > 0.85
    assert int(module.passes) == 100


def test_the_weight_of_the_divergence_increases_slowly():
    module = Evidential(SIZES, classes=2, layouts="bd", annealing=4, dropout=0.0, perturbation=None).train()
    features = {name: torch.randn(8, size) for name, size in SIZES.items()}
    labels = torch.arange(8) % 2
    for standardise in module.standardise.values():
        standardise.eval()
    module.eval()(features)
    losses = []
    for passes in (0, 1, 3, 9):
        module.train().passes.fill_(passes)
        losses.append(float(module.own_loss(_modulation(module, features), torch.ones(8, 3).bool(), labels)))
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] == pytest.approx(losses[3])


def _modulation(module, features):
    with torch.no_grad():
        return module.eval().modulate(module._summaries(module.gather(features), None))


def test_uncertainty_is_one_without_evidence():
    assert torch.equal(uncertainty(torch.zeros(2, 5)), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"classes": 1}, "classes must be 2 or more; found 1"),
        ({"annealing": 0}, "annealing must be 1 or more; found 0"),
    ],
)
def test_wrong_arguments_are_refused(options, text):
    with pytest.raises(UsageError, match=text):
        Evidential(SIZES, **{"classes": 3, **options})
