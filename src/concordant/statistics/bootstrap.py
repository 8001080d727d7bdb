"""Paired hierarchical bootstrap: the difference of two methods, its confidence interval and its p-value.

Both methods were trained under the same seeds and scored on the same test instances. The bootstrap draws seeds and,
independently of them, test instances (whole groups where instances are grouped): the interval covers new seeds and new
instances at once.

Axis letters: S seeds, N test instances of one seed, U units (groups, or instances that have none) of the
union over seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

Floats = NDArray[np.float64]
Strings = NDArray[np.str_]

# Cells (resamples x units) per chunk of draws: about 6 MB, which the processor's cache nearly holds.
_CHUNK_CELLS = 2**18
# A statistic below this share of the largest single difference is a rounding error of an exact zero.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Outcomes:
    """The scores of one method on each test instance under one seed.

    Args:
        values: (N,) one finite number per instance: 0 or 1 for accuracy, their mean over several
            corruptions, an absolute error. The order of instances is free.
        ids: (N,) the instances' names, each once. One name under two seeds stands for one instance.
        groups: (N,) the speaker or video of each instance; None where instances are independent.
    """

    values: NDArray[Any] | Sequence[float]
    ids: Strings | Sequence[str]
    groups: Strings | Sequence[str] | None = None


@dataclass(frozen=True)
class PairedDifference:
    """The difference between the outcomes of two methods.

    Args:
        mean_of: mean over seeds of the first method's plain mean outcome.
        mean_to: that of the method it is compared to.
        difference: `mean_of` - `mean_to`; above 0 the first method's outcomes are the larger.
        ci95: lower and upper end of the 95 % percentile interval of the difference.
        p_value: two-sided, in (0, 1]; never below 2 / (1 + `resamples`) and not corrected for other tests.
        seeds: S, the number of seeds compared.
        units: U, the number of groups or independent instances resampled.
        resamples: R.
    """

    mean_of: float
    mean_to: float
    difference: float
    ci95: tuple[float, float]
    p_value: float
    seeds: int
    units: int
    resamples: int


def paired_bootstrap(
    outcomes_of: Mapping[int, Outcomes],
    outcomes_to: Mapping[int, Outcomes],
    *,
    seed: int,
    resamples: int = 10_000,
) -> PairedDifference:
    """Compare two methods over paired seeds and test instances.

    The test sets of the seeds may be the same (a given split), overlap (random splits) and differ in size.
    A resample draws S seeds and U units with replacement. One draw of units serves every seed in which the
    unit occurs, because a test instance that is scored under several seeds is still one instance: a draw
    of its own for each seed would average the luck of the test set away, and the interval of a fixed
    test set would be too narrow. The statistic is the mean over the drawn seeds of the weighted mean
    difference of each. A drawn seed none of whose instances were drawn (possible when units are few) is
    left out; if that holds for every drawn seed, the resample is drawn again.

    Drawing rows and columns independently is Owen's pigeonhole bootstrap (2007, The Annals of Applied
    Statistics 1(2), pp. 386-411), somewhat conservative where seeds and instances interact. The percentile
    interval and the p-value, 2 (1 + min(#(d <= 0), #(d >= 0))) / (1 + R), capped at 1, follow
    Davison and Hinkley (1997, Bootstrap Methods and their Application). The variance between S seeds is
    estimated by (S - 1) / S of its value: with fewer than about 5 seeds the interval is too narrow, and
    with one it holds for that seed alone.

    The result depends on neither the order of the seeds nor that of the instances.

    Args:
        outcomes_of: training seed -> outcomes of the method in question.
        outcomes_to: the same seeds -> outcomes of the method it is compared to, on the same instances.
        seed: of the bootstrap's own draws, 0 or more.
        resamples: R; 1 or more.

    Raises:
        UsageError: there are no seeds, or not the same for both methods; lengths, ids or groups do not
            match; an id occurs twice or changes its group; an outcome is not finite; `seed` or
            `resamples` is out of range.

    >>> ids = ["a", "b", "c", "d"]
    >>> ours = {0: Outcomes([1, 1, 1, 0], ids), 1: Outcomes([1, 1, 0, 1], ids)}
    >>> twin = {0: Outcomes([1, 0, 0, 0], ids), 1: Outcomes([0, 1, 0, 1], ids)}
    >>> paired_bootstrap(ours, twin, seed=0).difference
    0.375
    """
    return paired_bootstraps([(outcomes_of, outcomes_to)], seed=seed, resamples=resamples)[0]


def paired_bootstraps(
    comparisons: Sequence[tuple[Mapping[int, Outcomes], Mapping[int, Outcomes]]],
    *,
    seed: int,
    resamples: int = 10_000,
) -> list[PairedDifference]:
    """Make several comparisons over the same seeds and test instances, with one set of draws for all of them.

    Each result is that of `paired_bootstrap` with the same `seed`; the draws, which take the time, are made once.

    Args:
        comparisons: one `outcomes_of` and `outcomes_to` per comparison.
        seed: of the bootstrap's own draws, 0 or more.
        resamples: R; 1 or more.

    Raises:
        UsageError: as for `paired_bootstrap`, or the comparisons are not over the same seeds and instances.
    """
    if resamples < 1:
        raise UsageError(f"resamples must be 1 or more, got {resamples}")
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}")
    paired = [_pairs(of, to) for of, to in comparisons]
    if not paired:
        return []
    for pairs in paired[1:]:
        same = [pair.key for pair in pairs] == [pair.key for pair in paired[0]] and all(
            np.array_equal(one.ids, other.ids) and np.array_equal(one.units, other.units)
            for one, other in zip(pairs, paired[0], strict=True)
        )
        if not same:
            raise UsageError("comparisons must be over the same seeds, instances and groups; make them one by one")

    units = np.unique(np.concatenate([pair.units for pair in paired[0]]))  # (U,)
    count = np.stack([_by_unit(pair, units, np.ones(len(pair.of))) for pair in paired[0]])  # (S, U) instances
    total = np.stack([[_by_unit(pair, units, pair.of - pair.to) for pair in pairs] for pairs in paired])  # (K, S, U)
    draws = _resample(total, count, seed=seed, resamples=resamples)  # (K, R)
    return [_summary(pairs, one, len(units), resamples) for pairs, one in zip(paired, draws, strict=True)]


def _pairs(outcomes_of: Mapping[int, Outcomes], outcomes_to: Mapping[int, Outcomes]) -> list[_Pair]:
    """Check one comparison and return the scores under each seed, in the order of the seeds."""
    if not outcomes_of or not outcomes_to:
        raise UsageError("there are no seeds to compare; give the outcomes of one seed at least")
    if outcomes_of.keys() != outcomes_to.keys():
        raise UsageError(
            f"both methods need the same seeds: one has {sorted(outcomes_of)}, the other {sorted(outcomes_to)}"
        )
    pairs = [_pair(key, outcomes_of[key], outcomes_to[key]) for key in sorted(outcomes_of)]
    _check_groups(pairs)
    return pairs


def _by_unit(pair: _Pair, units: Strings, values: Floats) -> Floats:
    """Return the sum of the values (N,) of each unit (U,)."""
    sums = np.bincount(np.searchsorted(units, pair.units), weights=values, minlength=len(units))
    return sums.astype(np.float64)


def _summary(pairs: Sequence[_Pair], draws: Floats, units: int, resamples: int) -> PairedDifference:
    """Summarise the draws (R,) of one comparison."""
    largest = max(float(np.abs(pair.of - pair.to).max()) for pair in pairs)
    draws = np.where(np.abs(draws) <= _ROUNDING * largest, 0.0, draws)
    tail = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    low, high = np.percentile(draws, [2.5, 97.5])
    return PairedDifference(
        mean_of=float(np.mean([pair.of.mean() for pair in pairs])),
        mean_to=float(np.mean([pair.to.mean() for pair in pairs])),
        difference=float(np.mean([(pair.of - pair.to).mean() for pair in pairs])),
        ci95=(float(low), float(high)),
        p_value=min(1.0, 2 * (1 + tail) / (1 + resamples)),
        seeds=len(pairs),
        units=units,
        resamples=resamples,
    )


@dataclass(frozen=True)
class _Pair:
    """The outcomes (N,) of both methods under one seed, by id; `units` are the resampled groups or instances."""

    key: int
    ids: Strings
    units: Strings
    grouped: bool
    of: Floats
    to: Floats


def _pair(key: int, of: Outcomes, to: Outcomes) -> _Pair:
    ids, groups, values = _ordered(key, "outcomes_of", of)
    other_ids, other_groups, other_values = _ordered(key, "outcomes_to", to)
    if not np.array_equal(ids, other_ids):
        odd = np.setxor1d(ids, other_ids)
        raise UsageError(
            f"seed {key}: both methods must be scored on the same test instances, "
            f"but {len(odd)} ids occur with one only ({odd[0]!s}, for one)"
        )
    if (groups is None) != (other_groups is None) or not np.array_equal(
        ids if groups is None else groups, ids if other_groups is None else other_groups
    ):
        raise UsageError(f"seed {key}: the groups of outcomes_of and outcomes_to differ; give the same to both")
    units = ids if groups is None else groups
    return _Pair(key=key, ids=ids, units=units, grouped=groups is not None, of=values, to=other_values)


def _ordered(key: int, name: str, outcomes: Outcomes) -> tuple[Strings, Strings | None, Floats]:
    """Check the outcomes of one method under one seed; return ids, groups and values ordered by id."""
    where = f"{name}, seed {key}"
    values = np.asarray(outcomes.values, dtype=np.float64)
    ids = np.asarray(outcomes.ids).astype(np.str_)
    groups = None if outcomes.groups is None else np.asarray(outcomes.groups).astype(np.str_)
    if values.ndim != 1 or len(values) == 0:
        raise UsageError(f"{where}: values must have shape (N,) with N of 1 or more, got {values.shape}")
    if ids.shape != values.shape:
        raise UsageError(f"{where}: ids must have the shape of values, {values.shape}, got {ids.shape}")
    if groups is not None and groups.shape != values.shape:
        raise UsageError(f"{where}: groups must have the shape of values, {values.shape}, got {groups.shape}")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise UsageError(f"{where}: values must be finite, but that of {ids[bad]!s} is {values[bad]}")
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise UsageError(f"{where}: every id may occur once, but {twice[0]!s} occurs again")
    return ids, None if groups is None else groups[order], values[order]


def _check_groups(pairs: Sequence[_Pair]) -> None:
    """Check that all seeds are grouped or none, and that an instance has one group throughout."""
    for pair in pairs:
        if pair.grouped != pairs[0].grouped:
            raise UsageError(
                f"groups must be given for every seed or for none, but seeds {pairs[0].key} and {pair.key} differ"
            )
    group_of: dict[str, str] = {}
    for pair in pairs:
        for name, group in zip(pair.ids.tolist(), pair.units.tolist(), strict=True):
            if group_of.setdefault(name, group) != group:
                raise UsageError(
                    f"an instance must have one group under every seed, but {name} "
                    f"is in {group_of[name]} and, under seed {pair.key}, in {group}"
                )


def _resample(total: Floats, count: Floats, *, seed: int, resamples: int) -> Floats:
    """Return R draws of each mean difference (K, R), from sums (K, S, U) and counts (S, U) of every seed and unit."""
    K, S, U = total.shape
    unit_stream, seed_stream = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    rows = max(1, _CHUNK_CELLS // U)
    flat = total.reshape(K * S, U)
    draws: list[Floats] = []
    missing = resamples
    while missing:
        take = min(missing, rows)
        of_unit = _multiplicities(unit_stream, take, U)  # (R, U)
        of_seed = _multiplicities(seed_stream, take, S)  # (R, S)
        weight = of_unit @ count.T  # (R, S) instances drawn of each seed
        sums = (of_unit @ flat.T).reshape(take, K, S)
        means = sums / np.where(weight > 0, weight, 1.0)[:, None]  # (R, K, S); 0 where nothing was drawn
        of_seed *= weight > 0
        drawn = of_seed.sum(axis=1)  # (R,) seeds with drawn instances
        usable = drawn > 0
        mean = np.einsum("rs,rks->kr", of_seed, means)[:, usable] / drawn[usable]  # (K, R)
        draws.append(mean)
        missing -= int(usable.sum())
    return np.concatenate(draws, axis=1)


def _multiplicities(stream: np.random.Generator, rows: int, size: int) -> Floats:
    """Return (rows, size): how often each of `size` items occurs in `size` draws with replacement."""
    cells = stream.integers(size, size=(rows, size))
    cells += np.arange(rows)[:, None] * size  # each row counts into cells of its own
    return np.bincount(cells.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
