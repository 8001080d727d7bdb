"""The two baselines: what is fitted, on what, and what a missing modality changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from concordant.data.split import Split, Task
from concordant.robustness.answers import evaluate
from concordant.robustness.conditions import CLEAN, clean, keep, removal
from concordant.robustness.predict import predict
from concordant.study.baselines import LateFusion, pooled
from concordant.training.config import Variant, make_config
from concordant.training.model import build_model


def a_split(rows, seed, *, real=False):
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 3, rows)
    inputs = {name: (draws.normal(size=(rows, 4)) + labels[:, None]).astype(np.float32) for name in "ab"}
    ids = np.array([f"{seed}-{row}" for row in range(rows)])
    return Split(inputs, labels.astype(np.float32 if real else np.int64), ids)


def a_task(*, real=False):
    parts = (a_split(80, seed, real=real) for seed in range(3))
    return Task(("x", "y", "z"), {"a": "bd", "b": "bd"}, *parts, kind="real" if real else "class")


@pytest.mark.parametrize("real", [False, True])
def test_late_fusion_is_the_mean_of_one_linear_model_per_modality(real):
    task = a_task(real=real)
    found = predict(LateFusion(task), task.test).logits
    expected = []
    for name in "ab":
        scale = StandardScaler().fit(task.train.inputs[name])
        model = Ridge() if real else LogisticRegression(max_iter=300)
        model.fit(scale.transform(task.train.inputs[name]), task.train.labels)
        x = scale.transform(task.test.inputs[name])
        expected.append(model.predict(x)[:, None] if real else model.predict_proba(x))
    assert found == pytest.approx(np.mean(expected, 0) if real else np.log(np.mean(expected, 0)), abs=1e-5)


def test_late_fusion_leaves_an_absent_modality_out_and_falls_back_on_the_frequencies():
    task = a_task()
    model = LateFusion(task)
    lone = LateFusion(task.only("a"))
    assert predict(model, keep(task.test, {"a"})).logits == pytest.approx(predict(lone, task.test.only("a")).logits)
    nothing = np.exp(predict(model, keep(task.test, set())).logits)
    assert nothing == pytest.approx(np.tile(np.bincount(task.train.labels) / 80, (80, 1)), abs=1e-5)


def test_a_class_that_a_modality_never_shows_has_no_probability_there():
    task = a_task()
    here = task.train.labels != 2
    model = LateFusion(replace(task, train=replace(task.train, present={"a": here, "b": task.train.labels == 0})))
    assert list(model.models) == ["a"]  # b shows a single class
    assert np.exp(predict(model, task.test).logits)[:, 2] == pytest.approx(0, abs=1e-6)


def test_features_are_pooled_by_layout():
    x = torch.randn(2, 5, 3)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    found = pooled(x, "btd", mask)
    assert found[1] == pytest.approx(torch.cat([x[1, :2].mean(0), x[1, :2].std(0, correction=0)]).numpy(), abs=1e-5)
    assert pooled(x[:, 0], "bd").shape == (2, 3)
    maps = torch.randn(2, 1, 16, 4)
    assert pooled(maps, "bchw") == pytest.approx(maps.view(2, 1, 8, 2, 4).mean(3).flatten(1).numpy(), abs=1e-6)
    assert pooled(torch.randn(2, 3, 7, 16, 16), "bcthw").shape == (2, 3 * 64)


def test_a_modality_alone_sees_itself_alone():
    task, config = a_task(), make_config("digits", recipe={"width": 4})
    config = config.model_copy(update={"modalities": ("a", "b"), "fusion": "lf-dnn", "calibrate": "features"})
    one = next(one for one in config.alone if one == Variant("none", False, "b"))
    model = build_model(task.only("b"), config, one, 0).eval()
    assert list(model.encoders) == ["b"]
    other = replace(task.test, inputs={**task.test.inputs, "a": np.zeros_like(task.test.inputs["a"])})
    found, same = (
        evaluate(model, split, [clean(), removal("a"), removal("b")], only="b").rows for split in (task.test, other)
    )
    for condition in found:
        assert np.array_equal(found[condition].prediction, same[condition].prediction)
    assert np.array_equal(found["removal.a"].confidence, found[CLEAN].confidence)
    assert found["removal.a"].present.tolist() == [[False, True]] * len(task.test)
