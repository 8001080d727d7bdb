"""Features fitted on the training rows are told from features of extractors that have not seen them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from concordant.benchmarks.catalogue import prepare
from concordant.data.split import Split, Task
from concordant.study.leakage import check_features, optimism

ROWS, SIZE = {"train": 200, "valid": 80, "test": 100}, 60


def a_task(*, real=False, groups=None):
    draws, parts = np.random.default_rng(0), {}
    means = draws.normal(size=(2, 4, SIZE)) * 0.15
    for part, rows in ROWS.items():
        labels = np.arange(rows) % 4
        inputs = {
            name: (means[k, labels] + draws.normal(size=(rows, SIZE))).astype(np.float32) for k, name in enumerate("ab")
        }
        ids = np.array([f"{part}-{row}" for row in range(rows)])
        owners = None if groups is None else np.array([f"{part}-{row % groups}" for row in range(rows)])
        parts[part] = Split(inputs, labels.astype(np.float32 if real else np.int64), ids, owners)
    return Task(tuple("wxyz"), {"a": "bd", "b": "bd"}, **parts, kind="real" if real else "class")


def extracted(task):
    """Return the task with the features of extractors that were fitted on its training rows."""
    fits = {name: LinearDiscriminantAnalysis().fit(x, task.train.labels) for name, x in task.train.inputs.items()}
    parts = {
        part: replace(
            one, inputs={name: fit.transform(one.inputs[name]).astype(np.float32) for name, fit in fits.items()}
        )
        for part in ROWS
        for one in [getattr(task, part)]
    }
    return replace(task, **parts)


@pytest.mark.parametrize("groups", [None, 10])
def test_extractors_fitted_on_the_training_rows_are_found(groups):
    task = a_task(groups=groups)
    assert check_features(task) is None
    found = check_features(extracted(task))
    assert found.level == "warning"
    seen = optimism(extracted(task))
    assert seen.train - seen.new > 0.2
    assert f"agree on {100 * seen.train:.0f} % of unseen training rows and on {100 * seen.new:.0f} %" in found.text


def test_test_labels_are_not_read():
    task = extracted(a_task())
    other = replace(task, test=replace(task.test, labels=task.test.labels[::-1].copy()))
    assert optimism(other) == optimism(task)


def test_real_labels_count_by_their_median():
    assert check_features(a_task(real=True)) is None


def test_one_modality_and_few_rows_say_nothing():
    task = a_task()
    assert optimism(task.only("a")) is None
    assert optimism(replace(task, valid=task.valid.take(np.arange(30)))) is None


@pytest.mark.data
@pytest.mark.parametrize(("protocol", "fitted"), [("given", True), ("test-folds", False)])
def test_the_known_case_is_found(protocol, fitted, data_folder):
    task = prepare("cmu-mosi-utterance", seed=0, data=data_folder, protocol=protocol)
    assert (check_features(task) is not None) == fitted


def test_honest_features_raise_no_alarm():
    assert all(check_features(prepare("digits", seed=seed)) is None for seed in range(2))
