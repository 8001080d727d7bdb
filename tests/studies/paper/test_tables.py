"""Every number of every table, against plain loops over instances and seeds and against SciPy."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from concordant import seeding
from concordant.statistics.bootstrap import paired_bootstrap
from concordant.statistics.significance import holm
from studies.paper.grid import Cell
from studies.paper.outcomes import MEAN, WORST
from studies.paper.pages import difference_text, mark
from studies.paper.tables import (
    ALL_PARAMETERS,
    GUESS,
    LOSS,
    PARAMETERS,
    RELATIVE,
    SHARP,
    SPREADS,
    STEP,
    WHAT,
    answer,
    compare_seeds,
    corrected,
    cost,
    joined,
)

RESAMPLES = 50


def mean_of(cell, label, condition):
    """Return the mean over all seeds and instances, one by one."""
    found = [value for run in cell.runs[label].values() for value in run.values[condition]]
    return sum(found) / len(found)


def worst_of(cell, label):
    return min(mean_of(cell, label, f"removal.{name}") for name in cell.cell.family.names)


def holm_by_hand(values):
    """Return Holm's correction: the k-th smallest of n times n - k + 1, never less than one before, at most 1."""
    found, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda one: values[one])):
        least = min(1.0, max(least, values[place] * (len(values) - rank)))
        found[place] = least
    return found


@pytest.mark.parametrize(
    ("question", "conditions"),
    [
        ("clean", ["clean"]),
        ("corruption", ["corruption.mean", "corruption.unseen", "corruption.seen"]),
        ("corruption-kinds", ["corruption.swap", "corruption.clipping"]),
        ("removal", ["removal.left", "removal.right", WORST]),
    ],
    ids=["clean", "corruption", "kinds", "removal"],
)
def test_every_number_is_a_mean_over_instances_and_seeds(drawn, question, conditions):
    cell = drawn()

    def expected(label, condition):
        return worst_of(cell, label) if condition == WORST else mean_of(cell, label, condition)

    table = answer(question, [cell], resamples=RESAMPLES)
    scores = {(row["condition"], row["label"]): row["mean"] for row in table.scores}
    assert list(scores) == [(condition, label) for condition in conditions for label in cell.labels]
    assert scores == {place: pytest.approx(expected(place[1], place[0])) for place in scores}
    assert [(row["condition"], row["of"], row["to"]) for row in table.rows] == [
        (condition, "context", label) for condition in conditions for label in ("none", "none+perturbed", "self")
    ]
    for row in table.rows:
        ours, theirs = (expected(label, row["condition"]) for label in ("context", row["to"]))
        assert row["mean_of"] == pytest.approx(ours)
        assert row["mean_to"] == pytest.approx(theirs)
        assert row["difference"] == pytest.approx(ours - theirs)
        assert row["low"] <= row["difference"] <= row["high"]


def test_deviations_are_over_seeds(drawn):
    cell = drawn(seeds=3)
    for row in answer("clean", [cell], resamples=RESAMPLES).scores:
        means = [run.values["clean"].mean() for run in cell.runs[row["label"]].values()]
        middle = sum(means) / 3
        assert row["std"] == pytest.approx((sum((one - middle) ** 2 for one in means) / 2) ** 0.5)
    assert {row["std"] for row in answer("clean", [drawn(seeds=1)], resamples=RESAMPLES).scores} == {None}


@pytest.mark.parametrize(("question", "by"), [("clean", None), ("removal", None), ("corruption-kinds", "family")])
def test_holm_is_over_the_table_or_over_each_family(drawn, question, by):
    cells = [drawn("a"), drawn("bb")]
    rows = answer(question, cells, resamples=RESAMPLES).rows
    groups = [rows] if by is None else [[row for row in rows if row["family"] == name] for name in ("a", "bb")]
    for group in groups:
        assert [row["p_holm"] for row in group] == pytest.approx(holm_by_hand([row["p"] for row in group]))
    assert sum(map(len, groups)) == len(rows)


