import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from concordant import ConcordantError, MultimodalClassifier, MultimodalRegressor
from concordant.estimator import InputError, Modalities


def instances(count=200, seed=0, noise=1.0):
    """Two classes seen by three modalities of different kinds."""
    draws = np.random.default_rng(seed)
    y = draws.integers(2, size=count)
    lengths = draws.integers(4, 9, size=count)
    return {
        "vector": 2 * y[:, None] + noise * draws.normal(size=(count, 4)),
        "steps": [2 * label + noise * draws.normal(size=(n, 3)) for label, n in zip(y, lengths, strict=True)],
        "image": 2 * y[:, None, None, None] + noise * draws.normal(size=(count, 1, 6, 5)),
    }, y


def test_a_sparse_table_and_sparse_modalities_are_filled_with_zeros():
    draws = np.random.default_rng(0)
    dense, y = (draws.random((40, 6)) > 0.6) * 1.0, np.arange(40) % 2
    short = {"max_iter": 3, "random_state": 0}
    by_name = MultimodalClassifier(**short).fit({"a": csr_matrix(dense[:, :4]), "b": dense[:, 4:]}, y)
    grouped = MultimodalClassifier(modalities={"a": slice(4), "b": [4, 5]}, **short).fit(csr_matrix(dense), y)
    expected = by_name.predict_proba({"a": dense[:, :4], "b": csr_matrix(dense[:, 4:])})
    np.testing.assert_array_equal(grouped.predict_proba(csr_matrix(dense)), expected)


@pytest.fixture(scope="module")
def fitted():
    x, y = instances()
    return MultimodalClassifier(random_state=0, max_iter=150).fit(x, y)


def test_modalities_of_all_kinds_are_learnt_together(fitted):
    x, y = instances(seed=1)
    assert fitted.score(x, y) > 0.9
    assert fitted.modality_names_ == ("vector", "steps", "image")
    assert fitted.calibrator_ == "context"
    assert fitted.n_iter_ == fitted.history_[-1]["step"]
    assert not hasattr(fitted, "n_features_in_")


def test_the_same_random_state_gives_the_same_fit_and_moves_no_global_generator():
    x, y = instances(60)
    torch.manual_seed(5)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (
        MultimodalClassifier(random_state=s, max_iter=20).fit(x, y).predict_proba(x) for s in (3, 3, 4)
    )
    MultimodalClassifier(max_iter=5).fit(x, y)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


def test_a_random_state_object_gives_its_draw():
    x, y = instances(60)
    one = MultimodalClassifier(random_state=np.random.RandomState(1), max_iter=5).fit(x, y)
    other = MultimodalClassifier(random_state=np.random.RandomState(1), max_iter=5).fit(x, y)
    assert one.seed_ == other.seed_


def test_predictions_do_not_depend_on_the_others_of_a_call(fitted):
    x, _ = instances(30, seed=2)
    whole = fitted.predict_proba(x)
    rows = Modalities(x)
    apart = np.concatenate([fitted.predict_proba(rows[row]) for row in range(30)])
    np.testing.assert_allclose(whole, apart, atol=1e-6)


def test_an_absent_modality_may_be_none_nan_or_left_out(fitted):
    x, _ = instances(20, seed=2)
    left_out = fitted.predict_proba({name: x[name] for name in ("steps", "image")})
    as_none = fitted.predict_proba({**x, "vector": [None] * 20})
    as_nan = fitted.predict_proba({**x, "vector": np.full((20, 4), np.nan)})
    np.testing.assert_array_equal(left_out, as_none)
    np.testing.assert_array_equal(left_out, as_nan)
    assert not np.allclose(left_out, fitted.predict_proba(x))
    assert (fitted.reliability({**x, "vector": [None] * 20})["vector"] == 0).all()


def test_an_instance_without_any_modality_gets_the_frequencies_of_training(fitted):
    x, y = instances()
    empty = fitted.predict_proba({"vector": [None, x["vector"][0]]})
    np.testing.assert_allclose(empty[0], np.bincount(y) / len(y))
    assert not np.allclose(empty[1], empty[0])


