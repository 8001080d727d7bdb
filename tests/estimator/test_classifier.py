import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from concordant import MultimodalClassifier
from concordant.estimator import InputError


def instances(count=200, seed=0, share=0.5, shift=2.0):
    draws = np.random.default_rng(seed)
    y = np.where(draws.random(count) < share, "yes", "no")
    right = (y == "yes")[:, None]
    return {"a": shift * right + draws.normal(size=(count, 3)), "b": shift * right + draws.normal(size=(count, 2))}, y


def test_classes_may_be_words_and_probabilities_add_up():
    x, y = instances()
    model = MultimodalClassifier(random_state=0, max_iter=80).fit(x, y)
    assert model.classes_.tolist() == ["no", "yes"]
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert set(model.predict(x)) == {"no", "yes"}
    assert (model.predict(x) == model.classes_[probabilities.argmax(1)]).all()
    assert model.score(x, y) == np.mean(model.predict(x) == y)


def test_balanced_weights_help_the_rare_class():
    x, y = instances(400, share=0.06, shift=0.8)
    test, truth = instances(1000, seed=1, shift=0.8)
    plain, balanced = (
        balanced_accuracy_score(
            truth, MultimodalClassifier(class_weight=w, random_state=0, max_iter=100).fit(x, y).predict(test)
        )
        for w in (None, "balanced")
    )
    assert balanced > plain + 0.05


def test_the_frequencies_are_weighted_too():
    x, y = instances(100, share=0.3)
    model = MultimodalClassifier(class_weight="balanced", max_iter=2).fit(x, y)
    np.testing.assert_allclose(model.class_prior_, 0.5, rtol=1e-6)
    with pytest.raises(InputError, match="class_weight names classes that y has not: maybe"):
        model.set_params(class_weight={"maybe": 3}).fit(x, y)


def test_instances_without_weight_teach_nothing():
    x, y = instances(120)
    wrong = np.where(y == "yes", "no", "yes")
    doubled = {name: np.concatenate([values, values]) for name, values in x.items()}
    labels, weights = np.concatenate([y, wrong]), np.repeat([1.0, 0.0], 120)
    model = MultimodalClassifier(random_state=0, max_iter=80).fit(doubled, labels, sample_weight=weights)
    assert model.score(x, y) > 0.9


def test_passes__learn_and_go_on_from_a_fit():
    x, y = instances(200)
    model = MultimodalClassifier(random_state=0)
    model.partial_fit({name: values[:100] for name, values in x.items()}, y[:100], classes=["no", "yes"])
    scales = model._scales_["a"].mean.copy()
    first = model.score(x, y)
    for _ in range(30):
        model.partial_fit({name: values[100:] for name, values in x.items()}, y[100:])
    assert model.n_iter_ == 2 + 30 * 2
    assert model.score(x, y) >= max(first, 0.85)
    np.testing.assert_array_equal(model._scales_["a"].mean, scales)
    fitted = MultimodalClassifier(random_state=0, max_iter=40).fit(x, y)
    before = fitted.predict_proba(x)
    fitted.partial_fit(x, y)
    assert np.abs(fitted.predict_proba(x) - before).max() > 0
    assert fitted.n_iter_ == fitted.history_[-1]["step"] + 4


def test_passes__are_repeatable_and_need_the_classes_at_first():
    x, y = instances(80)
    one, other = (MultimodalClassifier(random_state=1).partial_fit(x, y, ["no", "yes"]).partial_fit(x, y) for _ in "ab")
    np.testing.assert_array_equal(one.predict_proba(x), other.predict_proba(x))
    with pytest.raises(InputError, match="classes cannot be used"):
        MultimodalClassifier().partial_fit(x, y, ["no", None, "yes"])
    with pytest.raises(InputError, match="classes must be passed on the first call to partial_fit"):
        MultimodalClassifier().partial_fit(x, y)
    with pytest.raises(InputError, match=r"y holds unknown classes \['maybe'\]; they were fixed as \['no', 'yes'\]"):
        one.partial_fit(x, np.where(y == "no", "maybe", y))
    with pytest.raises(InputError, match="classes must be those of the first call"):
        one.partial_fit(x, y, classes=["no", "maybe", "yes"])


def test_a_class_that_a_pass_lacks_is_known_all_the_same():
    x, y = instances(80)
    here = y == "yes"
    model = MultimodalClassifier(random_state=0).partial_fit(
        {name: values[here] for name, values in x.items()}, y[here], classes=["no", "yes"]
    )
    assert model.predict_proba(x).shape == (80, 2)


def test_one_class_is_refused():
    x, _ = instances(20)
    with pytest.raises(InputError, match="y must hold two classes or more; found one class, 'no'"):
        MultimodalClassifier().fit(x, ["no"] * 20)


def test_a_missing_y_is_refused():
    with pytest.raises(InputError, match="requires y to be passed, but the target y is None"):
        MultimodalClassifier().fit(instances(20)[0], None)