def test_only_the_means_that_a_cell_has_are_asked_for(drawn):
    cell = drawn()
    for label in cell.labels:
        for run in cell.runs[label].values():
            del run.values["corruption.unseen"]
    found = {row["condition"] for row in answer("corruption", [cell], resamples=RESAMPLES).scores}
    assert found == {"corruption.mean", "corruption.seen"}


def test_a_row_has_the_statistics_of_the_bootstrap(cell):
    table = answer("corruption", [cell], resamples=RESAMPLES)
    row = next(one for one in table.rows if one["to"] == "self" and one["condition"] == MEAN)
    expected = paired_bootstrap(
        cell.outcomes("context", MEAN),
        cell.outcomes("self", MEAN),
        seed=seeding.derive_seed(0, "bootstrap"),
        resamples=RESAMPLES,
    )
    assert row["difference"] == pytest.approx(expected.difference)
    assert (row["low"], row["high"]) == pytest.approx(expected.ci95)
    assert row["p"] == expected.p_value
    assert row["std_of"] == pytest.approx(cell.means("context", MEAN).std(ddof=1))
    assert row["p_wilcoxon"] is None  # two seeds
    assert (row["seeds"], row["modalities"]) == (2, 2)
    assert [one["p_holm"] for one in table.rows] == holm([one["p"] for one in table.rows])


def test_ours_meets_every_other_method_under_every_condition(cell):
    others = [label for label in cell.labels if label != "context"]
    assert [row["to"] for row in answer("clean", [cell], resamples=RESAMPLES).rows] == others
    kinds = answer("corruption-kinds", [cell], resamples=RESAMPLES)
    assert len(kinds.rows) == len(others) * len(cell.any.oracles)
    assert len(kinds.scores) == len(cell.labels) * len(cell.any.oracles)


def test_the_worst_removal_is_each_method_s_own(cell):
    table = answer("removal", [cell], resamples=RESAMPLES)
    for label in cell.labels:
        mine = [row["mean"] for row in table.scores if row["label"] == label and row["condition"] != WORST]
        worst = next(row["mean"] for row in table.scores if row["label"] == label and row["condition"] == WORST)
        assert worst == pytest.approx(min(mine))


def test_detection_is_compared_with_a_guess_at_the_highest_severity(cell):
    table = answer("detection", [cell], resamples=RESAMPLES)
    assert {row["label"] for row in table.scores} == {"self", "after-fusion", "context"}
    assert {row["condition"].rpartition(".")[2] for row in table.rows} == {"5"}
    for row in table.rows:
        assert row["to"] == GUESS
        assert row["mean_to"] == 0.5
        assert row["mean_of"] == pytest.approx(cell.means(row["of"], row["condition"]).mean())


def test_stability_is_over_seeds_alone(cell):
    table = answer("stability", [cell], resamples=RESAMPLES)
    known = {(row["condition"], row["label"]): row["mean"] for row in table.scores}
    expected = np.mean([one["loss_variance"] for one in cell.stability["self"]])
    assert known["loss_variance", "self"] == pytest.approx(expected)
    assert known["spread of the clean score", "self"] == pytest.approx(cell.means("self", "clean").std(ddof=1))
    row = next(one for one in table.rows if one["to"] == "self" and one["condition"] == "sharpness")
    assert row["difference"] == pytest.approx(known["sharpness", "context"] - known["sharpness", "self"])
    assert row["p"] in (0.5, 1)  # all that two seeds can say
    assert row["low"] < row["difference"] < row["high"]
    assert table.less


def test_ablation_and_place_have_a_row_for_each_part_and_each_place(cell):
    parts = answer("ablation", [cell], resamples=RESAMPLES)
    assert {row["to"] for row in parts.rows} == {"context-no-support", "context-no-perturbation"}
    assert {row["condition"] for row in parts.rows} == {"clean", MEAN, "corruption.swap"}
    places = answer("place", [cell], resamples=RESAMPLES)
    assert {row["to"] for row in places.rows} == {"after-fusion"}
    assert {row["condition"] for row in places.rows} == {"clean", MEAN, WORST}


