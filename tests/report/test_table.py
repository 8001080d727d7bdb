from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from concordant.report.table import (
    comparison_table,
    detection_table,
    label_of,
    labels_of,
    mean_and_std,
    p_text,
    removal_table,
    score_table,
    summary_line,
    values_of,
)

ACCURACY = {  # label -> condition -> accuracies of seeds 0 and 1
    "none": {"clean": (0.80, 0.82), "noise": (0.50, 0.54), "swap": (0.30, 0.34), "a": (0.60, 0.60), "b": (0.1, 0.3)},
    "none+perturbed": {
        "clean": (0.81, 0.81),
        "noise": (0.6, 0.6),
        "swap": (0.4, 0.4),
        "a": (0.7, 0.7),
        "b": (0.2, 0.2),
    },
    "context": {"clean": (0.9, 0.86), "noise": (0.7, 0.74), "swap": (0.6, 0.62), "a": (0.75, 0.77), "b": (0.4, 0.5)},
}


def a_run(label, seed):
    accuracy = {condition: {"accuracy": values[seed], "macro_f1": 0.0} for condition, values in ACCURACY[label].items()}
    tells = label == "context"
    auroc = {"noise": (0.9 + 0.02 * seed, 0.8), "swap": (0.7, 0.55)}
    return {
        "calibrator": label.removesuffix("+perturbed"),
        "perturbed_training": label != "none",
        "seed": seed,
        "parameters": 12345 if tells else 0,
        "clean": accuracy["clean"],
        "corruption": {kind: accuracy[kind] for kind in ("noise", "swap")},
        "removal": {name: accuracy[name] for name in ("a", "b")},
        "detection_auroc": {
            kind: {"which": which if tells else None, "whether": whether if tells else None}
            for kind, (which, whether) in auroc.items()
        },
    }


def a_comparison(to, condition, difference, ci95, p_holm, p_wilcoxon=None):
    return {
        "of": "context",
        "to": to,
        "condition": condition,
        "difference": difference,
        "ci95": ci95,
        "p_holm": p_holm,
        "p_wilcoxon": p_wilcoxon,
    }


def a_result():
    return {
        "benchmark": "digits",
        "fusion": "concat",
        "runs": [a_run(label, seed) for label in ACCURACY for seed in (0, 1)],
        "comparisons": [
            a_comparison("none", "clean", 0.07, [0.041, 0.099], 0.0004),
            a_comparison("none", "corruption.mean", 0.245, [0.2, 0.29], 0.0123, 0.0078),
            a_comparison("none", "corruption.noise", 0.2, [0.15, 0.25], 0.02),
            a_comparison("none", "removal.a", 0.16, [0.111, 0.222], 0.03),
            a_comparison("none+perturbed", "clean", -0.012, [-0.031, 0.0071], 0.2),
            a_comparison("none+perturbed", "corruption.mean", 0.165, [0.1, 0.23], 0.0499),
        ],
    }


def rows_of(table):
    """Return the headings and the cells of every row."""
    rows = zip(*(column.cells for column in table.columns), strict=True)
    return [[column.header for column in table.columns], *(list(row) for row in rows)]


def text_of(table, width=250):
    file = StringIO()
    Console(file=file, width=width).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


@pytest.mark.parametrize(
    ("calibrator", "perturbed", "label"),
    [
        ("none", False, "none"),
        ("none", True, "none+perturbed"),
        ("context", True, "context"),
        ("context", False, "context"),
    ],
)
def test_the_twin_that_was_trained_on_perturbed_features_has_a_name_of_its_own(calibrator, perturbed, label):
    assert label_of({"calibrator": calibrator, "perturbed_training": perturbed}) == label


def test_methods_keep_the_order_of_their_runs():
    assert labels_of(a_result()) == ["none", "none+perturbed", "context"]
    turned = {**a_result(), "runs": a_result()["runs"][::-1]}
    assert labels_of(turned) == ["context", "none+perturbed", "none"]


def test_values_are_one_accuracy_a_seed():
    results = a_result()
    assert values_of(results, "context", "clean") == [0.9, 0.86]
    assert values_of(results, "none", "corruption.swap") == [0.3, 0.34]
    assert values_of(results, "none+perturbed", "removal.b") == [0.2, 0.2]
    assert values_of(results, "none", "corruption.mean") == pytest.approx([0.4, 0.44])
    assert values_of(results, "unknown", "clean") == []


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5], "50.0"), ([1.0], "100.0"), ([0.5, 0.5], "50.0 ± 0.0"), ([0.12345, 0.2, 0.3], "20.8 ± 8.9")],
)
def test_mean_and_std_are_in_percent(values, text):
    assert mean_and_std(values) == text
    numbers = [float(number) for number in text.split(" ± ")]
    assert numbers[0] == pytest.approx(100 * np.mean(values), abs=0.051)
    if len(values) > 1:
        assert numbers[1] == pytest.approx(100 * np.std(values, ddof=1), abs=0.051)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0499, "0.050"), (1.0, "1.000")],
)
def test_p_values_have_three_digits(value, text):
    assert p_text(value) == text


