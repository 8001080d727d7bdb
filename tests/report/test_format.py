import pytest

from concordant.report.format import by_column, label_of, labels_of, listed, mean, p_text, plural, std, values_of


def a_run(calibrator, perturbed, seed=0, clean=0.5, noise=0.4, swap=0.2):
    return {
        "calibrator": calibrator,
        "perturbed_training": perturbed,
        "seed": seed,
        "clean": {"accuracy": clean},
        "corruption": {"noise": {"accuracy": noise}, "swap": {"accuracy": swap}},
        "removal": {"b": {"accuracy": 0.1}},
    }


@pytest.mark.parametrize(
    ("calibrator", "perturbed", "label"),
    [
        ("none", False, "none"),
        ("none", True, "none+perturbed"),
        ("context", True, "context"),
        ("context", False, "context"),
    ],
)
def test_the_twin_trained_on_perturbed_features_has_a_label_of_its_own(calibrator, perturbed, label):
    assert label_of(a_run(calibrator, perturbed)) == label


def test_methods_keep_the_order_of_their_runs():
    runs = [a_run("none", perturbed=True), a_run("context", perturbed=True), a_run("none", perturbed=False)]
    assert labels_of({"runs": runs}) == ["none+perturbed", "context", "none"]
    assert labels_of({"runs": runs[::-1]}) == ["none", "context", "none+perturbed"]


def test_values_are_one_accuracy_per_seed():
    results = {"runs": [a_run("context", perturbed=True, seed=seed, clean=0.9 - 0.04 * seed) for seed in (0, 1)]}
    assert values_of(results, "context", "clean") == pytest.approx([0.9, 0.86])
    assert values_of(results, "context", "corruption.swap") == [0.2, 0.2]
    assert values_of(results, "context", "removal.b") == [0.1, 0.1]
    assert values_of(results, "context", "corruption.mean") == pytest.approx([0.3, 0.3])
    assert values_of(results, "unknown", "clean") == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0499, "0.050"), (1.0, "1.000")],
)
def test_p_values_have_three_digits(value, text):
    assert p_text(value) == text


def test_unknown_values_are_left_out_of_means():
    assert mean([1.0, None, 3.0, float("nan")]) == 2.0
    assert mean([None]) is None
    assert std([1.0, None]) is None
    assert std([1.0, 3.0]) == pytest.approx(2**0.5)
    assert by_column(mean, [[1.0, None], [3.0, 4.0, 5.0]]) == [2.0, 4.0]
    assert by_column(std, [[1.0, None], [3.0, 4.0]]) == [pytest.approx(2**0.5), None]


def test_counts_and_lists_read_as_english():
    assert plural(1, "row") == "1 row"
    assert listed(["none, clean", "gmu"]) == "none, clean; and gmu"