@pytest.mark.parametrize("name", ["clean", "corruption-kinds", "detection"])
def test_tables_of_single_cells_join_to_the_table_of_all(cell, name):
    other = replace(cell, cell=Cell(replace(cell.cell.family, name="another"), "lf-dnn"))
    whole = answer(name, [cell, other], resamples=RESAMPLES)
    single = [answer(name, [one], resamples=RESAMPLES) for one in (cell, other)]
    assert joined(name, [(one.scores, one.rows) for one in single]) == whole


PARTS = ("context-no-support", "context-no-conflict")


def test_differences_are_the_lead_of_the_whole_over_it_without_the_part(drawn):
    cell = drawn(ablations=PARTS)
    table = answer("ablation", [drawn("unablated"), cell], resamples=RESAMPLES)
    assert {row["family"] for row in (*table.scores, *table.rows)} == {"a"}
    scores = {(row["condition"], row["label"]): row["mean"] for row in table.scores}
    conditions = ("clean", "corruption.mean", "corruption.swap")
    assert list(scores) == [(condition, label) for condition in conditions for label in ("context", *PARTS)]
    for (condition, label), mean in scores.items():
        values = [value for run in cell.runs[label].values() for value in run.values[condition]]
        assert mean == pytest.approx(sum(values) / len(values))
    assert [(row["condition"], row["to"]) for row in table.rows] == [one for one in scores if one[1] != "context"]
    for row in table.rows:
        whole, less = (scores[row["condition"], label] for label in ("context", row["to"]))
        assert row["difference"] == pytest.approx(whole - less)


def test_places_are_those_that_a_cell_has(drawn):
    cells = [
        drawn("a", ("none", "attention", "after-fusion", "context")),
        drawn("bb", ("attention", "context")),
        drawn("ccc", ("none", "context")),
    ]
    table = answer("place", cells, resamples=RESAMPLES)
    found = {name: [row["label"] for row in table.scores if row["family"] == name] for name in ("a", "bb", "ccc")}
    assert found == {"a": 3 * ["context", "after-fusion", "attention"], "bb": 3 * ["context", "attention"], "ccc": []}
    assert len(table.rows) == 3 * 2 + 3 * 1


def test_the_worst_removal_is_each_place_s_own(drawn):
    cells = [drawn(name, ("after-fusion", "context")) for name in ("a", "bb", "ccc", "dddd")]
    worst = [
        [min(("left", "right"), key=lambda one: mean_of(cell, label, f"removal.{one}")) for label in cell.labels]
        for cell in cells
    ]
    assert ["left", "right"] in map(sorted, worst)
    table = answer("place", cells, resamples=RESAMPLES)
    scores = {(row["family"], row["label"]): row["mean"] for row in table.scores if row["condition"] == WORST}
    for cell in cells:
        name = cell.cell.family.name
        for label in cell.labels:
            both = [cell.means(label, f"removal.{one}").mean() for one in ("left", "right")]
            assert scores[name, label] == pytest.approx(min(both))
        (row,) = [one for one in table.rows if (one["family"], one["condition"]) == (name, WORST)]
        assert row["difference"] == pytest.approx(scores[name, "context"] - scores[name, "after-fusion"])


def test_areas_are_means_and_are_compared_with_one_half_at_the_top(drawn):
    cell = drawn()
    table = answer("detection", [cell], resamples=RESAMPLES)
    scores = {(row["label"], row["condition"]): row["mean"] for row in table.scores}
    expected = {
        (label, f"{what}.{kind}.{severity}"): pytest.approx(
            np.mean([run.values[f"{what}.{kind}.{severity}"] for run in cell.runs[label].values()])
        )
        for label in ("self", "context")
        for what in WHAT
        for kind in ("swap", "clipping")
        for severity in (1, 5)
    }
    assert scores == expected
    assert [(row["of"], row["condition"]) for row in table.rows] == [one for one in expected if one[1].endswith(".5")]
    for row in table.rows:
        assert (row["to"], row["mean_to"], row["std_to"]) == (GUESS, 0.5, 0.0)
        assert row["difference"] == pytest.approx(scores[row["of"], row["condition"]] - 0.5)


