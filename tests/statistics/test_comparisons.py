import numpy as np
import pytest

from concordant.statistics.bootstrap import Outcomes
from concordant.statistics.comparisons import central, compare, conditions, with_mean
from concordant.statistics.significance import holm, wilcoxon

IDS = [f"i{n}" for n in range(40)]


def outcomes(rate, seed, shift=0):
    draws = np.random.default_rng([seed, shift])
    return {
        name: Outcomes((draws.random(40) < rate).astype(float), IDS)
        for name in ("clean", "corruption.a", "corruption.b", "removal.x")
    }


def test_the_mean_is_over_an_instances_corruptions():
    one = outcomes(0.5, 0)
    expected = (one["corruption.a"].values + one["corruption.b"].values) / 2
    assert np.array_equal(with_mean(one)["corruption.mean"].values, expected)
    assert with_mean({"clean": one["clean"]}) == {"clean": one["clean"]}


def test_conditions_come_in_the_tables_order():
    assert conditions(["removal.x", "corruption.b", "clean"]) == [
        "clean",
        "corruption.mean",
        "corruption.b",
        "removal.x",
    ]


def test_ours_is_compared_else_the_last_named():
    assert central(["none", "context", "self"]) == "context"
    assert central(["none", "self", "joint"]) == "joint"
    assert compare({("context", 0): outcomes(0.5, 0)}, ["context"]) == []


def test_every_other_method_is_compared_under_every_condition():
    labels = ["none", "self", "context"]
    correct = {(label, seed): outcomes(0.3 + 0.2 * i, seed, i) for i, label in enumerate(labels) for seed in range(8)}
    found = compare(correct, labels, resamples=200)
    assert len(found) == 2 * 5
    for family in ("primary", "secondary"):
        mine = [entry for entry in found if entry["family"] == family]
        assert [entry["p_holm"] for entry in mine] == holm([entry["p_bootstrap"] for entry in mine])
    entry = next(e for e in found if (e["to"], e["condition"]) == ("self", "clean"))
    ours, theirs = (
        np.array([np.mean(correct[label, seed]["clean"].values) for seed in range(8)]) for label in ("context", "self")
    )
    assert entry["difference"] == pytest.approx(float((ours - theirs).mean()))
    assert entry["p_wilcoxon"] == wilcoxon(ours - theirs)
    assert (entry["of"], entry["seeds"], entry["metric"]) == ("context", 8, "accuracy")


def test_a_condition_that_one_seed_lacks_is_compared_nowhere():
    correct = {(label, seed): outcomes(0.5, seed, i) for i, label in enumerate(("none", "context")) for seed in (0, 1)}
    for label in ("none", "context"):
        del correct[label, 1]["corruption.b"]
    found = {entry["condition"]: entry["difference"] for entry in compare(correct, ["none", "context"], resamples=50)}
    assert list(found) == ["clean", "corruption.mean", "corruption.a", "removal.x"]
    assert found["corruption.mean"] == found["corruption.a"]


def test_the_draws_do_not_depend_on_what_else_is_compared():
    correct = {
        (label, seed): outcomes(0.5, seed, i) for i, label in enumerate(("none", "self", "context")) for seed in (0, 1)
    }
    both = compare(correct, ["none", "self", "context"], resamples=100)
    alone = compare(correct, ["none", "context"], resamples=100)
    assert [e["ci95"] for e in both if e["to"] == "none"] == [e["ci95"] for e in alone]


def test_rivals_and_baselines_do_not_change_the_headline():
    labels = ["none", "none+perturbed", "self", "gmu", "context", "late"]
    correct = {(label, seed): outcomes(0.4 + 0.03 * i, seed, i) for i, label in enumerate(labels) for seed in (0, 1)}
    few = compare(correct, ["none", "none+perturbed", "context"], resamples=100)
    many = compare(correct, labels[:-1], baselines=["late"], resamples=100)

    def primary(found):
        return [entry for entry in found if entry["family"] == "primary"]

    assert primary(few) == primary(many)
    assert [(one["to"], one["condition"]) for one in primary(few)] == [
        (to, condition) for to in ("none", "none+perturbed") for condition in ("clean", "corruption.mean")
    ]
    assert [entry["condition"] for entry in many if entry["to"] == "late"] == ["clean", "corruption.mean"]
