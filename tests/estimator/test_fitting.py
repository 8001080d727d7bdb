import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from concordant import ConcordantError
from concordant.estimator.fitting import Plan, build, fit_model, new_optimizer, one_pass, score
from concordant.estimator.inputs import Form
from concordant.training.batches import Tensors
from concordant.training.config import Recipe

RECIPE = Recipe(steps=40, batch=16, width=8)
PLAN = Plan(recipe=RECIPE, fusion="lf-dnn", calibrator="context", outputs=3, real=False, seed=0, device="cpu")
FORMS = {"a": Form("bd", (4,)), "b": Form("btd", (None, 2))}


def instances(count=60, seed=0):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=draws)
    inputs = {
        "a": torch.randn(count, 4, generator=draws) + labels[:, None],
        "b": torch.randn(count, 6, 2, generator=draws) - labels[:, None, None],
    }
    return Tensors(inputs, labels, {}, {}, torch.ones(count))


def test_twins_share_the_weights_of_encoders_and_fusion():
    ours, twin = build(FORMS, PLAN), build(FORMS, replace(PLAN, calibrator="none"))
    for part in ("encoders", "fusion"):
        left, right = getattr(ours, part).state_dict(), getattr(twin, part).state_dict()
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
    inputs = instances().inputs
    assert torch.equal(ours(inputs).logits, twin(inputs).logits)  # an untrained calibrator changes nothing


def test_the_score_is_the_weighted_accuracy_with_its_standard_error(monkeypatch):
    model = build(FORMS, PLAN)
    valid = instances(20)
    weights = torch.rand(20, generator=torch.Generator().manual_seed(1))
    right = (model(valid.inputs).logits.argmax(1) == valid.labels).double()
    share = weights.double() / weights.double().sum()
    expected = float((share * right).sum())
    monkeypatch.setattr("concordant.estimator.fitting._perturbation", lambda model: None)
    found, error = score(model, PLAN, replace(valid, weights=weights))
    assert found == pytest.approx(expected)
    assert error == pytest.approx(float((share * (right - expected)).square().sum().sqrt()))


def test_the_state_is_kept_that_held_out_instances_chose():
    plan = replace(
        PLAN, recipe=RECIPE.model_copy(update={"learning_rate": 0.3, "steps": 60})
    )  # so high that the score goes up and down
    valid = instances(40, seed=1)
    model = build(FORMS, plan)
    lines = []
    history = fit_model(model, plan, instances(), valid, lines.append)
    assert len(lines) == len(history)
    found, _ = score(model, plan, valid)
    scores = [entry["validation"] for entry in history]
    assert found in scores
    best = max(scores)
    assert found >= best - math.sqrt(best * (1 - best) / 40)
    assert not model.training


def test_without_held_out_instances_the_last_state_is_kept():
    model = build(FORMS, PLAN)
    train = instances()
    before = F.cross_entropy(model(train.inputs).logits, train.labels)
    plan = replace(PLAN, recipe=RECIPE.model_copy(update={"steps": 200}))
    history = fit_model(model, plan, train, None, lambda line: None)
    assert [entry["step"] for entry in history] == list(range(20, 201, 20))
    assert F.cross_entropy(model(train.inputs).logits, train.labels) < before / 2


def test_a_pass_takes_every_instance_once_and_changes_no_global_stream():
    model = build(FORMS, PLAN)
    state = torch.random.get_rng_state()
    assert one_pass(model, PLAN, new_optimizer(model, PLAN), instances(50), 1) == 4  # 16 + 16 + 16 + 2
    assert torch.equal(state, torch.random.get_rng_state())
    assert not model.training


def test_features_that_overflow_end_the_training_with_a_sentence():
    broken = replace(instances(), weights=torch.full((60,), math.inf))
    with pytest.raises(ConcordantError, match=r"training diverged at step \d; choose a lower learning_rate than 0.003"):
        fit_model(build(FORMS, PLAN), PLAN, broken, None, lambda line: None)
