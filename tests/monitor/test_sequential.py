import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, stats

from concordant.errors import UsageError
from concordant.monitor.sequential import POWERS, SequentialTests, Urn, check_guarantee, log_bets, threshold


def run(p, guarantee="run-length"):
    tests = SequentialTests(1, guarantee)
    path = []
    for number, one in enumerate(p, 1):
        tests.update(np.array([one]), number)
        path.append(tests.statistics()[0])
    return np.array(path), tests


def test_the_urn_gives_the_gaps_the_chances_that_all_orders_of_the_scores_give():
    orders = Counter()
    for order in itertools.permutations(range(5)):  # two clean scores, three of the stream
        clean = np.sort(order[:2])
        orders[tuple(int(np.searchsorted(clean, x)) for x in order[2:])] += 1
    for gaps, count in orders.items():
        urn, chance = Urn(np.array([0.0, 1.0]), np.array([0.5, 0.5])), Fraction(1)
        for gap in gaps:
            mine, total = urn.counts[gap], urn.counts.sum()
            top = urn.draw(gap - 0.5, 0.5, 0.0)  # share 0: the upper end of the gap's chances
            below = sum(urn.counts[:gap])
            assert top == pytest.approx((below + mine) / total)
            chance *= Fraction(int(mine), int(total))
        assert chance == Fraction(count, 120), gaps


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_are_uniform_and_independent_of_those_before(ties):
    draws = np.random.default_rng(1)
    found = []
    for _ in range(4000):
        scores = draws.integers(0, 3, 12).astype(float) if ties else draws.standard_normal(12)
        urn = Urn(scores[:8], draws.random(8))
        found.append([urn.draw(score, *draws.random(2)) for score in scores[8:]])
    p = np.array(found)  # (4000, 4)
    assert p.min() > 0
    assert p.max() <= 1
    for column in p.T:
        assert stats.kstest(column, "uniform").pvalue > 0.001
    for a, b in itertools.combinations(range(4), 2):
        table = np.histogram2d(p[:, a], p[:, b], bins=4, range=[(0, 1), (0, 1)])[0]
        assert stats.chisquare(table.ravel()).pvalue > 0.001


def test_scores_below_all_clean_ones_give_the_chances_of_the_lowest_places():
    urn = Urn(np.arange(9.0), np.full(9, 0.5))
    assert [urn.draw(-1.0, 0.5, 0.0) for _ in range(3)] == pytest.approx([1 / 10, 2 / 11, 3 / 12])
    urn.restart()
    assert urn.draw(-1.0, 0.5, 0.0) == pytest.approx(1 / 10)


def test_the_rank_counts_ties_half():
    urn = Urn(np.array([1.0, 2.0, 2.0, 3.0]), np.full(4, 0.5))
    assert [urn.rank(x) for x in (0.0, 1.0, 2.0, 9.0)] == [0.0, 0.125, 0.5, 1.0]


def test_every_bet_pays_one_on_average_and_nothing_without_evidence():
    for k in range(len(POWERS)):
        paid, _ = integrate.quad(lambda p, k=k: np.exp(log_bets(np.array([p]))[0, k]), 0, 1, limit=500)
        assert paid == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(log_bets(np.array([np.nan])), 0)


def test_the_run_length_statistic_sums_the_products_over_all_starts():
    p = np.random.default_rng(0).random(12)
    paid = np.exp(log_bets(p))  # (12, K)
    expected = np.mean([sum(np.prod(paid[s:, k]) for s in range(12)) for k in range(len(POWERS))])
    assert run(p)[0][-1] == pytest.approx(expected)


def test_the_ever_statistic_weighs_the_starts_and_keeps_what_is_not_spent():
    p = np.random.default_rng(0).random(12)
    paid = np.exp(log_bets(p))
    weights = [1 / (t * (t + 1)) for t in range(1, 13)]
    begun = np.mean([sum(w * np.prod(paid[s:, k]) for s, w in enumerate(weights)) for k in range(len(POWERS))])
    assert run(p, "ever")[0][-1] == pytest.approx(begun + (1 - sum(weights)))
    assert SequentialTests(1, "ever").statistics()[0] == 1


