import numpy as np
import pytest

from studies.paper.questions.detection import GUESS, WHAT, detection

RESAMPLES = 50


def test_areas_are_means_and_are_compared_with_one_half_at_the_top(drawn):
    cell = drawn()
    table = detection([cell], resamples=RESAMPLES)
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
    rows = detection([cell], resamples=RESAMPLES).scores
    assert {row["condition"].partition(".")[0] for row in rows if row["label"] == "self"} == {"whether"}
    assert {row["condition"].partition(".")[0] for row in rows if row["label"] == "context"} == {"which", "whether"}


def test_without_any_reliability_there_is_nothing_to_say(drawn):
    table = detection([drawn(labels=("none", "none+perturbed"))], resamples=RESAMPLES)
    assert (table.scores, table.rows) == ([], [])


def test_families_are_corrected_apart(drawn):
    alone = [detection([drawn(name)], resamples=RESAMPLES).rows for name in ("a", "bb")]
    both = detection([drawn("a"), drawn("bb")], resamples=RESAMPLES).rows
    assert both == [row for rows in alone for row in rows]
    assert any(row["p_holm"] > row["p"] for row in both)