def test_scores_of_all_methods_under_all_conditions():
    table = score_table(a_result())
    rows = rows_of(table)
    for label, shown in (("none", "none, clean"), ("none+perturbed", "none, perturbed"), ("context", "context")):
        found = ACCURACY[label]
        mean = [(a + b) / 2 for a, b in zip(found["noise"], found["swap"], strict=True)]
        scores = [found["clean"], found["noise"], found["swap"], mean]
        assert [shown, *(mean_and_std(values).replace(" ", "") for values in scores)] in rows
    assert ["calibrator", "clean", "noise", "swap", "mean"] in rows
    assert "digits · concat · accuracy %, mean ± std over 2 seeds" in text_of(table)


def test_removals_of_all_methods_and_their_parameters():
    rows = rows_of(removal_table(a_result()))
    for label, shown, parameters in (
        ("none", "none, clean", "0"),
        ("none+perturbed", "none, perturbed", "0"),
        ("context", "context", "12,345"),
    ):
        scores = [ACCURACY[label][name] for name in ("a", "b")]
        assert [shown, *(mean_and_std(values).replace(" ", "") for values in scores), parameters] in rows
    assert ["calibrator", "no a", "no b", "parameters"] in rows


def test_scores_of_one_seed_have_no_deviation():
    results = a_result()
    results["runs"] = [run for run in results["runs"] if run["seed"] == 0]
    text = text_of(score_table(results))
    assert "over 1 seed" in text
    assert "1 seeds" not in text
    assert ["context", "90.0", "70.0", "60.0", "65.0"] in rows_of(score_table(results))
    assert ["context", "75.0", "40.0", "12,345"] in rows_of(removal_table(results))


@pytest.mark.parametrize("build", [score_table, removal_table, comparison_table, detection_table])
def test_tables_fit_a_terminal_of_80_columns(build):
    assert text_of(build(a_result()), width=80) == text_of(build(a_result()), width=200)


def test_comparisons_say_difference_interval_and_p_values_without_removals():
    table = comparison_table(a_result())
    rows = rows_of(table)
    expected = [
        ["none, clean", "clean", "+7.0", "+4.1 to +9.9", "<0.001", "-"],
        ["none, clean", "mean", "+24.5", "+20.0 to +29.0", "0.012", "0.008"],
        ["none, clean", "noise", "+20.0", "+15.0 to +25.0", "0.020", "-"],
        ["none, perturbed", "clean", "-1.2", "-3.1 to +0.7", "0.200", "-"],
        ["none, perturbed", "mean", "+16.5", "+10.0 to +23.0", "0.050", "-"],
    ]
    assert [row for row in rows if len(row) == 6 and row[0].startswith("none")] == expected
    assert ["to", "condition", "points", "95 % interval", "p (Holm)", "Wilcoxon"] in rows
    assert "context minus each" in text_of(table)
    assert "without" not in text_of(table)


def test_a_gap_parts_the_methods_that_are_compared():
    lines = text_of(comparison_table(a_result())).splitlines()
    last = next(i for i, line in enumerate(lines) if "noise" in line)
    assert lines[last + 1].strip() == ""
    assert lines[last + 2].strip().startswith("none, perturbed")


def test_detection_shows_the_methods_that_give_a_reliability():
    table = detection_table(a_result())
    rows = rows_of(table)
    assert ["calibrator", "noise", "swap"] in rows
    assert ["context", "0.91 / 0.80", "0.70 / 0.55"] in rows
    assert sum("/ 0." in line for line in text_of(table).splitlines()) == 1
    assert "none" not in text_of(table)


def test_detection_is_nothing_when_no_method_gives_a_reliability():
    results = a_result()
    results["runs"] = [run for run in results["runs"] if run["calibrator"] == "none"]
    assert detection_table(results) is None


def test_the_summary_says_losses_like_wins():
    assert summary_line(a_result()).splitlines() == [
        "clean, context against none, clean: +7.0 points (p <0.001)",
        "corrupted (mean), context against none, clean: +24.5 points (p 0.012)",
        "clean, context against none, perturbed: -1.2 points (not significant, p 0.200)",
        "corrupted (mean), context against none, perturbed: +16.5 points (p 0.050)",
    ]
