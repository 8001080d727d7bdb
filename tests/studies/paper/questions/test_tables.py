"""The other questions: what their rows say, against what the outcomes say."""

from dataclasses import replace

import numpy as np
import pytest

from concordant import seeding
from concordant.statistics.bootstrap import paired_bootstrap
from concordant.statistics.significance import holm
from studies.paper.grid import Cell
from studies.paper.outcomes import MEAN
from studies.paper.questions.ablation import ablation, place
from studies.paper.questions.cost import PARAMETERS, RELATIVE, cost
from studies.paper.questions.detection import GUESS, detection
from studies.paper.questions.scores import WORST, clean, corruption, corruption_kinds, removal
from studies.paper.questions.stability import stability
from studies.paper.table import joined

RESAMPLES = 200


def test_a_row_has_the_statistics_of_the_bootstrap(cell):
    table = corruption([cell], resamples=RESAMPLES)
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
    assert (row["seeds"], row["modalities"]) == (2, 3)
    assert [one["p_holm"] for one in table.rows] == holm([one["p"] for one in table.rows])


def test_ours_meets_every_other_method_under_every_condition(cell):
    others = [label for label in cell.labels if label != "context"]
    assert [row["to"] for row in clean([cell], resamples=RESAMPLES).rows] == others
    kinds = corruption_kinds([cell], resamples=RESAMPLES)
    assert len(kinds.rows) == len(others) * len(cell.any.kinds)
    assert len(kinds.scores) == len(cell.labels) * len(cell.any.kinds)


def test_the_worst_removal_is_each_method_s_own(cell):
    table = removal([cell], resamples=RESAMPLES)
    for label in cell.labels:
        mine = [row["mean"] for row in table.scores if row["label"] == label and row["condition"] != WORST]
        worst = next(row["mean"] for row in table.scores if row["label"] == label and row["condition"] == WORST)
        assert worst == pytest.approx(min(mine))


def test_detection_is_compared_with_a_guess_at_the_highest_severity(cell):
    table = detection([cell], resamples=RESAMPLES)
    assert {row["label"] for row in table.scores} == {"self", "uncertainty", "after-fusion", "context"}
    assert {row["condition"].rpartition(".")[2] for row in table.rows} == {"5"}
    for row in table.rows:
        assert row["to"] == GUESS
        assert row["mean_to"] == 0.5
        assert row["mean_of"] == pytest.approx(cell.means(row["of"], row["condition"]).mean())


def test_stability_is_over_seeds_alone(cell):
    table = stability([cell], resamples=RESAMPLES)
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
    parts = ablation([cell], resamples=RESAMPLES)
    assert {row["to"] for row in parts.rows} == {"context-no-support", "context-no-perturbation"}
    assert {row["condition"] for row in parts.rows} == {"clean", MEAN, "corruption.swap"}
    places = place([cell], resamples=RESAMPLES)
    assert {row["to"] for row in places.rows} == {"after-fusion"}
    assert {row["condition"] for row in places.rows} == {"clean", MEAN, WORST}


def test_cost_has_parameters_and_times_of_every_method(cell):
    timings = {"digits/lf-dnn": {"methods": {label: {"median_ms": 2.0, "relative": 1.5} for label in cell.labels}}}
    table = cost([cell], timings)
    known = {(row["condition"], row["label"]): row["mean"] for row in table.scores}
    assert known[PARAMETERS, "none"] == 0
    assert known[PARAMETERS, "context"] == cell.runs["context"][0].extra["parameters"]
    assert known[RELATIVE, "context"] == 1.5


def test_tables_of_single_cells_join_to_the_table_of_all(cell):
    family = replace(cell.cell.family, name="another")
    other = replace(cell, cell=Cell(family, "lf-dnn", first=True))
    for question in (clean, corruption_kinds, detection):
        whole = question([cell, other], resamples=RESAMPLES)
        assert joined([question([one], resamples=RESAMPLES) for one in (cell, other)]) == whole
