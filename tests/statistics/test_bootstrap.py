import math
import re

import numpy as np
import pytest

from concordant.errors import UsageError
from concordant.statistics.bootstrap import Outcomes, paired_bootstrap, paired_bootstraps


def names(count, start=0):
    return [f"i{n:04d}" for n in range(start, start + count)]


def example(seeds=4, instances=30, seed=0, shift=0.3):
    draws = np.random.default_rng(seed)
    luck = draws.normal(size=instances)
    of, to = {}, {}
    for s in range(seeds):
        base = luck + draws.normal(size=instances)
        of[s] = Outcomes(base + shift + 0.3 * draws.normal() + 0.5 * draws.normal(size=instances), names(instances))
        to[s] = Outcomes(base, names(instances))
    return of, to


def regrouped(outcomes, groups):
    return {s: Outcomes(o.values, o.ids, groups) for s, o in outcomes.items()}


def by_hand(of, to, *, resamples, seed):
    """Return resampled differences by plain loops over seeds and units."""
    draws = np.random.default_rng(seed)
    seeds = list(of)
    members = {}
    for s in seeds:
        groups = of[s].ids if of[s].groups is None else of[s].groups
        for n, group in enumerate(groups):
            members.setdefault(group, {}).setdefault(s, []).append(of[s].values[n] - to[s].values[n])
    units = list(members)
    found = []
    while len(found) < resamples:
        chosen = [units[i] for i in draws.integers(len(units), size=len(units))]
        means = []
        for i in draws.integers(len(seeds), size=len(seeds)):
            values = [value for unit in chosen for value in members[unit].get(seeds[i], [])]
            means += [np.mean(values)] if values else []
        found += [np.mean(means)] if means else []
    return np.array(found)


def test_difference_is_that_of_the_plain_means():
    of, to = example()
    found = paired_bootstrap(of, to, seed=0, resamples=50)
    assert found.mean_of == pytest.approx(np.mean([np.mean(o.values) for o in of.values()]))
    assert found.mean_to == pytest.approx(np.mean([np.mean(o.values) for o in to.values()]))
    assert found.difference == pytest.approx(found.mean_of - found.mean_to)
    assert (found.seeds, found.units, found.resamples) == (4, 30, 50)


@pytest.mark.parametrize("grouped", [False, True])
def test_interval_equals_plain_loops(grouped):
    of, to = example(shift=0.1)
    if grouped:
        groups = [f"g{n % 7}" for n in range(30)]
        of, to = regrouped(of, groups), regrouped(to, groups)
    found = paired_bootstrap(of, to, seed=0, resamples=20_000)
    draws = by_hand(of, to, resamples=3000, seed=1)
    spread = draws.std()
    assert found.ci95 == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.15 * spread)
    tail = min((draws <= 0).mean(), (draws >= 0).mean())
    assert found.p_value == pytest.approx(2 * tail, abs=0.04)


def test_interval_with_other_test_sets_a_seed_equals_plain_loops():
    draws = np.random.default_rng(0)
    of, to = {}, {}
    for s, (start, count) in enumerate([(0, 3), (2, 6), (10, 1)]):
        values = draws.normal(size=(2, count))
        of[s], to[s] = (Outcomes(v, names(count, start)) for v in values)
    found = paired_bootstrap(of, to, seed=0, resamples=20_000)
    assert found.units == 9
    loop = by_hand(of, to, resamples=4000, seed=1)
    assert found.ci95 == pytest.approx(np.percentile(loop, [2.5, 97.5]), abs=0.15 * loop.std())


def test_one_seed_and_many_instances_give_the_normal_interval():
    draws = np.random.default_rng(0)
    x = draws.normal(0.1, 1, 400)
    found = paired_bootstrap({0: Outcomes(x, names(400))}, {0: Outcomes(0 * x, names(400))}, seed=0)
    half = 1.96 * x.std() / 20
    assert found.ci95 == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)
    assert found.p_value == pytest.approx(math.erfc(abs(x.mean()) / x.std() * 20 / math.sqrt(2)), abs=0.02)


def test_one_instance_leaves_the_seeds_alone():
    of = {s: Outcomes([float(s)], ["a"]) for s in range(2)}
    to = {s: Outcomes([0.0], ["a"]) for s in range(2)}
    found = paired_bootstrap(of, to, seed=0, resamples=4000)
    assert found.ci95 == (0, 1)  # of two seeds, both are the same one half of the time
    assert found.p_value == pytest.approx(0.5, abs=0.04)  # 0 comes up a quarter of the time


