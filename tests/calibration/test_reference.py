"""The implementation beside the reference: outputs, gates, cues, losses, gradients, running statistics."""

import pytest
import torch

from concordant import ContextualCalibrator, Perturbation, repeat_targets, seeding, with_copies
from tests.calibration import reference

B = 24


def vectors(draws):
    return {"sizes": dict.fromkeys("abc", 8), "features": {n: torch.randn(B, 8, generator=draws) for n in "abc"}}


def mixed(draws):
    sizes, length = {"z": 8, "b": 9, "c": 10}, torch.randint(1, 8, (B, 1), generator=draws)
    return {
        "sizes": sizes,
        "features": {
            "z": torch.randn(B, 7, 8, generator=draws),
            "b": torch.randn(B, 5, 9, generator=draws),
            "c": torch.randn(B, 10, generator=draws),
        },
        "masks": {"z": torch.arange(7) < length},
        "present": {"b": torch.rand(B, generator=draws) < 0.6},
    }


def maps(draws):
    return {
        "sizes": {"z": 8, "b": 9},
        "layouts": {"z": "bchw", "b": "tbd"},
        "features": {"z": torch.randn(B, 8, 4, 5, generator=draws), "b": torch.randn(6, B, 9, generator=draws)},
        "present": {"b": torch.rand(B, generator=draws) < 0.6},
    }


def many(draws, count):
    names = [f"m{n}" for n in reversed(range(count))]
    return {
        "sizes": dict.fromkeys(names, 5),
        "features": {name: torch.randn(B, 4, 5, generator=draws) for name in names},
        "present": {name: torch.rand(B, generator=draws) < 0.6 for name in names[1::2]},
    }


CASES = {
    "vectors": vectors,
    "sequences beside a vector": mixed,
    "maps": maps,
    "six": lambda draws: many(draws, 6),
    "eight": lambda draws: many(draws, 8),
}


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("classes", [None, 2, 5])
@pytest.mark.parametrize("labelled", [False, True])
def test_the_implementation_equals_the_reference(case, classes, labelled):
    draws = seeding.generator(0, case)
    given = CASES[case](draws)
    sizes, layouts = given["sizes"], given.get("layouts", "bd" if case == "vectors" else "auto")
    ours = ContextualCalibrator(sizes, layouts=layouts, classes=classes, seed=1, dropout=0.0).double()
    with torch.no_grad():
        for weight in ours.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=draws)
    plain = reference.ContextualCalibrator(sizes, ours.layouts, classes=classes, dropout=0.0).double()
    plain.load_state_dict(ours.state_dict())
    labels = torch.randint(classes or 5, (B,), generator=draws) if labelled else None
    features = {name: x.double().requires_grad_() for name, x in given["features"].items()}
    batch = ours.gather(features, given.get("masks"), given.get("present"))
    for _ in range(2):  # the second pass uses the statistics that the first has learnt
        made = with_copies(batch, Perturbation(), generator=draws)
        targets = None if labels is None else repeat_targets(labels)
        # With fewer than three classes the batch has too few for class positives, in both alike.
        found = ours(made.batch, labels=targets, perturbed=made.perturbed)
        expected = plain(made.batch, labels=targets, perturbed=made.perturbed)
        compare(found, expected, made.batch.present)
    gradients = []
    for module, scaled, loss in ((ours, found.features, found.auxiliary_loss), (plain, expected[0], expected[5])):
        total = loss + sum(x.square().sum() for x in scaled.values()) / 100
        inputs = [*features.values(), *module.parameters()]
        gradients.append(torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=True))
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            close(one, other)
    for one, other in zip(ours.buffers(), plain.buffers(), strict=True):
        close(one, other)
    compare(ours.eval()(batch), plain.eval()(batch), batch.present)


def compare(found, expected, present):
    features, reliability, gates, support, conflict, loss = expected
    alone = present.sum(1, keepdim=True) <= 1
    for name, x in features.items():
        close(found.features[name], x)
        close(found.gates[name], torch.where(alone, 1, gates[name]))
    close(found.reliability, reliability)
    close(found.support, support)
    close(found.conflict, conflict)
    close(found.auxiliary_loss, loss)
