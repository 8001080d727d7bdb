import numpy as np
import pytest

from concordant.robustness.at_features import FromFeatures, feature_layouts, features_of
from concordant.robustness.predict import ask
from concordant.robustness.removal import keep
from concordant.training.runs import open_runs


@pytest.fixture(scope="module")
def opened(digits_run):
    runs = open_runs(digits_run)
    task = runs.task(0, None)
    return task, runs.model(task, runs.variant("context"), 0)


def test_from_its_features_a_model_says_what_it_says_from_its_inputs(opened):
    task, model = opened
    features = features_of(model, task.test)
    assert set(feature_layouts(model)) == set(features.inputs)
    direct, again = ask(model, task.test), ask(FromFeatures(model), features)
    assert again.logits == pytest.approx(direct.logits, abs=1e-5)
    assert again.reliability == pytest.approx(direct.reliability, abs=1e-5)


def test_absent_modalities_stay_absent_and_their_features_are_zero(opened):
    task, model = opened
    part = keep(task.test, {"left", "profile"})
    features = features_of(model, part)
    assert not features.present["right"].any()
    assert (features.inputs["right"] == 0).all()
    assert ask(FromFeatures(model), features).logits == pytest.approx(ask(model, part).logits, abs=1e-5)
    assert np.array_equal(features.ids, part.ids)
