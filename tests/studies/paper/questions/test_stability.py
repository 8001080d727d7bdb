import itertools

import numpy as np
import pytest

from studies.paper.questions.stability import LOSS, SHARP, SPREADS, stability

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
    table = stability([drawn(labels=LABELS, stability=observed())], resamples=1)
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
    table = stability([drawn(labels=LABELS, stability=observed(self=SHARP))], resamples=1)
    assert set(entries(table, SHARP)) == {"none", "context"}
    assert set(entries(table, LOSS)) == set(LABELS)
    assert [(row["condition"], row["to"]) for row in table.rows] == [(LOSS, "none"), (LOSS, "self"), (SHARP, "none")]


def test_without_ours_nothing_is_compared(drawn):
    table = stability([drawn(labels=LABELS, stability=observed(context=LOSS))], resamples=1)
    assert {row["condition"] for row in table.rows} == {SHARP}


def test_spreads_are_deviations_of_the_seeds_scores(drawn):
    cell = drawn(labels=LABELS, stability=observed())
    table = stability([cell], resamples=1)
    for name, condition in SPREADS.items():
        for label, row in entries(table, name).items():
            means = [float(run.values[condition].mean()) for run in cell.runs[label].values()]
            assert row["mean"] == pytest.approx(np.std(means, ddof=1))
            assert row["std"] is None


def test_the_spread_of_a_single_seed_is_not_known(drawn):
    single = {label: seeds[:1] for label, seeds in observed().items()}
    table = stability([drawn(labels=LABELS, seeds=1, stability=single)], resamples=1)
    for name in SPREADS:
        assert [row["mean"] for row in entries(table, name).values()] == [None, None, None]
    assert {row["p"] for row in table.rows} == {1.0}


def test_cells_that_were_not_observed_have_no_row(drawn):
    table = stability([drawn("a"), drawn("bb", LABELS, stability=observed())], resamples=1)
    assert {row["family"] for row in (*table.scores, *table.rows)} == {"bb"}