def test_a_method_that_lacks_a_seed_s_reliability_has_no_row(drawn):
    cell = drawn()
    for name in [name for name in cell.runs["self"][1].values if name.startswith("which.")]:
        del cell.runs["self"][1].values[name]
    rows = answer("detection", [cell], resamples=RESAMPLES).scores
    assert {row["condition"].partition(".")[0] for row in rows if row["label"] == "self"} == {"whether"}
    assert {row["condition"].partition(".")[0] for row in rows if row["label"] == "context"} == {"which", "whether"}


def test_without_any_reliability_there_is_nothing_to_say(drawn):
    table = answer("detection", [drawn(labels=("none", "none+perturbed"))], resamples=RESAMPLES)
    assert (table.scores, table.rows) == ([], [])


def test_families_are_corrected_apart(drawn):
    alone = [answer("detection", [drawn(name)], resamples=RESAMPLES).rows for name in ("a", "bb")]
    both = answer("detection", [drawn("a"), drawn("bb")], resamples=RESAMPLES).rows
    assert both == [row for rows in alone for row in rows]
    assert any(row["p_holm"] > row["p"] for row in both)


LABELS = ("none", "self", "context")
DRAWS = np.random.default_rng(0).uniform(0.1, 2.0, (len(LABELS), 3, 2))


def observed(**missing):
    """Return what three seeds of each method measured; a method that is named lacks a measure in one seed."""
    known = {
        label: [{LOSS: float(loss), SHARP: float(sharp)} for loss, sharp in DRAWS[number]]
        for number, label in enumerate(LABELS)
    }
    for label, measure in missing.items():
        known[label][1][measure] = None
    return known


def entries(table, condition):
    return {row["label"]: row for row in table.scores if row["condition"] == condition}


def test_measures_are_means_over_seeds_and_less_is_ahead(drawn):
    table = answer("stability", [drawn(labels=LABELS, stability=observed())], resamples=1)
    for column, measure in enumerate((LOSS, SHARP)):
        for number, label in enumerate(LABELS):
            row = entries(table, measure)[label]
            assert row["mean"] == pytest.approx(sum(DRAWS[number, :, column]) / 3)
            assert row["std"] == pytest.approx(np.std(DRAWS[number, :, column], ddof=1))
        for number, label in enumerate(LABELS[:-1]):
            gaps = DRAWS[-1, :, column] - DRAWS[number, :, column]
            (row,) = [one for one in table.rows if (one["condition"], one["to"]) == (measure, label)]
            assert row["difference"] == pytest.approx(gaps.mean())
            flips = [abs(np.dot(signs, gaps)) for signs in itertools.product((1, -1), repeat=3)]
            assert row["p"] == pytest.approx(np.mean(np.array(flips) >= abs(gaps.sum()) - 1e-12))
    assert table.less
    assert len(table.rows) == 2 * (len(LABELS) - 1)


def test_a_method_without_a_measure_has_no_row_of_it_and_the_others_do(drawn):
    table = answer("stability", [drawn(labels=LABELS, stability=observed(self=SHARP))], resamples=1)
    assert set(entries(table, SHARP)) == {"none", "context"}
    assert set(entries(table, LOSS)) == set(LABELS)
    assert [(row["condition"], row["to"]) for row in table.rows] == [(LOSS, "none"), (LOSS, "self"), (SHARP, "none")]


def test_without_ours_nothing_is_compared(drawn):
    table = answer("stability", [drawn(labels=LABELS, stability=observed(context=LOSS))], resamples=1)
    assert {row["condition"] for row in table.rows} == {SHARP}


def test_spreads_are_deviations_of_the_seeds_scores(drawn):
    cell = drawn(labels=LABELS, stability=observed())
    table = answer("stability", [cell], resamples=1)
    for name, condition in SPREADS.items():
        for label, row in entries(table, name).items():
            means = [float(run.values[condition].mean()) for run in cell.runs[label].values()]
            assert row["mean"] == pytest.approx(np.std(means, ddof=1))
            assert row["std"] is None


