"""The random search: draws within their bounds, each on a stream of its own, and the choice by validation scores."""

import re

import numpy as np
import pytest

from concordant.sweep.search import candidate_row, choose, draw, read_space

GIVEN = {"learning_rate": {"log": [1e-4, 0.01]}, "dropout": {"uniform": [0, 0.5]}, "width": [16, 32, 64]}


def test_a_space_is_read_as_the_recipe_takes_it():
    space = read_space(GIVEN)
    assert space == {
        "learning_rate": {"log": [1e-4, 1e-2]},
        "dropout": {"uniform": [0.0, 0.5]},
        "width": [16, 32, 64],
    }
    assert read_space(space) == space


def test_draws_follow_their_distributions():
    space = read_space(GIVEN)
    drawn = [draw(space, candidate) for candidate in range(400)]
    rates = np.array([one["learning_rate"] for one in drawn])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-2
    assert abs((rates < 1e-3).mean() - 0.5) < 0.08  # half of the draws in each decade
    assert abs(np.mean([one["dropout"] for one in drawn]) - 0.25) < 0.03
    counts = np.unique([one["width"] for one in drawn], return_counts=True)
    assert counts[0].tolist() == [16, 32, 64]
    assert counts[1].min() > 90
    assert all(float(f"{rate:.4g}") == rate for rate in rates)


def test_a_field_more_changes_no_other_draw_and_a_seed_changes_all():
    space = read_space(GIVEN)
    alone = {"dropout": space["dropout"]}
    assert [draw(alone, k)["dropout"] for k in range(9)] == [draw(space, k)["dropout"] for k in range(9)]
    assert draw(space, 0) == draw(space, 0)
    assert draw(space, 0) != draw(space, 1)
    assert draw(space, 0) != draw(space, 0, seed=1)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rate": [1]}, "unknown field 'rate'; choose from: steps, batch, learning_rate"),
        ({"dropout": []}, "dropout must be a list of values, {log: [low, high]} or {uniform: [low, high]}; found []"),
        ({"dropout": {"normal": [0, 1]}}, "dropout must be a list of values, {log: [low, high]}"),
        ({"dropout": [0.1, 1.5]}, "dropout: input should be less than 1; found 1.5"),
        ({"learning_rate": {"log": [0.1, "x"]}}, "learning_rate: input should be a number"),
        ({"learning_rate": {"log": [0.1]}}, "learning_rate.log must be [low, high]; found [0.1]"),
        ({"learning_rate": {"log": [0.1, 0.01]}}, "learning_rate.log must have the lower number first"),
        ({"weight_decay": {"log": [0, 0.01]}}, "weight_decay.log must be above 0; found [0, 0.01]"),
        ({"width": {"uniform": [8, 64]}}, "width takes whole numbers; list the values to try, such as [32, 64]"),
    ],
)
def test_faults_of_a_space(given, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        read_space(given)
    assert str(caught.value).count("; choose") == text.count("; choose")


def test_all_faults_of_a_space_are_reported_at_once():
    with pytest.raises(ValueError, match=r"found 1\.5; dropout: .+ found 2; unknown field 'rate'"):
        read_space({"dropout": [1.5, 2, 0.1], "rate": [1]})


def test_the_best_mean_is_chosen_and_the_first_of_equals():
    def row(number, *scores):
        results = [{"validation": score, "error": None if score else "training diverged"} for score in scores]
        return candidate_row("none", number, {"width": number}, results)

    assert row(1, 0.5, 0.7) == {
        "label": "none",
        "candidate": 1,
        "recipe": {"width": 1},
        "validation": [0.5, 0.7],
        "mean": pytest.approx(0.6),
        "error": None,
    }
    failed = row(0, 0.9, None)  # with one seed of two
    assert (failed["mean"], failed["error"], failed["validation"]) == (None, "training diverged", [0.9, None])
    rows = [failed, row(1, 0.4, 0.6), row(2, 0.7, 0.7), row(3, 0.6, 0.8)]
    assert choose(rows)["candidate"] == 2
    assert choose([failed]) is None
