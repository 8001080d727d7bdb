"""The verdict on a run: one question after the other, each with numbers, 95 % intervals and a word.

A word follows from its interval alone, which lies above the number without an effect, below it, or around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from concordant.report.format import Document, by_label, labels_of, listed, mean, shown
from concordant.report.record import Cell, Table
from concordant.statistics.comparisons import TWINS, central

# The uncalibrated model, first as it is trained with the perturbations that the others see.
UNCALIBRATED = TWINS[::-1]
WORDS = {1: "helps", 0: "no difference shown", -1: "hurts"}
BESIDE = {1: "above", 0: "no difference shown", -1: "below"}
NOTE = (
    "Points of accuracy above the uncalibrated model, trained with the perturbations that the others see (none, "
    "perturbed) or without (none, clean), and above the best single modality and late fusion. A word follows from its "
    "95 % interval, over seeds and test instances (for AUROC, over seeds)."
)


@dataclass(frozen=True)
class Finding:
    """One number of an answer.

    Args:
        about: what was measured.
        against: what it is compared with.
        number: as text.
        unit: of the number.
        interval: as text; empty without one.
        sign: 1 for an interval in favour, -1 for one against, 0 for neither.
        word: what the sign means.
    """

    about: str
    against: str
    number: str
    unit: str
    interval: str
    sign: int
    word: str


@dataclass(frozen=True)
class Question:
    """A question and its answer.

    Args:
        title: the question.
        findings: the main one first.
        sign: of the whole answer.
        word: of the whole answer.
    """

    title: str
    findings: Sequence[Finding]
    sign: int
    word: str


def verdict(results: Document) -> list[Question]:
    """Return the questions that results.json or grid.json answers; none without an uncalibrated model beside ours."""
    whole = "rows" in results
    entries = {(one["to"], one["condition"]): one for one in results["overall" if whole else "comparisons"]}
    if not entries:
        return []
    ours = shown(next(iter(entries.values()))["of"])
    found = []
    for title, about, condition in (
        (f"Does {ours} help on clean data?", "clean", "clean"),
        (f"Does {ours} help when one modality is bad?", "one modality bad", "corruption.mean"),
    ):
        known = [entries[twin, condition] for twin in UNCALIBRATED if (twin, condition) in entries]
        findings = [_difference(about, entry) for entry in known]
        if findings:
            found.append(Question(title, findings, findings[0].sign, findings[0].word))
    if whole:
        return found
    twin = next((one for one in UNCALIBRATED if (one, "clean") in entries), None)
    removed = [one for (to, condition), one in entries.items() if to == twin and condition.startswith("removal.")]
    if removed:
        findings = [
            _difference(f"without {one['condition'].removeprefix('removal.')}", one)
            for one in sorted(removed, key=lambda one: float(one["difference"]))
        ]
        signs = [one.sign for one in findings]
        sign = next((one for one in (-1, 1) if one in signs), 0)
        several = "" if signs.count(sign) == len(signs) else f" in {signs.count(sign)} of {len(signs)}"
        title = f"Does {ours} help when one modality is missing?"
        found.append(Question(title, findings, sign, f"{WORDS[sign]}{several}"))
    finding = _detection(results)
    if finding is not None:
        found.append(Question(f"Does {ours} find the bad modality?", [finding], finding.sign, finding.word))
    baselines = dict.fromkeys(str(line["label"]) for line in results.get("baselines", []))
    findings = [_difference("clean", entries[one, "clean"], BESIDE) for one in baselines if (one, "clean") in entries]
    if findings:
        below = [one.against for one in findings if one.sign < 0]
        sign = -1 if below else int(all(one.sign > 0 for one in findings))
        word = f"below {listed(below)}" if below else {1: "pays", 0: BESIDE[0]}[sign]
        found.append(Question("Does fusion pay on clean data?", findings, sign, word))
    return found


def _difference(about: str, entry: Document, words: Mapping[int, str] = WORDS) -> Finding:
    low, high = entry["ci95"]
    sign = (low > 0) - (high < 0)
    interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
    return Finding(
        about, shown(entry["to"]), f"{100 * entry['difference']:+.1f}", "points", interval, sign, words[sign]
    )


def _detection(results: Document) -> Finding | None:
    """Return how well reliability finds the corrupted modality, in the mean over kinds, with an interval over seeds."""
    runs = by_label(results["runs"])[central(labels_of(results))]
    every = [mean(one["which"] for one in run["detection_auroc"].values()) for run in runs]
    values = [one for one in every if one is not None]
    if not values:
        return None
    number, interval, sign = float(np.mean(values)), "", 0
    if len(values) > 1:
        reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
        low, high = max(0.0, number - reach), min(1.0, number + reach)
        interval, sign = f"{low:.2f} to {high:.2f}", (low > 0.5) - (high < 0.5)
    word = {1: "finds it", 0: "not shown", -1: "misleads"}[sign]
    return Finding("which is bad", "chance, 0.5", f"{number:.2f}", "AUROC", interval, sign, word)


def verdict_table(results: Document) -> Table:
    """Return the verdict as a table, a row per finding; no rows where nothing is answered."""
    rows: list[list[Cell | str]] = [
        [
            one.about if one.unit == "points" else f"{one.about}, {one.unit}",
            one.against,
            Cell(one.number, float(one.number)),
            one.interval or "-",
            one.word,
        ]
        for question in verdict(results)
        for one in question.findings
    ]
    return Table(
        "verdict",
        "The verdict, in points of accuracy",
        ["", "against", "number", "95 % interval", "verdict"],
        rows,
        NOTE,
    )
