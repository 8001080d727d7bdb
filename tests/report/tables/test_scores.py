import numpy as np

from concordant.report.format import shown as name_of
from concordant.report.tables import scores
from concordant.statistics.comparisons import family_of

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
        "family": family_of(to, condition),
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


def texts(table):
    return [list(table.columns), *([str(cell) for cell in row] for row in table.cells)]


def column(table, name):
    return [row[list(table.columns).index(name)] for row in table.cells]


def mean_and_std(values):
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"


def test_scores_of_all_methods_under_all_conditions():
    found = texts(scores.accuracy(a_result()))
    assert found[0] == ["calibrator", "its parameters", "clean", "noise", "swap", "mean", "without a", "without b"]
    for label, count in (("none", "0"), ("none+perturbed", "0"), ("context", "12,345")):
        one = ACCURACY[label]
        mean = [(a + b) / 2 for a, b in zip(one["noise"], one["swap"], strict=True)]
        values = [one["clean"], one["noise"], one["swap"], mean, one["a"], one["b"]]
        assert [name_of(label), count, *map(mean_and_std, values)] in found
    assert scores.accuracy(a_result()).caption == "digits · concat · accuracy %, mean ± std over 2 seeds"


def test_the_first_of_the_best_of_each_column_is_strong():
    table = scores.accuracy(a_result())
    for name in table.columns[2:]:
        values = [cell.value for cell in column(table, name)]
        assert [cell.strong for cell in column(table, name)] == [
            place == values.index(max(values)) for place in range(len(values))
        ]


def test_scores_of_one_seed_have_no_deviation():
    results = a_result()
    results["runs"] = [run for run in results["runs"] if run["seed"] == 0]
    table = scores.accuracy(results)
    assert table.caption.endswith("over 1 seed")
    assert texts(table)[-1] == ["Concordant", "12,345", "90.0", "70.0", "60.0", "65.0", "75.0", "40.0"]


def test_a_run_without_corruptions_has_no_mean_of_them():
    results = a_result()
    for run in results["runs"]:
        run["corruption"], run["detection_auroc"] = {}, {}
    assert list(scores.accuracy(results).columns) == ["calibrator", "its parameters", "clean", "without a", "without b"]
    assert not scores.detection(results).rows


def test_the_tables_of_a_run_fit_a_terminal_of_80_columns(shown):
    found = scores.terminal_tables(a_result())
    assert [table.name for table in found] == ["scores", "detection", "scores", "comparisons"]
    assert shown(*found, width=80) == shown(*found, width=200)


def test_the_terminal_shows_removals_and_parameters_apart(shown):
    first, _, third, _ = scores.terminal_tables(a_result())
    assert list(first.columns) == ["calibrator", "clean", "noise", "swap", "mean"]
    assert list(third.columns) == ["calibrator", "without a", "without b", "its parameters"]
    assert "clean, and with one modality of every instance corrupted" in first.caption
    assert any("±" in line and " ± " not in line for line in shown(first))


def test_comparisons_have_difference_interval_and_p_values():
    table = scores.comparisons(a_result(), lambda condition: not condition.startswith("removal."), short=True)
    assert texts(table) == [
        ["to", "condition", "points", "95 % interval", "p (bootstrap, Holm)", "p (Wilcoxon)"],
        ["none, clean", "clean *", "+7.0", "+4.1 to +9.9", "<0.001", "-"],
        ["none, clean", "mean *", "+24.5", "+20.0 to +29.0", "0.012", "0.008"],
        ["none, clean", "noise", "+20.0", "+15.0 to +25.0", "0.020", "-"],
        ["none, perturbed", "clean *", "-1.2", "-3.1 to +0.7", "0.200", "-"],
        ["none, perturbed", "mean *", "+16.5", "+10.0 to +23.0", "0.050", "-"],
    ]
    assert "Concordant minus each" in table.caption
    assert [cell.strong for cell in column(table, "points")] == [True, True, True, False, True]
    whole = texts(scores.comparisons(a_result()))
    assert whole[1][:3] == ["Concordant - none, clean", "clean", "primary"]
    assert whole[4] == ["Concordant - none, clean", "removal.a", "secondary", "+16.0", "+11.1 to +22.2", "0.030", "-"]


def test_detection_shows_the_methods_that_give_a_reliability():
    assert texts(scores.detection(a_result())) == [
        ["which modality / whether one: AUROC", "noise", "swap"],
        ["Concordant", "0.91 / 0.80", "0.70 / 0.55"],
    ]
    results = a_result()
    results["runs"] = [run for run in results["runs"] if run["calibrator"] == "none"]
    assert not scores.detection(results).rows


def test_sentiment_has_the_metrics_of_regression_where_there_are_any():
    results = a_result()
    assert not scores.sentiment(results).rows
    for run in results["runs"]:
        run["clean"] = {"mae": 0.7 + 0.1 * run["seed"], "correlation": 0.8, "accuracy7": None, "accuracy5": 0.5}
        run["clean"] |= {"has0_accuracy": 0.85, "non0_accuracy": 0.87, "non0_f1_weighted": 0.9}
    assert texts(scores.sentiment(results))[1] == ["none, clean", "85.0", "87.0", "90.0", "-", "50.0", "0.750", "0.800"]


def test_a_brief_has_scores_detection_and_main_differences(real):
    text = scores.brief(real("digits").results)
    values = [run["clean"]["accuracy"] for run in real("digits").results["runs"] if run["calibrator"] == "context"]
    line = next(line for line in text.splitlines() if line.startswith("| Concordant |"))
    assert mean_and_std(values) in line
    assert "**" in line
    assert "| corruption.mean |" in text
    assert "| corruption.swap |" not in text
    assert scores.brief(a_result()).startswith("`digits`, concat fusion, accuracy in percent, mean ± std over 2 seeds:")


def test_all_runs_and_rows_are_in_one_table(real, example):
    grid = real("grid-av-digits").grid
    rows = [("one", "av-digits", scores.as_row(example.results), example.corruption)]
    rows += [("two", grid["benchmark"], row, None) for row in grid["rows"]]
    table = scores.joint(rows)
    assert len(table.rows) == 4 + 8 * 5
    assert [cell.text for cell in column(table, "run")].count("two") == 40
    ours = [str(cell) for cell in table.cells[3]]
    assert ours[3] == "Concordant"
    assert ours[-2:] == ["-", "-"]
    assert column(table, "all corruptions")[4].text == "-"
    entry = next(one for one in example.results["comparisons"] if one["condition"] == "corruption.mean")
    assert column(table, "ours minus it")[0].text == f"{100 * entry['difference']:+.1f}"
    assert "all corruptions" not in scores.joint(rows[1:]).columns
    for name in ("clean", "quick corruption"):
        assert [cell.strong for cell in column(table, name)[:4]].count(True) == 1
