import numpy as np
import pytest
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score

from concordant import MultimodalRegressor
from concordant.estimator import InputError, Modalities


def instances(count=240, seed=0):
    draws = np.random.default_rng(seed)
    y = draws.normal(size=count)
    x = {
        "a": y[:, None] + 0.5 * draws.normal(size=(count, 3)),
        "b": y[:, None, None] + draws.normal(size=(count, 6, 2)),
    }
    return x, 100 + 20 * y


def test_numbers_on_any_scale_are_predicted():
    x, y = instances()
    model = MultimodalRegressor(random_state=0).fit(x, y)
    test, truth = instances(seed=1)
    assert model.score(test, truth) > 0.8
    assert model.score(test, truth) == pytest.approx(r2_score(truth, model.predict(test)))
    assert set(model.reliability(test)) == {"a", "b"}
    explained = model.explain(Modalities(test)[:3])
    np.testing.assert_allclose([one.prediction for one in explained], model.predict(test)[:3], rtol=1e-5)
    assert explained[0].confidence is None
    assert "probability" not in str(explained[0])


def test_moving_and_scaling_y_moves_and_scales_the_predictions():
    x, y = instances(80)
    one = MultimodalRegressor(random_state=0, max_iter=20).fit(x, y).predict(x)
    other = MultimodalRegressor(random_state=0, max_iter=20).fit(x, 8 * y - 64).predict(x)
    np.testing.assert_allclose(other, 8 * one - 64, rtol=1e-3)


def test_an_instance_without_any_modality_gets_the_mean():
    x, y = instances(80)
    model = MultimodalRegressor(random_state=0, max_iter=10).fit(x, y)
    assert model.predict({"a": [None]})[0] == pytest.approx(y.mean())


def test_a_constant_is_learnt():
    x, _ = instances(60)
    model = MultimodalRegressor(random_state=0, max_iter=200).fit(x, np.full(60, 7.0))
    np.testing.assert_allclose(model.predict(x), 7, atol=0.5)


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_numbers_of_any_size_are_finite_again(scale):
    x, y = instances(60)
    plain = MultimodalRegressor(random_state=0, max_iter=5).fit(x, y).predict(x)
    found = MultimodalRegressor(random_state=0, max_iter=5).fit(x, y * scale).predict(x)
    np.testing.assert_allclose(found / scale, plain, rtol=1e-4)


def test_passes__learn():
    x, y = instances()
    model = MultimodalRegressor(random_state=0)
    for _ in range(30):
        model.partial_fit(x, y)
    assert model.score(x, y) > 0.7
    assert model.target_mean_ == pytest.approx(y.mean())


def test_cross_validation_takes_modalities():
    x, y = instances(120)
    assert cross_val_score(MultimodalRegressor(random_state=0, max_iter=60), Modalities(x), y, cv=2).mean() > 0.5


def test_what_is_no_number_is_refused():
    x, y = instances(20)
    with pytest.raises(InputError, match="Input y contains NaN, infinity"):
        MultimodalRegressor().fit(x, np.where(np.arange(20) == 3, np.nan, y))
    with pytest.raises(InputError, match="y must hold numbers"):
        MultimodalRegressor().fit(x, list("abcdefghijklmnopqrst"))
    with pytest.raises(InputError, match=r"y must hold numbers \(found datetime64"):
        MultimodalRegressor().fit(x, np.arange(20).astype("M8[D]"))
    with pytest.raises(InputError, match="calibrator 'uncertainty' needs classes, and a regressor has none"):
        MultimodalRegressor(calibrator="uncertainty").fit(x, y)
