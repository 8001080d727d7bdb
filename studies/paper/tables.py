"""The questions of the study: a table each, of scores and of paired comparisons with their statistics.

A row of comparisons has mean and standard deviation over seeds of both methods, their paired difference with its 95 %
interval and p-value from a bootstrap over seeds and test instances (whole groups where instances are grouped), Holm's
correction over the table, and Wilcoxon's test over seeds from 8 seeds up.
Axis letters: S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.robustness.conditions import CLEAN
from concordant.robustness.oracle import LEAST_WAY, covering
from concordant.statistics.bootstrap import Outcomes, paired_bootstraps
from concordant.statistics.significance import holm, wilcoxon
from studies.paper.grid import OURS, TWIN, Cell
from studies.paper.outcomes import MEAN, SEEN, UNSEEN, CellOutcomes, Values
from studies.paper.stress import CONTROL

WORST, SWAP = "removal.worst", "corruption.swap"
PLACES = ("after-fusion", "attention")
SHARE = "share of the way"
GUESS, WHAT = "a guess", ("which", "whether")
LOSS, SHARP = "loss_variance", "sharpness"
SPREADS = {"spread of the clean score": CLEAN, "spread of the mean over corruptions": MEAN}
PARAMETERS, ALL_PARAMETERS = "parameters", "parameters of the whole model"
STEP, RELATIVE = "ms a step", "times the twin"
FLIPPED = 16  # differences up to which every flip of signs is counted

Row = dict[str, Any]
Rows = tuple[Sequence[Row], Sequence[Row]]  # scores, comparisons
BySeed = Mapping[int, Outcomes]
Answer = Callable[[CellOutcomes, int], Rows]  # from a cell and the number of resamples


@dataclass(frozen=True)
class Table:
    """The answers to one question.

    Args:
        name: of its files.
        title: the question.
        note: how to read it.
        scores: one row per cell, condition and method: "label", "mean", "std", in the table's unit.
        rows: the comparisons.
        unit: "%" for shares shown in percent, "" for numbers.
        by: Holm's correction is over the rows that agree in this key; None = over all.
        less: less is better.
        compares: methods are compared; False = there are no rows, and no file of them.
    """

    name: str
    title: str
    note: str
    scores: Sequence[Row] = ()
    rows: Sequence[Row] = ()
    unit: str = "%"
    by: str | None = None
    less: bool = False
    compares: bool = True


@dataclass(frozen=True)
class Comparison:
    """Two methods under one condition, as seed -> outcomes of the same instances."""

    of: str
    to: str
    condition: str
    of_outcomes: BySeed
    to_outcomes: BySeed


QUESTIONS = {
    table.name: table
    for table in (
        Table(
            "clean",
            "(a) What does calibration cost, or give, where nothing is wrong?",
            "Accuracy on untouched test instances.",
        ),
        Table(
            "corruption",
            "(b) What is left when one modality of every instance is corrupted?",
            "Accuracy, the mean over kinds of corruption and severities: of all kinds, of those that training never "
            "saw (unseen), and of those that it saw (seen), at other severities but for the whole swap. The control, a "
            "swap within the class, is left out.",
        ),
        Table(
            "corruption-kinds",
            "(b) And under each kind?",
            "Accuracy, the mean over the severities of each kind. Holm's correction is over each family.",
            by="family",
        ),
        Table(
            "removal",
            "(c) What is left when a modality is gone?",
            "Accuracy with one modality removed from every instance; the worst is the modality that a method misses "
            "most.",
        ),
        Table(
            "oracle",
            "(d) Which share of the way to an oracle is covered?",
            "0 = as good as the uncalibrated twin that was trained with perturbations, 1 = as good as the same twin "
            "told which modality to leave out; of accuracies that are means over seeds, kinds and severities at which "
            "the oracle is more than a point ahead. The deviation is that of the single seeds. A difference is one of "
            "shares.",
        ),
        Table(
            "detection",
            "(e) Does reliability tell which modality was corrupted, and whether one was?",
            "Area under the ROC curve, 0.5 = a guess: which modality of an instance was hit, and whether one was; a "
            "number behind the kind is the severity, 1 to 5. Where a kind can hit one modality alone, which says "
            "little. Differences from 0.5 at the highest severity; Holm's correction is over each family.",
            unit="",
            by="family",
        ),
        Table(
            "stability",
            "(f) Is training steady?",
            "Variance of the loss of single steps around its trend in the last half of training (the loss that a "
            "method minimises: that of calibrators has a part that twins lack), sharpness (rise of the validation loss "
            "when weights move by 2 % at random), and the standard deviation over seeds of the final scores. Less is "
            "better; p-values are those of exact sign flips of the seeds' differences, intervals Student's.",
            unit="",
            less=True,
        ),
        Table(
            "ablation",
            "(g) What is each part worth?",
            "Accuracy of the calibrator with a part switched off, from the same initial weights; differences are the "
            "whole one's lead over it. Narrow and wide compare in 16 and 64 dimensions instead of 32.",
        ),
        Table(
            "place",
            "(h) Before fusion, after it, or attention in its place?",
            "The same judgement of the modalities applied to the original features (context) or to what the head sees "
            "(after-fusion), and attention weights over modalities instead; perturbations and losses are the same. "
            "Fusions without a single head have no row for after-fusion.",
        ),
        Table(
            "cost",
            "(i) What does it cost?",
            "Parameters of the calibrator alone and of the whole model; a training step (median, one thread, methods "
            "in turn) and its ratio to that of the uncalibrated twin under the same perturbations.",
            unit="",
            compares=False,
        ),
    )
}


def tables_of(cell: CellOutcomes, timing: Mapping[str, Any], *, resamples: int) -> dict[str, Table]:
    """Return the table of every question for one cell; `timing` is the result of `time_cell`, see `run.py`."""
    rows = {name: answer(cell, resamples) for name, answer in _ANSWERS.items()}
    rows["cost"] = cost(cell, timing)
    return {name: joined(name, [one]) for name, one in rows.items()}


def answer(name: str, cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of one question, but the cost, for some cells."""
    return joined(name, [_ANSWERS[name](cell, resamples) for cell in cells])