def test_constant_difference_gives_the_smallest_p():
    of, to = example(seeds=3)
    of = {s: Outcomes(np.asarray(o.values) + 0.25, o.ids) for s, o in to.items()}
    found = paired_bootstrap(of, to, seed=0, resamples=199)
    assert found.ci95 == pytest.approx((0.25, 0.25))
    assert found.p_value == pytest.approx(2 / 200)


def test_equal_outcomes_give_p_of_one():
    of, _ = example()
    found = paired_bootstrap(of, of, seed=0, resamples=100)
    assert (found.difference, found.ci95, found.p_value) == (0, (0, 0), 1)


def test_rounding_does_not_break_an_exact_tie():
    # The differences cancel, in theory: 0.1 + 0.2 - 0.3.
    of = {0: Outcomes([0.1, 0.2, -0.3], names(3), ["g"] * 3)}
    to = {0: Outcomes([0.0, 0.0, 0.0], names(3), ["g"] * 3)}
    assert sum([0.1, 0.2, -0.3]) != 0
    found = paired_bootstrap(of, to, seed=0, resamples=100)
    assert found.ci95 == (0, 0)
    assert found.p_value == 1


def test_exchanging_the_methods_turns_the_sign():
    of, to = example(shift=0.1)
    one, two = (paired_bootstrap(*pair, seed=0, resamples=999) for pair in ((of, to), (to, of)))
    assert two.difference == pytest.approx(-one.difference)
    assert two.ci95 == pytest.approx((-one.ci95[1], -one.ci95[0]))
    assert two.p_value == one.p_value


def test_order_of_seeds_and_instances_does_not_matter():
    of, to = example()
    draws = np.random.default_rng(1)

    def shuffled(outcomes):
        result = {}
        for s in reversed(outcomes):
            turn = draws.permutation(30)
            groups = np.array([f"g{n % 6}" for n in range(30)])
            result[s] = Outcomes(np.asarray(outcomes[s].values)[turn], np.array(outcomes[s].ids)[turn], groups[turn])
        return result

    groups = [f"g{n % 6}" for n in range(30)]
    plain = paired_bootstrap(regrouped(of, groups), regrouped(to, groups), seed=0, resamples=500)
    assert paired_bootstrap(shuffled(of), shuffled(to), seed=0, resamples=500) == plain


def test_own_seed_alone_sets_the_draws():
    of, to = example()
    one, two, other = (paired_bootstrap(of, to, seed=s, resamples=500) for s in (0, 0, 1))
    assert one == two
    assert one.ci95 != other.ci95


def test_groups_of_one_change_nothing():
    of, to = example()
    plain = paired_bootstrap(of, to, seed=0, resamples=500)
    assert paired_bootstrap(regrouped(of, names(30)), regrouped(to, names(30)), seed=0, resamples=500) == plain


def test_copies_within_a_group_bring_no_certainty():
    of, to = example(instances=20)

    def copied(outcomes):
        return {
            s: Outcomes(np.repeat(o.values, 5), [f"{i}-{c}" for i in o.ids for c in range(5)], np.repeat(o.ids, 5))
            for s, o in outcomes.items()
        }

    plain = paired_bootstrap(of, to, seed=0, resamples=500)
    grouped = paired_bootstrap(copied(of), copied(to), seed=0, resamples=500)
    assert grouped.units == 20
    assert grouped.ci95 == pytest.approx(plain.ci95)
    loose = {s: Outcomes(o.values, o.ids) for s, o in copied(of).items()}, copied(to)
    bare = paired_bootstrap(loose[0], {s: Outcomes(o.values, o.ids) for s, o in loose[1].items()}, seed=0)
    assert np.ptp(bare.ci95) < np.ptp(plain.ci95)


def test_a_fixed_test_set_keeps_its_luck_over_seeds():
    # The same differences under every seed: more seeds of the same test set tell nothing more about it.
    x = np.random.default_rng(0).normal(size=25)
    ends = []
    for seeds in (1, 20):
        of = {s: Outcomes(x, names(25)) for s in range(seeds)}
        to = {s: Outcomes(0 * x, names(25)) for s in range(seeds)}
        ends.append(paired_bootstrap(of, to, seed=0, resamples=5000).ci95)
    assert ends[0] == pytest.approx(ends[1])


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered, small = 0, 0
    for run in range(100):
        of, to = example(seeds=8, instances=40, seed=run, shift=0.0)
        found = paired_bootstrap(of, to, seed=run, resamples=400)
        covered += found.ci95[0] <= 0 <= found.ci95[1]
        small += found.p_value < 0.05
    assert 84 <= covered <= 99
    assert 1 <= small <= 16


