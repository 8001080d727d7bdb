"""The watch: learns from clean evidence, then tests a stream instance by instance and raises alarms.

Four tests per modality: reliability, agreement and level of every instance, and the change from one instance to the
next, of which every second is tested, because neighbouring changes share an instance and would depend on each other.
Axis letters: N instances, M modalities; J = 4 M tests, modality by modality.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import Any

import numpy as np

from concordant.errors import UsageError
from concordant.monitor.alarm import CONTEXT, KINDS, TESTS, Alarm, diagnose, in_words, seen_alone
from concordant.monitor.evidence import ABSENT, Evidence, Floats, changes
from concordant.monitor.sequential import SequentialTests, Urn, check_guarantee, threshold

LEAST = 20  # clean instances of each modality
WINDOW = 64  # the last instances that a diagnosis can look at
_SEEN = (*TESTS, "distance")


class Watch:
    """Raises alarms on a stream of evidence; see `Monitor` for the arguments.

    The evidence of clean instances comes in the order in which a stream would bring them.
    """

    def __init__(self, clean: Evidence, *, rate: float, guarantee: str, draws: np.random.Generator) -> None:
        check_guarantee(rate, guarantee)
        self.names, self.guarantee, self.draws = clean.names, guarantee, draws
        self.center: dict[str, Floats] = {}
        self.scale: dict[str, Floats] = {}
        self.urns: dict[tuple[str, str], Urn] = {}
        for column, name in enumerate(self.names):
            self._learn(clean, column, name)
        self.threshold = threshold(rate, guarantee, len(TESTS) * len(self.names))
        self._begin()

    def _begin(self) -> None:
        self.tests = SequentialTests(len(TESTS) * len(self.names), self.guarantee)
        self.number = 0
        self.last: dict[str, Floats | None] = dict.fromkeys(self.names)
        self.paired = dict.fromkeys(self.names, False)  # the last instance has been half of a tested change
        self.seen: dict[str, deque[tuple[int, dict[str, float]]]] = {name: deque(maxlen=WINDOW) for name in self.names}
        self.alarms: dict[str, Alarm] = {}
        self.raised = {(name, kind): 0 for name in self.names for kind in KINDS}

    def _learn(self, clean: Evidence, column: int, name: str) -> None:
        summary, level = clean.summaries[name], clean.level[:, column]
        here = level > ABSENT
        if here.sum() < LEAST:
            raise UsageError(
                f"the clean data must have {LEAST} instances or more with {name!r}; found {int(here.sum())}"
            )
        self.center[name] = summary[here].mean(0)
        self.scale[name] = np.maximum(summary[here].std(0), 1e-6)
        after, before = summary[1::2], summary[: len(summary) - 1 : 2]  # pairs that share no instance
        known = {
            "reliability": clean.reliability[:, column],
            "agreement": clean.agreement[:, column],
            "change": changes(after, before),
            "level": level,
            "distance": self._distance(name, summary),
        }
        for what in _SEEN:
            values = known[what][~np.isnan(known[what])]
            # Without a single clean value (agreement of a modality that is always alone) nothing is tested.
            if len(values):
                self.urns[name, what] = Urn(values, self.draws.random(len(values)))

    def step(self, evidence: Evidence) -> list[Alarm]:
        """Take in instances in their order; return the alarms that they raise.

        Raises:
            UsageError: the modalities, or the sizes of their features, are not those of the clean data.
        """
        self._check(evidence)
        raised = []
        for row in range(len(evidence)):
            raised += self._instance(evidence, row)
        return raised

    def _check(self, evidence: Evidence) -> None:
        if evidence.names != self.names:
            raise UsageError(f"instances must have the modalities {list(self.names)}; found {list(evidence.names)}")
        for name, summary in evidence.summaries.items():
            expected, found = len(self.center[name]), summary.shape[1]
            if found != expected and not np.isnan(summary).all():
                raise UsageError(
                    f"features of {name!r} must have summaries of {expected} numbers, as the clean data; found {found}"
                )

    def _instance(self, evidence: Evidence, row: int) -> list[Alarm]:
        self.number += 1
        p = np.full(len(TESTS) * len(self.names), np.nan)
        draws = self.draws.random((len(p), 2))  # the same number whatever is present
        for column, name in enumerate(self.names):
            summary = evidence.summaries[name][row]
            values = {
                "reliability": float(evidence.reliability[row, column]),
                "agreement": float(evidence.agreement[row, column]),
                "level": float(evidence.level[row, column]),
                "distance": float(self._distance(name, summary[None])[0]),
                "change": self._change(name, summary),
            }
            urns = {what: self.urns[name, what] for what in _SEEN if (name, what) in self.urns}
            usable = {what: urn for what, urn in urns.items() if not np.isnan(values[what])}
            self.seen[name].append((self.number, {what: urn.rank(values[what]) for what, urn in usable.items()}))
            paired = self._pair(name, values["change"])
            held = self._held(name)
            for place, what in enumerate(TESTS):
                test = column * len(TESTS) + place
                if what in usable and what not in held and (what != "change" or paired):
                    p[test] = usable[what].draw(values[what], *draws[test])
            self.last[name] = None if np.isnan(summary).any() else summary
        self.tests.update(p, self.number)
        return self._judged()

    def _held(self, name: str) -> tuple[str, ...]:
        """Return the suspended tests: those up to the kind of the alarm, and context tests beside a bad modality."""
        if name in self.alarms:
            return TESTS[: KINDS.index(self.alarms[name].kind) + 1]
        return CONTEXT if self.alarms else ()

    def _distance(self, name: str, summary: Floats) -> Floats:
        """Return how far summaries lie from the clean mean, in clean standard deviations, (N,)."""
        return changes(summary / self.scale[name], (self.center[name] / self.scale[name])[None])

    def _change(self, name: str, summary: Floats) -> float:
        before = self.last[name]
        return float("nan") if before is None else float(changes(summary[None], before[None])[0])

    def _pair(self, name: str, change: float) -> bool:
        """Whether this change is tested: every second one."""
        self.paired[name] = not np.isnan(change) and not self.paired[name]
        return self.paired[name]

    def _judged(self) -> list[Alarm]:
        """Return the alarms of this instance; of the context tests only the strongest counts."""
        statistics = self.tests.statistics()
        reached = [int(test) for test in np.flatnonzero(statistics >= self.threshold)]
        reached = [test for test in reached if self._tells_more(test)]
        found = []
        alone = [test for test in reached if TESTS[test % len(TESTS)] not in CONTEXT]
        for test in sorted(alone, key=lambda test: -(test % len(TESTS))):
            if self._tells_more(test):
                found.append(self._raise(test, statistics[test], self.names[test // len(TESTS)]))
        context = [test for test in reached if test not in alone]
        if context and not found and not self.alarms:
            test = max(context, key=lambda test: self._strength(test // len(TESTS)))
            found.append(self._raise(test, statistics[test], self._blamed(test)))
        return found

    def _tells_more(self, test: int) -> bool:
        alarm = self.alarms.get(self.names[test // len(TESTS)])
        return alarm is None or test % len(TESTS) > KINDS.index(alarm.kind)

    def _strength(self, column: int) -> float:
        """Return the largest log statistic of the context tests of a modality."""
        start = column * len(TESTS)
        return float(self.tests.logs[start : start + len(CONTEXT)].max())

    def _blamed(self, test: int) -> str:
        """Return the modality that a context test accuses: a dead or frozen one if there is any, else its own."""
        mine, since = self.names[test // len(TESTS)], self.tests.onset(test)
        for name in (mine, *self.names):
            if seen_alone(self._ranks(name, since)) is not None:
                return name
        return mine

    def _raise(self, test: int, statistic: float, name: str) -> Alarm:
        what, since = TESTS[test % len(TESTS)], self.tests.onset(test)
        ranks = self._ranks(name, since)
        kind = diagnose(ranks) if what in CONTEXT else KINDS[TESTS.index(what)]
        alarm = Alarm(name, kind, self.number, since, float(statistic), self.threshold, in_words(kind, ranks, what))
        self.alarms[name] = alarm
        self.raised[name, kind] += 1
        return alarm

    def _ranks(self, name: str, since: int) -> dict[str, list[float]]:
        rows = [ranks for number, ranks in self.seen[name] if number >= since]
        return {what: [row[what] for row in rows if what in row] for what in _SEEN}

    def reset(self, name: str | None = None) -> None:
        """Restart the tests of one modality after its repair, or of all.

        What looked at context begins again in every modality, because it saw the bad one too.
        """
        for column, one in enumerate(self.names):
            whole = name in (None, one)
            if whole:
                self.alarms.pop(one, None)
                self.seen[one].clear()
                self.last[one], self.paired[one] = None, False
            for place, what in enumerate(TESTS):
                if whole or what in CONTEXT:
                    self.tests.restart(column * len(TESTS) + place)
                    if (one, what) in self.urns:
                        self.urns[one, what].restart()

    def reliability(self, name: str) -> float | None:
        """Return where the reliability of the last instances lies among the clean ones, on average: 0.5 = as usual."""
        ranks = [ranks["reliability"] for _, ranks in self.seen[name] if "reliability" in ranks]
        return float(np.mean(ranks)) if ranks else None

    def statistic(self, name: str) -> float:
        """Return the largest statistic of a modality's tests."""
        start = self.names.index(name) * len(TESTS)
        return float(self.tests.statistics()[start : start + len(TESTS)].max())

    def state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "names": list(self.names),
            "threshold": self.threshold,
            "number": self.number,
            "center": {name: x.tolist() for name, x in self.center.items()},
            "scale": {name: x.tolist() for name, x in self.scale.items()},
            "urns": [[name, what, urn.state()] for (name, what), urn in self.urns.items()],
            "tests": self.tests.state(),
            "last": {name: None if x is None else x.tolist() for name, x in self.last.items()},
            "paired": self.paired,
            "seen": {name: [list(one) for one in rows] for name, rows in self.seen.items()},
            "alarms": [asdict(alarm) for alarm in self.alarms.values()],
            "raised": [[name, kind, count] for (name, kind), count in self.raised.items()],
            "draws": self.draws.bit_generator.state,
        }

    @classmethod
    def restore(cls, state: dict[str, Any], *, guarantee: str) -> Watch:
        """Return the watch of a saved state."""
        watch = cls.__new__(cls)
        watch.names, watch.guarantee, watch.threshold = tuple(state["names"]), guarantee, float(state["threshold"])
        watch.draws = np.random.default_rng()
        watch.draws.bit_generator.state = state["draws"]
        watch.center = {name: np.asarray(x, np.float64) for name, x in state["center"].items()}
        watch.scale = {name: np.asarray(x, np.float64) for name, x in state["scale"].items()}
        watch.urns = {(name, what): Urn.restore(urn) for name, what, urn in state["urns"]}
        watch._begin()
        watch.tests = SequentialTests.restore(state["tests"], guarantee)
        watch.number = state["number"]
        watch.last = {name: None if x is None else np.asarray(x, np.float64) for name, x in state["last"].items()}
        watch.paired = dict(state["paired"])
        for name, rows in state["seen"].items():
            watch.seen[name].extend((number, dict(ranks)) for number, ranks in rows)
        watch.alarms = {alarm["modality"]: Alarm(**alarm) for alarm in state["alarms"]}
        watch.raised.update({(name, kind): count for name, kind, count in state["raised"]})
        return watch