def joined(name: str, found: Sequence[Rows]) -> Table:
    """Return the table of a question from the rows of its cells, with p-values corrected as a whole."""
    blank = QUESTIONS[name]
    scores, rows = ([row for one in found for row in one[place]] for place in (0, 1))
    return replace(blank, scores=scores, rows=corrected(rows, by=blank.by))


def _accuracies(
    conditions: Callable[[CellOutcomes], Sequence[str]], labels: Callable[[CellOutcomes], Sequence[str]]
) -> Answer:
    """Return the answer of a question about accuracies: ours compared with the other labels under each condition."""

    def found(cell: CellOutcomes, resamples: int) -> Rows:
        asked, chosen = conditions(cell), labels(cell)
        if set(chosen) <= {OURS}:
            return [], []
        scores = [
            score_row(cell, condition, label, cell.means(label, _own(cell, label, condition)))
            for condition in asked
            for label in chosen
        ]
        compared = [compare(cell, label, condition) for condition in asked for label in chosen if label != OURS]
        return scores, compare_cell(cell, compared, resamples=resamples)

    return found


def _own(cell: CellOutcomes, label: str, condition: str) -> str:
    """Return a condition; of the worst removal that of the modality which the method misses most."""
    return cell.worst_removal(label) if condition == WORST else condition


def compare(cell: CellOutcomes, to: str, condition: str, *, of: str = OURS) -> Comparison:
    """Return the comparison of two methods under one condition, of the worst removal each method's own."""
    return Comparison(
        of,
        to,
        condition,
        cell.outcomes(of, _own(cell, of, condition)),
        cell.outcomes(to, _own(cell, to, condition)),
    )


def oracle(cell: CellOutcomes, resamples: int) -> Rows:
    """Return the share of the way from the perturbed twin to the twin with an oracle.

    The oracle is the twin with the corrupted modality given as absent. Conditions count where it is more than a point
    ahead of the twin; elsewhere there is no way to cover.
    """
    if TWIN not in cell.labels:
        return [], []
    counted = counted_conditions(cell)
    scores: list[Row] = []
    for label in cell.labels:
        shares = shares_of(cell, label, counted)
        if shares is not None:
            mean, std = mean_and_deviation(shares)
            row = {**place_of(cell.cell), "condition": SHARE, "label": label, "mean": share_of(cell, label), "std": std}
            scores.append({**row, "mean_of_seeds": mean, "conditions": len(counted)})
    if not counted:
        return scores, []
    way = _way(cell, counted)
    # On this scale the twin has 0: for every seed the mean over all of them.
    zero = float(sum(cell.means(TWIN, one).mean() for one, _ in counted))

    def scaled(label: str) -> BySeed:
        return {
            seed: Outcomes((np.sum([run.values[one] for one, _ in counted], 0) - zero) / way, run.ids, run.groups)
            for seed, run in cell.runs[label].items()
        }

    ours = scaled(OURS)
    asked = [Comparison(OURS, label, SHARE, ours, scaled(label)) for label in cell.labels if label != OURS]
    return scores, compare_cell(cell, asked, resamples=resamples)