def test_missing_modalities_can_be_trained_on():
    x, y = instances(seed=3)
    gone = np.random.default_rng(0).integers(3, size=len(y))
    holes = {
        name: [None if gone[row] == number else value for row, value in enumerate(values)]
        for number, (name, values) in enumerate(x.items())
    }
    model = MultimodalClassifier(random_state=0, max_iter=150).fit(holes, y)
    assert model.score(holes, y) > 0.9
    assert ((model.reliability(holes)["vector"] == 0) == (gone == 0)).all()


def test_reliability_falls_where_a_modality_is_replaced_by_noise(fitted):
    x, _ = instances(seed=4)
    noisy = {**x, "vector": x["vector"] + 6 * np.random.default_rng(1).normal(size=x["vector"].shape)}
    clean, hurt = fitted.reliability(x), fitted.reliability(noisy)
    assert set(clean) == set(x)
    assert clean["vector"].shape == (200,)
    assert hurt["vector"].mean() < clean["vector"].mean() - 0.1


def test_an_explanation_says_what_predict_and_reliability_say(fitted):
    x, _ = instances(12, seed=5)
    x["steps"][4] = None
    explained, reliability, probability = fitted.explain(x), fitted.reliability(x), fitted.predict_proba(x)
    assert [one.prediction for one in explained] == fitted.predict(x).tolist()
    np.testing.assert_allclose([one.confidence for one in explained], probability.max(1), atol=1e-6)
    for row, one in enumerate(explained):
        assert [verdict.modality for verdict in one.verdicts] == list(x)
        for verdict in one.verdicts:
            assert verdict.reliability == pytest.approx(reliability[verdict.modality][row], abs=1e-5)
    assert not explained[4].verdicts[1].present
    assert "  steps: absent" in str(explained[4])
    assert str(explained[0]).startswith(f"predicted {explained[0].prediction} with probability ")
    assert "vector: reliability " in str(explained[0])
    assert "(usually " in str(explained[0])


def test_it_survives_a_pickle_a_clone_and_set_params(fitted):
    x, _ = instances(20, seed=6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(x), fitted.predict_proba(x))
    copy = clone(fitted).set_params(width=16, max_iter=5)
    assert copy.get_params()["width"] == 16
    assert fitted.get_params()["width"] == 64
    assert not hasattr(copy, "model_")
    copy.fit(*instances(60))
    assert next(iter(copy.model_.encoders.values())).size == 16


def test_cross_validation_grid_search_and_pipelines_take_modalities():
    x, y = instances(90)
    rows = Modalities(x)
    model = MultimodalClassifier(random_state=0, max_iter=30)
    assert cross_val_score(model, rows, y, cv=2).mean() > 0.8
    groups = np.arange(90) // 10
    assert len(cross_val_score(model, rows, y, cv=GroupKFold(2), groups=groups, scoring="roc_auc")) == 2
    pipeline = make_pipeline(FunctionTransformer(), model)
    search = GridSearchCV(pipeline, {"multimodalclassifier__max_iter": [1, 30]}, cv=2).fit(rows, y)
    assert search.best_params_ == {"multimodalclassifier__max_iter": 30}
    assert search.predict(x).shape == (90,)