def refused(message):
    return pytest.raises(UsageError, match=re.escape(message))


ONE = {0: Outcomes([1.0, 0.0], ["a", "b"])}


@pytest.mark.parametrize(
    ("of", "to", "message"),
    [
        ({}, ONE, "there are no seeds to compare; give the outcomes of one seed at least"),
        (ONE, {}, "there are no seeds to compare; give the outcomes of one seed at least"),
        ({1: ONE[0]}, ONE, "both methods need the same seeds: one has [1], the other [0]"),
        (
            {0: Outcomes([1.0, 0.0], ["a", "c"])},
            ONE,
            "seed 0: both methods must be scored on the same test instances, "
            "but 2 ids occur with one only (b, for one)",
        ),
        (
            {0: Outcomes([1.0, 0.0], ["a", "b"], ["g", "g"])},
            ONE,
            "seed 0: the groups of outcomes_of and outcomes_to differ; give the same to both",
        ),
        (
            {0: Outcomes([1.0, 0.0], ["a", "b"], ["g", "g"])},
            {0: Outcomes([1.0, 0.0], ["a", "b"], ["g", "h"])},
            "seed 0: the groups of outcomes_of and outcomes_to differ; give the same to both",
        ),
        (
            {0: Outcomes([], [])},
            ONE,
            "outcomes_of, seed 0: values must have shape (N,) with N of 1 or more, got (0,)",
        ),
        (
            ONE,
            {0: Outcomes([[1.0]], [["a"]])},
            "outcomes_to, seed 0: values must have shape (N,) with N of 1 or more, got (1, 1)",
        ),
        (
            {0: Outcomes([1.0, 0.0], ["a"])},
            ONE,
            "outcomes_of, seed 0: ids must have the shape of values, (2,), got (1,)",
        ),
        (
            {0: Outcomes([1.0, 0.0], ["a", "b"], ["g"])},
            ONE,
            "outcomes_of, seed 0: groups must have the shape of values, (2,), got (1,)",
        ),
        (
            {0: Outcomes([1.0, math.nan], ["a", "b"])},
            ONE,
            "outcomes_of, seed 0: values must be finite, but that of b is nan",
        ),
        (
            {0: Outcomes([1.0, 0.0], ["a", "a"])},
            ONE,
            "outcomes_of, seed 0: every id may occur once, but a occurs again",
        ),
    ],
)
def test_bootstrap_refuses(of, to, message):
    with refused(message):
        paired_bootstrap(of, to, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 0, "resamples": 0}, "resamples must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_bootstrap_refuses_its_settings(options, message):
    with refused(message):
        paired_bootstrap(ONE, ONE, **options)


def test_groups_must_be_given_for_every_seed_or_none():
    both = {0: ONE[0], 1: Outcomes([1.0, 0.0], ["a", "b"], ["g", "h"])}
    with refused("groups must be given for every seed or for none, but seeds 0 and 1 differ"):
        paired_bootstrap(both, both, seed=0)


def test_an_instance_keeps_its_group_over_seeds():
    both = {s: Outcomes([1.0, 0.0], ["a", "b"], ["g", group]) for s, group in enumerate("gh")}
    with refused("an instance must have one group under every seed, but b is in g and, under seed 1, in h"):
        paired_bootstrap(both, both, seed=0)


def test_several_comparisons_at_once_are_those_made_one_by_one():
    draws = np.random.default_rng(0)
    ids = [f"i{n}" for n in range(30)]
    groups = [f"g{n // 4}" for n in range(30)]
    sides = [
        tuple({seed: Outcomes(draws.random(30), ids, groups) for seed in (3, 5)} for _ in range(2)) for _ in range(3)
    ]
    together = paired_bootstraps(sides, seed=7, resamples=500)
    assert together == [paired_bootstrap(of, to, seed=7, resamples=500) for of, to in sides]
    assert paired_bootstraps([], seed=7) == []


def test_comparisons_at_once_must_be_over_the_same_instances():
    one = {0: Outcomes([1.0, 0.0], ["a", "b"])}
    other = {0: Outcomes([1.0, 0.0], ["a", "c"])}
    with pytest.raises(UsageError, match="comparisons must be over the same seeds, instances and groups"):
        paired_bootstraps([(one, one), (other, other)], seed=0)