def share_of(cell: CellOutcomes, label: str) -> float | None:
    """Return the share that a method covers over all seeds; None where there is no way to cover."""
    kinds = [kind for kind in cell.any.kinds if kind != CONTROL]
    documents = [
        {
            "label": one,
            "seed": seed,
            "kinds": {
                kind: {"scores": [run.values[f"corruption.{kind}.{s}"].mean() for s in cell.severities]}
                for kind in kinds
            },
            "oracle": {
                kind: {"scores": [run.values[run.oracles[kind]].mean()] * len(cell.severities)} for kind in kinds
            },
        }
        for one in dict.fromkeys((label, TWIN))
        for seed, run in cell.runs[one].items()
    ]
    share = covering(documents, label, TWIN)["share"]
    return None if share is None else float(share)


def counted_conditions(cell: CellOutcomes) -> list[tuple[str, str]]:
    """Return the conditions that count, each with that of its oracle."""
    return [
        (f"corruption.{kind}.{severity}", told)
        for kind, told in cell.any.oracles.items()
        for severity in cell.severities
        if kind != CONTROL and _way(cell, [(f"corruption.{kind}.{severity}", told)]) > LEAST_WAY
    ]


def shares_of(cell: CellOutcomes, label: str, counted: Sequence[tuple[str, str]]) -> Values | None:
    """Return the share of each seed (S,), over the conditions that count; None where none does."""
    if not counted:
        return None
    gain = np.sum([cell.means(label, one) - cell.means(TWIN, one) for one, _ in counted], 0)
    return np.asarray(gain / _way(cell, counted))


def _way(cell: CellOutcomes, counted: Sequence[tuple[str, str]]) -> float:
    """Return the whole way, the sum over the conditions that count of the mean over seeds."""
    return float(sum(cell.means(TWIN, told).mean() - cell.means(TWIN, one).mean() for one, told in counted))


def detection(cell: CellOutcomes, resamples: int) -> Rows:
    """Return areas under the ROC curve, compared with a guess at the highest severity; none without reliabilities."""
    scores: list[Row] = []
    asked: list[Comparison] = []
    top = max(cell.severities)
    for label in cell.labels:
        for what in WHAT:
            for kind in cell.any.kinds:
                for severity in cell.severities:
                    name = f"{what}.{kind}.{severity}"
                    if cell.has(label, name):
                        scores.append(score_row(cell, name, label, cell.means(label, name)))
                if cell.has(label, f"{what}.{kind}.{top}"):
                    found = cell.outcomes(label, f"{what}.{kind}.{top}")
                    half = {s: Outcomes(np.full(len(one.ids), 0.5), one.ids, one.groups) for s, one in found.items()}
                    asked.append(Comparison(label, GUESS, f"{what}.{kind}.{top}", found, half))
    return scores, compare_cell(cell, asked, resamples=resamples) if asked else []


def stability(cell: CellOutcomes, resamples: int) -> Rows:
    """Return loss variance, sharpness and spread over seeds; one number per seed, nothing is resampled."""
    scores: list[Row] = []
    rows: list[Row] = []
    for measure in (LOSS, SHARP) if cell.stability else ():
        known = {label: [one[measure] for one in cell.stability[label]] for label in cell.labels}
        values = {label: np.array(found, float) for label, found in known.items() if None not in found}
        scores += [score_row(cell, measure, label, found) for label, found in values.items()]
        if OURS in values:
            rows += [
                compare_seeds(cell, measure, OURS, label, values[OURS], found)
                for label, found in values.items()
                if label != OURS
            ]
    for name, condition in SPREADS.items() if cell.stability else ():
        for label in cell.labels:
            spread = mean_and_deviation(cell.means(label, condition))[1]  # None with a single seed
            scores.append({**place_of(cell.cell), "condition": name, "label": label, "mean": spread, "std": None})
    return scores, rows


def cost(cell: CellOutcomes, timing: Mapping[str, Any]) -> Rows:
    """Return parameters, and the time of a training step on this machine."""
    scores: list[Row] = []
    for label in cell.labels:
        run, timed = next(iter(cell.runs[label].values())).extra, timing["methods"][label]
        values = {
            PARAMETERS: run["parameters"],
            ALL_PARAMETERS: run["model_parameters"],
            STEP: timed["median_ms"],
            RELATIVE: timed["relative"],
        }
        place = place_of(cell.cell)
        scores += [{**place, "condition": name, "label": label, "mean": x, "std": None} for name, x in values.items()]
    return scores, []


def _places(cell: CellOutcomes) -> tuple[str, ...]:
    return (OURS, *(label for label in PLACES if label in cell.labels))


