import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from concordant import ConcordantError
from concordant.estimator.fitting import Plan, Targets, _losses, _score, build, fit_model, new_optimizer, one_pass
from concordant.estimator.inputs import Form
from concordant.training.batches import Tensors

PLAN = Plan(
    fusion="lf-dnn",
    calibrator="context",
    outputs=3,
    real=False,
    steps=40,
    batch=16,
    learning_rate=3e-3,
    weight_decay=0.01,
    dropout=0.1,
    width=8,
    seed=0,
    device="cpu",
)
FORMS = {"a": Form("bd", (4,)), "b": Form("btd", (None, 2))}


def instances(count=60, seed=0):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=draws)
    inputs = {
        "a": torch.randn(count, 4, generator=draws) + labels[:, None],
        "b": torch.randn(count, 6, 2, generator=draws) - labels[:, None, None],
    }
    return Tensors(inputs, labels, {}, {}), Targets(labels, torch.ones(count))


def test_twins_share_the_weights_of_encoders_and_fusion():
    ours, twin = build(FORMS, PLAN), build(FORMS, replace(PLAN, calibrator="none"))
    for part in ("encoders", "fusion"):
        left, right = getattr(ours, part).state_dict(), getattr(twin, part).state_dict()
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
    inputs = instances()[0].inputs
    assert torch.equal(ours(inputs).logits, twin(inputs).logits)  # an untrained calibrator changes nothing


def test_the_loss_is_the_cross_entropy_or_the_squared_error():
    logits, labels = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([1])
    expected = math.log(math.exp(1) + math.exp(2) + math.exp(0.5)) - 2
    assert _losses(logits, labels, real=False).item() == pytest.approx(expected)
    assert _losses(torch.tensor([[3.0], [1.0]]), torch.tensor([1.0, 1.0]), real=True).tolist() == [4.0, 0.0]


def test_the_score_is_the_weighted_accuracy_with_its_standard_error():
    model = build(FORMS, PLAN)
    inputs, targets = instances(20)
    weights = torch.rand(20, generator=torch.Generator().manual_seed(1))
    right = (model(inputs.inputs).logits.argmax(1) == targets.values).double()
    share = weights.double() / weights.double().sum()
    expected = float((share * right).sum())
    score, error = _score(model, PLAN, None, inputs, Targets(targets.values, weights))
    assert score == pytest.approx(expected)
    assert error == pytest.approx(float((share * (right - expected)).square().sum().sqrt()))


def test_the_state_is_kept_that_held_out_instances_chose():
    from concordant.calibration import Perturbation

    plan = replace(PLAN, learning_rate=0.3, steps=60)  # so high that the score goes up and down
    valid = instances(40, seed=1)
    model = build(FORMS, plan)
    lines = []
    history = fit_model(model, plan, instances(), valid, lines.append)
    assert len(lines) == len(history)
    score, _ = _score(model, plan, Perturbation(), *valid)
    scores = [entry["validation"] for entry in history]
    assert score in scores
    best = max(scores)
    assert score >= best - math.sqrt(best * (1 - best) / 40)
    assert not model.training


def test_without_held_out_instances_the_last_state_is_kept():
    model = build(FORMS, PLAN)
    inputs, targets = instances()
    before = F.cross_entropy(model(inputs.inputs).logits, targets.values)
    plan = replace(PLAN, steps=200)
    history = fit_model(model, plan, (inputs, targets), None, lambda line: None)
    assert [entry["step"] for entry in history] == list(range(20, 201, 20))
    assert F.cross_entropy(model(inputs.inputs).logits, targets.values) < before / 2


def test_a_pass_takes_every_instance_once_and_changes_no_global_stream():
    model = build(FORMS, PLAN)
    state = torch.random.get_rng_state()
    assert one_pass(model, PLAN, new_optimizer(model, PLAN), instances(50), 1) == 4  # 16 + 16 + 16 + 2
    assert torch.equal(state, torch.random.get_rng_state())
    assert not model.training


def test_features_that_overflow_end_the_training_with_a_sentence():
    inputs, targets = instances()
    broken = Targets(targets.values, torch.full((60,), math.inf))
    with pytest.raises(ConcordantError, match="training diverged; choose a lower learning_rate than "):
        fit_model(build(FORMS, PLAN), PLAN, (inputs, broken), None, lambda line: None)