def test_a_table_whose_columns_are_grouped_works_like_modalities_by_name():
    x, y = instances(120)
    frame = pd.DataFrame({f"left_{n}": x["vector"][:, n] for n in range(2)})
    frame = frame.assign(**{f"right_{n}": x["vector"][:, 2 + n] for n in range(2)})
    frame.iloc[3, 2:] = np.nan
    options = {"random_state": 0, "max_iter": 40}
    by_name = MultimodalClassifier(**options).fit({"left": frame.iloc[:, :2], "right": frame.iloc[:, 2:]}, y)
    by_prefix = MultimodalClassifier(modalities="_", **options).fit(frame, y)
    by_place = MultimodalClassifier(modalities={"left": [0, 1], "right": [2, 3]}, **options).fit(frame.to_numpy(), y)
    expected = by_name.predict_proba({"left": frame.iloc[:, :2], "right": frame.iloc[:, 2:]})
    np.testing.assert_array_equal(by_prefix.predict_proba(frame), expected)
    np.testing.assert_array_equal(by_place.predict_proba(frame.to_numpy()), expected)
    assert by_prefix.n_features_in_ == 4
    assert list(by_prefix.feature_names_in_) == list(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        by_prefix.predict(frame.rename(columns={"left_0": "left_9"}))
    scores = cross_val_score(MultimodalClassifier(modalities="_", **options), frame, y, cv=2)
    assert scores.mean() > 0.8


def test_a_later_table_may_lack_all_columns_of_a_modality_but_not_some():
    draws = np.random.default_rng(0)
    y = np.arange(60) % 2
    names = ["left_0", "right_0", "left_1", "right_1"]
    table = pd.DataFrame(draws.normal(size=(60, 4)) + 2 * y[:, None], columns=names)
    model = MultimodalClassifier(max_iter=20, random_state=0, modalities="_").fit(table, y)
    without, blank = table.drop(columns=["right_0", "right_1"]), table.copy()
    blank[["right_0", "right_1"]] = np.nan
    assert np.array_equal(model.predict_proba(without), model.predict_proba(blank))
    assert (model.reliability(without)["right"] == 0).all()
    for other in (table.drop(columns="left_1"), without[["left_1", "left_0"]]):
        with pytest.raises(ValueError, match="feature names should match those that were passed during fit"):
            model.predict(other)


def test_a_table_without_groups_is_one_modality_with_nothing_to_compare():
    x, y = instances(100)
    model = MultimodalClassifier(random_state=0, max_iter=50).fit(x["vector"], y)
    assert model.calibrator_ == "none"
    assert model.score(x["vector"], y) > 0.9
    for ask in (model.reliability, model.explain):
        with pytest.raises(
            InputError, match="calibrator 'none' on x compares nothing and gives no reliability; fit two"
        ):
            ask(x["vector"])


@pytest.mark.parametrize("fusion", ["transformer", "concat", "mbt", "tfn"])
def test_other_fusions_take_the_same_modalities(fusion):
    x, y = instances(60)
    model = MultimodalClassifier(fusion=fusion, random_state=0, max_iter=10).fit(x, y)
    assert model.predict_proba(x).shape == (60, 2)


def test_the_history_tells_the_held_out_score_and_a_line_each():
    x, y = instances(100)
    model = MultimodalClassifier(random_state=0, max_iter=40).fit(x, y)
    assert all({"step", "loss", "validation"} == set(entry) for entry in model.history_)
    model = MultimodalClassifier(random_state=0, max_iter=40, validation_fraction=0).fit(x, y)
    assert [entry["step"] for entry in model.history_] == list(range(4, 41, 4))
    assert all({"step", "loss"} == set(entry) for entry in model.history_)


def test_verbose_writes_a_line_an_evaluation(capsys):
    x, y = instances(60)
    MultimodalClassifier(random_state=0, max_iter=10, verbose=1).fit(x, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("[MultimodalClassifier] step 1, loss ")
    MultimodalClassifier(random_state=0, max_iter=10).fit(x, y)
    assert capsys.readouterr().out == ""


def test_whole_groups_are_held_out():
    draws = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = {"a": draws.normal(size=(120, 3)), "b": draws.normal(size=(120, 3))}
    with pytest.raises(InputError, match="groups must name two groups or more"):
        MultimodalClassifier(max_iter=5).fit(x, y, groups=np.zeros(120))
    with pytest.raises(InputError, match=r"groups must name one group per instance, shape \(120,\); found \(3,\)"):
        MultimodalClassifier(max_iter=5).fit(x, y, groups=[1, 2, 3])
    model = MultimodalClassifier(max_iter=5, random_state=0).fit(x, y, groups=np.arange(120) // 40)
    assert len(model._usual_.reliability) == 40


def test_all_faults_of_the_parameters_are_told_at_once():
    x, y = instances(20)
    model = MultimodalClassifier(
        max_iter=0, batch_size=1.5, width=1, learning_rate=0, weight_decay=-1, validation_fraction=1, dropout="much",
        fusion="x", calibrator="y",
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        model.fit(x, y)
    for words in (
        "max_iter: input should be greater than or equal to 1; found 0",
        "batch_size: input should be a valid integer, got a number with a fractional part; found 1.5",
        "width: input should be a multiple of 2; found 1",
        "learning_rate: input should be greater than 0; found 0",
        "weight_decay: input should be greater than or equal to 0; found -1",
        "validation_fraction must be a number in [0, 1); found 1",
        "dropout must be 'auto' or a number in [0, 1); found 'much'",
        "unknown fusion 'x'; choose from: lf-dnn",
        "unknown calibrator 'y'; choose from: none",
    ):
        assert words in str(caught.value)
    with pytest.raises(InputError, match="width: input should be a multiple of 2; found 3"):
        MultimodalClassifier(width=3).fit(x, y)
    with pytest.raises(InputError, match="evidential decides for each modality alone and needs a late fusion"):
        MultimodalClassifier(calibrator="evidential", fusion="transformer").fit(x, y)


def test_input_errors_are_errors_of_concordant_and_of_values():
    assert issubclass(InputError, ConcordantError)
    assert issubclass(InputError, ValueError)


def test_another_kind_of_input_than_in_the_fit_is_refused(fitted):
    x, y = instances(20)
    with pytest.raises(InputError, match="X must be modalities by name, as in the fit; found ndarray"):
        fitted.predict(x["vector"])
    with pytest.raises(InputError, match="X has the unknown modality 'sound'; it was fitted on vector, steps, image"):
        fitted.predict({**x, "sound": np.ones((20, 1))})
    with pytest.raises(InputError, match="modalities groups the columns of a table, and X has modalities by name"):
        MultimodalClassifier(modalities="_").fit(x, y)
    table = MultimodalClassifier(max_iter=2).fit(x["vector"], y)
    with pytest.raises(InputError, match="X must be one table, as in the fit; found dict"):
        table.predict(x)


def test_unfitted_estimators_say_so():
    for ask in ("predict", "predict_proba", "reliability", "explain"):
        with pytest.raises(NotFittedError):
            getattr(MultimodalClassifier(), ask)({"a": np.ones((2, 1))})
    with pytest.raises(NotFittedError):
        MultimodalRegressor().predict({"a": np.ones((2, 1))})


def test_sample_weights_and_y_must_match_the_instances():
    x, y = instances(20)
    for weights, words in (
        (np.ones(3), r"sample_weight must have shape \(20,\); found \(3,\)"),
        (-np.ones(20), "sample_weight must be finite and not negative"),
        (np.zeros(20), "nothing but zeros"),
    ):
        with pytest.raises(InputError, match=words):
            MultimodalClassifier(max_iter=2).fit(x, y, sample_weight=weights)
    with pytest.raises(InputError, match="y must have one entry per instance: X has 20, inconsistent with 19 in y"):
        MultimodalClassifier(max_iter=2).fit(x, y[:-1])


def test_divergence_is_told():
    x, y = instances(40)
    with pytest.raises(ConcordantError, match=r"diverged at step \d+; choose a lower learning_rate than 1e\+30"):
        MultimodalClassifier(learning_rate=1e30, max_iter=30, validation_fraction=0).fit(x, y)


def refused(model, words, *given, **named):
    x, _ = instances(12)
    before, state = model.predict_proba(x), dict(vars(model))
    with pytest.raises(ConcordantError, match=words):
        model.fit(*given, **named)
    assert vars(model) == state
    np.testing.assert_array_equal(model.predict_proba(x), before)


def test_a_fit_that_fails_leaves_the_model_as_it_was(fitted):
    x, y = instances(60)
    few = {"vector": x["vector"][:, :2], "image": x["image"]}
    refused(fitted, "groups must name one group per instance", x, np.array(["a", "b"])[y], groups=[1, 2, 3])
    refused(fitted, "groups must name", few, np.arange(60) % 3, groups=[1])
    refused(fitted, "groups must name", x["vector"], y, groups=[1])
    refused(fitted, "holds nothing but zeros", x, y, sample_weight=np.zeros(60))
    refused(clone_of(fitted, learning_rate=1e30), "training diverged", x, y)


def clone_of(model, **parameters):
    return pickle.loads(pickle.dumps(model)).set_params(**parameters)


def test_a_pass_that_fails_leaves_the_model_as_it_was():
    x, y = instances(60)
    model = MultimodalRegressor(random_state=0, batch_size=16).partial_fit(x, y)
    model.partial_fit(x, y)
    before = model.predict(x)
    with pytest.raises(InputError, match="y must have one entry per instance"):
        model.partial_fit(x, y[:-1])
    with pytest.raises(ConcordantError, match="training diverged"):
        model.set_params(learning_rate=1e30).partial_fit(x, y)
    np.testing.assert_array_equal(model.predict(x), before)
    assert model.n_iter_ == 8
    again = MultimodalRegressor(random_state=0, batch_size=16).partial_fit(x, y).partial_fit(x, y).partial_fit(x, y)
    np.testing.assert_array_equal(model.set_params(learning_rate=3e-3).partial_fit(x, y).predict(x), again.predict(x))


def test_fits_in_several_threads_are_those_of_one():
    x, y = instances(60)

    def answers(seed):
        return MultimodalClassifier(random_state=seed, max_iter=15).fit(x, y).predict_proba(x)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(answers, [0, 0, 1, 1]))
    for seed, one in zip([0, 0, 1, 1], found, strict=True):
        np.testing.assert_array_equal(one, answers(seed))


def test_numbers_may_be_those_of_numpy():
    x, y = instances(60)
    plain = MultimodalClassifier(random_state=3, max_iter=5, batch_size=16, dropout=0.2, validation_fraction=0.2).fit(
        x, y
    )
    numpy = MultimodalClassifier(
        random_state=np.int64(3), max_iter=np.int32(5), batch_size=np.array(16), dropout=np.float64(0.2),
        validation_fraction=np.array(0.2),
    ).fit(x, y.astype(np.float32))  # fmt: skip
    np.testing.assert_array_equal(numpy.predict_proba(x), plain.predict_proba(x))
    assert type(numpy.seed_) is int
    assert MultimodalClassifier(random_state=np.array(3), max_iter=1).fit(x, y).seed_ == 3


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"device": "gpu"}, "device must be one that PyTorch can use here, such as cpu; found 'gpu'"),
        ({"device": None}, "device must be one that PyTorch can use here, such as cpu; found None"),
        ({"device": "meta"}, "device meta computes nothing"),
        ({"batch_size": True}, "batch_size: input should be a number; found True"),
        ({"learning_rate": np.inf}, "learning_rate: input should be a finite number; found inf"),
        ({"width": np.array([2, 4])}, "width: input should be a valid integer"),
        ({"fusion": ["lf-dnn"]}, r"unknown fusion \['lf-dnn'\]; choose from: lf-dnn"),
        ({"layouts": ["bd"]}, "layouts must be a dictionary from modality to layout"),
        ({"class_weight": {0: -1}}, "class_weight must hold finite weights of 0 or more"),
        ({"class_weight": {0: "a"}}, "class_weight cannot be used"),
        ({"random_state": "x"}, "random_state cannot be used .*cannot be used to seed"),
        ({"random_state": np.random.default_rng(0)}, "random_state cannot be used .*cannot be used to seed"),
    ],
)
def test_wrong_parameters_give_one_sentence(parameters, words):
    x, y = instances(20)
    model = MultimodalClassifier(**{"max_iter": 1, **parameters})
    with pytest.raises(InputError, match=words) as caught:
        model.fit(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("estimator", [MultimodalClassifier, MultimodalRegressor])
def test_labels_that_cannot_be_used_give_one_sentence(estimator):
    x, y = instances(20)
    model = estimator(max_iter=1)
    holes = y.astype(object)
    holes[3] = None
    for labels in (holes, np.ma.masked_array(y, mask=y == 1), np.where(y, np.nan, 1.0), np.full(20, pd.NA)):
        with pytest.raises(InputError) as caught:
            model.fit(x, labels)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="y must have one entry per instance: X has 20, inconsistent with 0 in y"):
        model.fit(x, 3)


def test_no_rows_are_refused_in_a_sentence(fitted):
    x, _ = instances(20)
    for ask in (fitted.predict, fitted.predict_proba, fitted.reliability, fitted.explain):
        with pytest.raises(InputError, match=r"^X has no rows; give it one instance or more$"):
            ask({name: values[:0] for name, values in x.items()})


def test_values_far_from_zero_are_told_apart():
    x, y = instances(100)
    del x["steps"]
    far = {name: values + 1.7e9 for name, values in x.items()}
    model = MultimodalClassifier(random_state=0, max_iter=40)
    assert model.fit(far, y).score(far, y) > 0.9
    assert model.score({name: list(values) for name, values in far.items()}, y) > 0.9


def test_another_default_type_of_pytorch_changes_nothing_for_the_user():
    x, y = instances(40)
    torch.set_default_dtype(torch.float64)
    try:
        found = MultimodalClassifier(random_state=0, max_iter=5).fit(x, y).predict_proba(x)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(found.sum(1), 1)