_ANSWERS: dict[str, Answer] = {
    "clean": _accuracies(lambda _: [CLEAN], lambda cell: cell.labels),
    "corruption": _accuracies(
        lambda cell: [one for one in (MEAN, UNSEEN, SEEN) if one in cell.any.values], lambda cell: cell.labels
    ),
    "corruption-kinds": _accuracies(
        lambda cell: [f"corruption.{kind}" for kind in cell.any.kinds], lambda cell: cell.labels
    ),
    "removal": _accuracies(
        lambda cell: [*(f"removal.{name}" for name in cell.modalities), WORST], lambda cell: cell.labels
    ),
    "oracle": oracle,
    "detection": detection,
    "stability": stability,
    "ablation": _accuracies(lambda _: [CLEAN, MEAN, SWAP], lambda cell: (OURS, *cell.ablations)),
    "place": _accuracies(lambda _: [CLEAN, MEAN, WORST], _places),
}


def place_of(cell: Cell) -> Row:
    """Return the columns that all rows of a cell share."""
    family = cell.family
    return {
        "family": family.name,
        "benchmark": family.benchmark,
        "protocol": family.split,
        "fusion": cell.fusion,
        "modalities": len(family.names),
        "seeds": family.seeds,
    }


def score_row(cell: CellOutcomes, condition: str, label: str, values: Values) -> Row:
    """Return one row of scores from one value per seed."""
    mean, std = mean_and_deviation(values)
    return {**place_of(cell.cell), "condition": condition, "label": label, "mean": mean, "std": std}


def compare_cell(cell: CellOutcomes, asked: Sequence[Comparison], *, resamples: int) -> list[Row]:
    """Return one row per comparison; p-values are not corrected yet."""
    sides = [(one.of_outcomes, one.to_outcomes) for one in asked]
    paired = paired_bootstraps(sides, seed=seeding.derive_seed(0, "bootstrap"), resamples=resamples)
    rows = []
    for one, found in zip(asked, paired, strict=True):
        of, to = (
            np.array([np.mean(side[seed].values) for seed in sorted(side)])
            for side in (one.of_outcomes, one.to_outcomes)
        )
        means, bounds = (found.mean_of, found.mean_to), found.ci95
        rows.append(_row(cell, one, means, (of, to), found.difference, bounds, found.p_value))
    return rows


def compare_seeds(cell: CellOutcomes, condition: str, of: str, to: str, ours: Values, theirs: Values) -> Row:
    """Return the comparison of two methods with one value per seed (S,); p is not corrected yet.

    There are no instances to resample, and a bootstrap of few seeds is overconfident. The p-value is that of an exact
    sign-flip test (3 seeds give 0.25 at the least, 5 give 0.0625), the interval is Student's.
    """
    differences = ours - theirs
    mean, deviation = mean_and_deviation(differences)
    bounds: tuple[float | None, float | None] = (None, None)
    if deviation is not None:
        from scipy import stats

        reach = float(stats.t.ppf(0.975, len(differences) - 1)) * deviation / len(differences) ** 0.5
        bounds = (mean - reach, mean + reach)
    one, means = Comparison(of, to, condition, {}, {}), (float(ours.mean()), float(theirs.mean()))
    return _row(cell, one, means, (ours, theirs), mean, bounds, sign_flips(differences))


def _row(
    cell: CellOutcomes,
    one: Comparison,
    means: tuple[float, float],
    by_seed: tuple[Values, Values],
    difference: float,
    bounds: tuple[float | None, float | None],
    p: float,
) -> Row:
    return {
        **place_of(cell.cell),
        "condition": one.condition,
        "of": one.of,
        "to": one.to,
        "mean_of": means[0],
        "std_of": mean_and_deviation(by_seed[0])[1],
        "mean_to": means[1],
        "std_to": mean_and_deviation(by_seed[1])[1],
        "difference": difference,
        "low": bounds[0],
        "high": bounds[1],
        "p": p,
        "p_holm": None,  # of a whole table
        "p_wilcoxon": wilcoxon(by_seed[0] - by_seed[1]),
    }


def sign_flips(differences: Values) -> float:
    """Return the two-sided p-value of the mean of paired differences (S,) among all flips of their signs.

    Beyond 16 differences 65,536 flips are drawn.

    >>> sign_flips(np.array([1.0, 2.0, 4.0]))
    0.25
    """
    count = len(differences)
    if count <= FLIPPED:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(seeding.derive_seed(0, "sign flips")).choice([-1, 1], (2**FLIPPED, count))
    means = np.abs(signs @ differences) / count
    least = abs(float(differences.mean()))
    return float((means >= least * (1 - 1e-9)).mean())


def corrected(rows: Sequence[Row], *, by: str | None = None) -> list[Row]:
    """Return the rows with Holm's correction over all of them, or over those that agree in `by`."""
    found = [dict(row) for row in rows]
    for group in dict.fromkeys(row[by] if by is not None else None for row in found):
        mine = [row for row in found if by is None or row[by] == group]
        for row, adjusted in zip(mine, holm([row["p"] for row in mine]), strict=True):
            row["p_holm"] = adjusted
    return found


def mean_and_deviation(values: NDArray[np.float64] | Sequence[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation; None for the latter with fewer than two values."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None
