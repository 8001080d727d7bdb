"""Sequential tests with a stated guarantee: exact conformal p-values, and bets on them that are small.

A new score is ranked among clean ones and among those of the stream so far, by an urn that needs no growing memory;
under exchangeability its p-values are independent and uniform, exactly. Bets multiply up where p-values stay small.
After Vovk, Nouretdinov and Gammerman (2003) and Vovk, Petej and Nouretdinov (2021).
Axis letters: J tests, K bets of each; n clean scores.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError, shown

Floats = NDArray[np.float64]
Guarantee = Literal["run-length", "ever"]
POWERS = np.array([0.05, 0.15, 0.3, 0.5, 0.75])  # (K,): bet k pays a p**(a - 1), which is 1 on average


class Urn:
    """Conformal p-values: independent and uniform while scores are exchangeable with the clean ones.

    n clean scores leave n + 1 gaps. Seen from what came before, a new exchangeable score falls into a gap with a chance
    proportional to 1 + the number of stream scores that fell there before (Polya's urn). The p-value is the chance of
    a lower gap plus a random share of the chance of its own. Ties are broken at random.

    Args:
        scores: clean scores (n,), n of 1 or more; low is bad.
        tags: uniform draws (n,) that order ties.
    """

    def __init__(self, scores: Floats, tags: Floats) -> None:
        order = np.lexsort((tags, scores))
        self.scores, self.tags = scores[order], tags[order]
        self.counts = np.ones(len(scores) + 1)

    def draw(self, score: float, tag: float, share: float) -> float:
        """Return the p-value of a new score, in (0, 1], and store the score.

        Args:
            score: low is bad.
            tag: a uniform draw, its place among equal scores.
            share: a uniform draw, its place within the gap.
        """
        low, high = np.searchsorted(self.scores, score, "left"), np.searchsorted(self.scores, score, "right")
        gap = int(low if low == high else low + np.searchsorted(self.tags[low:high], tag))
        below, mine = self.counts[:gap].sum(), self.counts[gap]
        p = (below + (1.0 - share) * mine) / self.counts.sum()  # 1 - share lies in (0, 1]
        self.counts[gap] += 1
        return float(p)

    def rank(self, score: float) -> float:
        """Return where a score lies among the clean ones: 0 = below all of them, 1 = above, ties counted half."""
        low, high = np.searchsorted(self.scores, score, "left"), np.searchsorted(self.scores, score, "right")
        return float((low + high) / 2 / len(self.scores))

    def restart(self) -> None:
        """Remove the scores of the stream."""
        self.counts[:] = 1

    def state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"scores": self.scores.tolist(), "tags": self.tags.tolist(), "counts": self.counts.tolist()}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Urn:
        """Return the urn of a saved state."""
        urn = cls(np.asarray(state["scores"], np.float64), np.asarray(state["tags"], np.float64))
        urn.counts[:] = state["counts"]
        return urn


def log_bets(p: Floats) -> Floats:
    """Return the logarithms of what each bet pays: (J,) -> (J, K); 0, a payment of 1, where p is NaN (no evidence).

    >>> float(np.exp(log_bets(np.array([1.0]))).max())
    0.75
    """
    known = np.where(np.isnan(p), 1.0, p)[:, None]
    paid = np.log(POWERS) + (POWERS - 1) * np.log(known)
    return np.where(np.isnan(p)[:, None], 0.0, paid)


def threshold(rate: float, guarantee: str, tests: int) -> float:
    """Return the statistic at which an alarm is raised.

    The statistic R of one test has, on a clean stream, a mean of n after n instances ("run-length"), or of 1 ("ever").
    So P(R reaches h within n) <= n / h by Doob, or P(R ever reaches h) <= 1 / h by Ville. Over J tests, however they
    depend on each other, the chances add up. With h = 2 J / rate the first false alarm of all comes within n
    instances with a chance of at most n rate / 2, and after 1 / rate instances or more on average; with
    h = J / rate ("ever") there is one at any time with a chance of at most `rate`.

    >>> threshold(0.001, "run-length", 8), threshold(0.05, "ever", 8)
    (16000.0, 160.0)
    """
    return (2.0 if guarantee == "run-length" else 1.0) * tests / rate


def check_guarantee(rate: float, guarantee: object) -> None:
    """Check a rate and the name of a guarantee.

    Raises:
        UsageError: says what was expected.
    """
    if not isinstance(guarantee, str) or guarantee not in get_args(Guarantee):
        raise UsageError(f"guarantee must be one of {', '.join(get_args(Guarantee))}; found {shown(guarantee)}")
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 < rate < 1:
        raise UsageError(
            "rate must lie between 0 and 1: false alarms per instance (run-length), or the chance of one ever (ever); "
            f"found {shown(rate)}"
        )


class SequentialTests:
    """J sequential tests side by side, each a mixture over bets and over the instance at which the change came.

    "run-length": the Shiryaev-Roberts statistic, R = (R + 1) e for every bet's payment e. "ever": R = (R + w) e with
    weights w = 1 / (t (t + 1)) over the t-th evidence, which add up to 1; what is not yet spent, 1 / (t + 1), is kept.

    Args:
        count: J.
        guarantee: "run-length" or "ever".
    """

    def __init__(self, count: int, guarantee: str) -> None:
        self.guarantee = guarantee
        self.logs = np.full((count, len(POWERS)), -np.inf)  # log R, (J, K)
        self.sums = np.zeros((count, len(POWERS)))  # CUSUM of log payments, for the onset
        self.starts = np.zeros((count, len(POWERS)), np.int64)  # the instance at which each CUSUM left 0
        self.steps = np.zeros(count, np.int64)  # t

    def update(self, p: Floats, number: int) -> None:
        """Take in the p-values (J,) of instance `number`; NaN = that test has no evidence from it."""
        known = ~np.isnan(p)
        self.steps += known
        paid = log_bets(p)  # (J, K)
        weights = np.zeros(len(p))
        if self.guarantee == "ever":
            t = np.maximum(self.steps, 1).astype(np.float64)
            weights = -np.log(t * (t + 1))
        grown = np.logaddexp(self.logs, weights[:, None]) + paid
        self.logs = np.where(known[:, None], np.minimum(grown, 700.0), self.logs)  # exp(700) is still finite
        fresh = known[:, None] & (self.sums <= 0)
        self.starts = np.where(fresh, number, self.starts)
        self.sums = np.where(known[:, None], np.maximum(self.sums, 0) + paid, self.sums)

    def statistics(self) -> Floats:
        """Return R of every test, the mean over its bets, (J,)."""
        found: Floats = np.exp(self.logs).mean(1)
        return found + 1 / (self.steps + 1) if self.guarantee == "ever" else found

    def onset(self, test: int) -> int:
        """Return the instance at which the change that a test sees most likely came."""
        return int(self.starts[test, int(self.sums[test].argmax())])

    def restart(self, test: int) -> None:
        """Restart one test."""
        self.logs[test], self.sums[test], self.starts[test], self.steps[test] = -np.inf, 0, 0, 0

    def state(self) -> dict[str, Any]:
        """Return everything as plain values; a statistic that has not begun is None."""
        logs = [[None if np.isneginf(x) else float(x) for x in row] for row in self.logs]
        return {
            "logs": logs,
            "sums": self.sums.tolist(),
            "starts": self.starts.tolist(),
            "steps": self.steps.tolist(),
        }

    @classmethod
    def restore(cls, state: dict[str, Any], guarantee: str) -> SequentialTests:
        """Return the tests of a saved state."""
        tests = cls(len(state["steps"]), guarantee)
        tests.logs = np.array([[-np.inf if x is None else x for x in row] for row in state["logs"]], np.float64)
        tests.sums = np.array(state["sums"], np.float64)
        tests.starts = np.array(state["starts"], np.int64)
        tests.steps = np.array(state["steps"], np.int64)
        return tests