def test_the_spread_of_a_single_seed_is_not_known(drawn):
    single = {label: seeds[:1] for label, seeds in observed().items()}
    table = answer("stability", [drawn(labels=LABELS, seeds=1, stability=single)], resamples=1)
    for name in SPREADS:
        assert [row["mean"] for row in entries(table, name).values()] == [None, None, None]
    assert {row["p"] for row in table.rows} == {1.0}


def test_cells_that_were_not_observed_have_no_row(drawn):
    table = answer("stability", [drawn("a"), drawn("bb", LABELS, stability=observed())], resamples=1)
    assert {row["family"] for row in (*table.scores, *table.rows)} == {"bb"}


def test_every_method_of_every_cell_has_its_own_four_numbers(drawn):
    cells = [drawn("a"), drawn("bb", ("none", "context"))]
    timings = {
        cell.cell.name: {
            "methods": {
                label: {"median_ms": 10 * number + place, "relative": 1 + place / 4}
                for place, label in enumerate(cell.labels)
            }
        }
        for number, cell in enumerate(cells, start=1)
    }
    table = joined("cost", [cost(cell, timings[cell.cell.name]) for cell in cells])
    found = {(row["family"], row["label"], row["condition"]): row["mean"] for row in table.scores}
    assert len(found) == len(table.scores) == 4 * (4 + 2)
    assert [found["a", "self", one] for one in (PARAMETERS, ALL_PARAMETERS, STEP, RELATIVE)] == [40, 1040, 12, 1.5]
    assert [found["bb", "context", one] for one in (PARAMETERS, ALL_PARAMETERS, STEP, RELATIVE)] == [70, 1070, 21, 1.25]
    assert {row["std"] for row in table.scores} == {None}
    assert (table.rows, table.compares, table.unit) == ([], False, "")


@pytest.mark.parametrize(("count", "p"), [(1, 1.0), (3, 0.25), (5, 0.0625)])
def test_few_seeds_are_never_sure(cell, count, p):
    row = compare_seeds(cell, "sharpness", "context", "self", np.arange(1.0, count + 1), np.zeros(count))
    assert row["p"] == pytest.approx(p)


def test_the_p_value_of_seeds_is_that_of_all_flips_of_signs(cell):
    ours = np.random.default_rng(0).normal(0.5, 1, 10)
    flips = [abs(np.dot(signs, ours)) for signs in itertools.product((1, -1), repeat=10)]
    expected = np.mean(np.array(flips) >= abs(ours.sum()) - 1e-12)
    assert compare_seeds(cell, "sharpness", "context", "self", ours, np.zeros(10))["p"] == pytest.approx(expected)
    assert compare_seeds(cell, "sharpness", "context", "self", ours, ours)["p"] == 1
    assert compare_seeds(cell, "sharpness", "context", "self", np.ones(20), np.zeros(20))["p"] < 0.001


def test_a_comparison_of_seeds_has_student_s_interval(cell):
    ours, theirs = np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 1.0])
    row = compare_seeds(cell, "sharpness", "context", "self", ours, theirs)
    low, high = stats.t.interval(0.95, 2, loc=1.5, scale=stats.sem(ours - theirs))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert row["p_wilcoxon"] is None
    single = compare_seeds(cell, "sharpness", "context", "self", ours[:1], theirs[:1])
    assert (single["low"], single["p"]) == (None, 1.0)
    assert difference_text(single["low"], "") == "-"


def test_holm_is_over_all_rows_or_over_those_that_agree():
    rows = [{"family": name, "p": p} for name, p in (("a", 0.01), ("a", 0.03), ("b", 0.02))]
    assert [row["p_holm"] for row in corrected(rows)] == holm([0.01, 0.03, 0.02])
    assert [row["p_holm"] for row in corrected(rows, by="family")] == [*holm([0.01, 0.03]), 0.02]


def test_marks_say_who_is_ahead():
    row = {"p_holm": 0.049, "difference": -0.1}
    assert (mark(row), mark(row, less=True)) == (" -", " +")
    assert mark({**row, "p_holm": 0.05}) == mark({**row, "difference": 0.0}) == mark({**row, "p_holm": None}) == ""