def test_instances_without_evidence_change_nothing():
    with_gaps, tests = run([0.2, np.nan, 0.7, np.nan], "ever")
    assert with_gaps[-1] == run([0.2, 0.7], "ever")[0][-1]
    assert tests.steps[0] == 2


def first_alarms(guarantee, rate, streams, length, count=8):
    draws = np.random.default_rng(7)
    limit, found = threshold(rate, guarantee, count), []
    for _ in range(streams):
        # What is tested of one modality depends on what is tested of another: half of the tests share p-values.
        tests, p = SequentialTests(count, guarantee), draws.random((length, count))
        p[:, : count // 2] = p[:, :1]
        found.append(length + 1)
        for number, row in enumerate(p, 1):
            tests.update(row, number)
            if (tests.statistics() >= limit).any():
                found[-1] = number
                break
    return np.array(found)


def test_clean_streams_raise_no_more_alarms_within_n_instances_than_the_rate_allows():
    first = first_alarms("run-length", 0.01, streams=300, length=100)
    for n in (10, 20, 50, 100):
        assert (first <= n).sum() <= stats.binom.ppf(1 - 1e-6, 300, n * 0.01 / 2)


def test_the_run_length_to_a_false_alarm_is_one_over_the_rate_or_more():
    first = first_alarms("run-length", 0.05, streams=200, length=150)
    assert first.mean() >= 1 / 0.05  # those without an alarm count as 151 only
    assert (first <= 150).any()  # the statistic does reach its threshold


def test_clean_streams_ever_raise_an_alarm_with_no_more_than_the_chance_asked_for():
    first = first_alarms("ever", 0.2, streams=300, length=150)
    assert (first <= 150).sum() <= stats.binom.ppf(1 - 1e-6, 300, 0.2)


@pytest.mark.parametrize("guarantee", ["run-length", "ever"])
def test_small_p_values_reach_the_threshold_soon_and_tell_when_they_began(guarantee):
    draws = np.random.default_rng(3)
    p = np.concatenate([draws.random(100), draws.random(40) * 0.02])
    path, tests = run(p, guarantee)
    limit = threshold(1e-3, guarantee, 8)
    assert path[:100].max() < limit
    assert 100 < int(np.argmax(path >= limit)) + 1 <= 112
    assert 95 <= tests.onset(0) <= 103


def test_the_statistic_stays_finite_however_long_the_change_lasts():
    path, _ = run(np.full(3000, 1e-3))
    assert np.isfinite(path).all()


def test_a_test_that_begins_again_has_forgotten():
    _, tests = run(np.full(5, 0.01))
    tests.restart(0)
    assert tests.statistics()[0] == 0
    assert tests.steps[0] == 0


def test_urn_and_tests_come_back_from_their_state():
    draws = np.random.default_rng(0)
    urn = Urn(draws.standard_normal(20), draws.random(20))
    urn.draw(0.1, 0.2, 0.3)
    again = Urn.restore(urn.state())
    assert again.draw(-0.4, 0.5, 0.6) == urn.draw(-0.4, 0.5, 0.6)
    _, tests = run(draws.random(6))
    restored = SequentialTests.restore(tests.state(), "run-length")
    for one in (tests, restored):
        one.update(np.array([0.3]), 7)
    assert restored.statistics()[0] == tests.statistics()[0]
    assert restored.onset(0) == tests.onset(0)
    fresh = SequentialTests.restore(SequentialTests(2, "run-length").state(), "run-length")
    np.testing.assert_array_equal(fresh.statistics(), 0)


@pytest.mark.parametrize("rate", [0, 1, -0.1, "a", True, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UsageError, match=r"rate must lie between 0 and 1: .* found"):
        check_guarantee(rate, "ever")


def test_an_unknown_guarantee_is_refused():
    with pytest.raises(UsageError, match="guarantee must be one of run-length, ever; found 'always'"):
        check_guarantee(0.1, "always")
