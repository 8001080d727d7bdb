"""The questions of the study: a table each, of scores and of paired comparisons with their statistics.

A row of comparisons has mean and standard deviation over seeds of both methods, their paired difference with its 95 %
interval and p-value from a bootstrap over seeds and test instances (whole groups where instances are grouped), Holm's
correction over the table, and Wilcoxon's test over seeds from 8 seeds up.
Axis letters: S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from concordant import seeding
from concordant.robustness.conditions import CLEAN
from concordant.robustness.oracle import LEAST_WAY
from concordant.statistics.bootstrap import Outcomes, paired_bootstraps
from concordant.statistics.significance import holm, wilcoxon
from studies.paper.grid import OURS, TWIN
from studies.paper.outcomes import MEAN, SEEN, UNSEEN, WORST, CellOutcomes, Values
from studies.paper.stress import CONTROL

SWAP = "corruption.swap"
PLACES = (OURS, "after-fusion", "attention")
SHARE = "share of the way"
GUESS, WHAT = "a guess", ("which", "whether")
LOSS, SHARP = "loss_variance", "sharpness"
SPREADS = {"spread of the clean score": CLEAN, "spread of the mean over corruptions": MEAN}
PARAMETERS, ALL_PARAMETERS = "parameters", "parameters of the whole model"
STEP, RELATIVE = "ms a step", "times the twin"
FLIPS = 2**16  # of signs; with up to 16 seeds all of them are counted

Row = dict[str, Any]
Rows = tuple[Sequence[Row], Sequence[Row]]  # scores, comparisons
BySeed = Mapping[int, Outcomes]
Answer = Callable[[CellOutcomes, int], Rows]  # from a cell and the number of resamples


@dataclass(frozen=True)
class Table:
    """The table of one question."""

    name: str  # of its files
    title: str  # the question
    note: str  # how to read it
    scores: Sequence[Row] = ()  # per cell, condition and method: "label", "mean", "std", in the table's unit
    rows: Sequence[Row] = ()  # the comparisons
    unit: str = "%"  # for shares shown in percent; "" for numbers
    by: str | None = None  # Holm's correction is over the rows that agree in this column; None = over all
    less: bool = False  # less is better
    compares: bool = True  # False = there are no comparisons, and no file of them


class Comparison(NamedTuple):
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
            "Accuracy on clean test instances.",
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
    rows = {name: found(cell, resamples) for name, found in _ANSWERS.items()}
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
    conditions: Callable[[CellOutcomes], Sequence[str]],
    labels: Callable[[CellOutcomes], Sequence[str]] = lambda cell: cell.labels,
) -> Answer:
    """Return the function of a question about accuracies, which compares ours with the others per condition."""

    def found(cell: CellOutcomes, resamples: int) -> Rows:
        chosen = labels(cell)
        pairs = [(condition, label) for condition in conditions(cell) for label in chosen]
        if set(chosen) <= {OURS}:
            return [], []
        scores = [score_row(cell, condition, label, cell.means(label, condition)) for condition, label in pairs]
        compared = [
            Comparison(OURS, label, one, cell.outcomes(OURS, one), cell.outcomes(label, one))
            for one, label in pairs
            if label != OURS
        ]
        return scores, compare_cell(cell, compared, resamples=resamples)

    return found


def oracle(cell: CellOutcomes, resamples: int) -> Rows:
    """Return the share of the way from the perturbed twin to the twin with an oracle.

    The oracle is the twin with the corrupted modality given as absent. Conditions count where it is more than a point
    ahead of the twin; elsewhere there is no way to cover.
    """
    counted = counted_conditions(cell) if TWIN in cell.labels else []
    if not counted:
        return [], []
    # The scale of a sum of outcomes on which the twin has 0 and its oracle 1, in the mean over seeds.
    zero = sum(float(cell.means(TWIN, one).mean()) for one, _ in counted)
    way = sum(_way(cell, *one) for one in counted)

    def scaled(label: str) -> BySeed:
        return {
            seed: Outcomes((np.sum([run.values[one] for one, _ in counted], 0) - zero) / way, run.ids, run.groups)
            for seed, run in cell.runs[label].items()
        }

    scores = []
    for label in cell.labels:
        row = score_row(cell, SHARE, label, shares_of(cell, label, counted))
        scores.append({**row, "mean_of_seeds": row["mean"], "conditions": len(counted)})
    ours = scaled(OURS)
    compared = [Comparison(OURS, label, SHARE, ours, scaled(label)) for label in cell.labels if label != OURS]
    return scores, compare_cell(cell, compared, resamples=resamples)


def counted_conditions(cell: CellOutcomes) -> list[tuple[str, str]]:
    """Return the conditions that count, each with that of its oracle."""
    pairs = [
        (f"corruption.{kind}.{severity}", known)
        for kind, known in cell.any.oracles.items()
        for severity in cell.severities
        if kind != CONTROL
    ]
    return [pair for pair in pairs if _way(cell, *pair) > LEAST_WAY]


def shares_of(cell: CellOutcomes, label: str, counted: Sequence[tuple[str, str]]) -> Values:
    """Return the share of each seed (S,), over the conditions that count."""
    gain = np.sum([cell.means(label, one) - cell.means(TWIN, one) for one, _ in counted], 0)
    return np.asarray(gain / sum(_way(cell, *one) for one in counted))


def _way(cell: CellOutcomes, condition: str, known: str) -> float:
    """Return how far the oracle is ahead of the twin under a condition, in the mean over seeds."""
    return float(cell.means(TWIN, known).mean() - cell.means(TWIN, condition).mean())


def detection(cell: CellOutcomes, resamples: int) -> Rows:
    """Return areas under the ROC curve, compared with a guess at the highest severity; none without reliabilities."""
    names = [
        (f"{what}.{kind}.{severity}", label, severity == max(cell.severities))
        for label in cell.labels
        for what in WHAT
        for kind in cell.any.oracles
        for severity in cell.severities
        if cell.has(label, f"{what}.{kind}.{severity}")
    ]
    compared = []
    for name, label, highest in names:
        if highest:
            found = cell.outcomes(label, name)
            half = {s: Outcomes(np.full(len(one.ids), 0.5), one.ids, one.groups) for s, one in found.items()}
            compared.append(Comparison(label, GUESS, name, found, half))
    scores = [score_row(cell, name, label, cell.means(label, name)) for name, label, _ in names]
    return scores, compare_cell(cell, compared, resamples=resamples)


def stability(cell: CellOutcomes, resamples: int) -> Rows:
    """Return loss variance, sharpness and spread over seeds; one number per seed, nothing is resampled."""
    scores: list[Row] = []
    rows: list[Row] = []
    for measure in (LOSS, SHARP) if cell.stability else ():
        known = {label: [one[measure] for one in cell.stability[label]] for label in cell.labels}
        values = {label: np.array(found, float) for label, found in known.items() if None not in found}
        scores += [score_row(cell, measure, label, found) for label, found in values.items()]
        others = [label for label in values if label != OURS] if OURS in values else []
        rows += [compare_seeds(cell, measure, OURS, label, values[OURS], values[label]) for label in others]
    for name, condition in SPREADS.items() if cell.stability else ():
        spreads = {label: deviation(cell.means(label, condition)) for label in cell.labels}
        scores += [_number(cell, name, label, found) for label, found in spreads.items()]
    return scores, rows


def cost(cell: CellOutcomes, timing: Mapping[str, Any]) -> Rows:
    """Return parameters, and the time of a training step on this machine."""
    scores = []
    for label in cell.labels:
        run, timed = next(iter(cell.runs[label].values())).extra, timing["methods"][label]
        sizes = {PARAMETERS: run["parameters"], ALL_PARAMETERS: run["model_parameters"]}
        values = {**sizes, STEP: timed["median_ms"], RELATIVE: timed["relative"]}
        scores += [_number(cell, name, label, value) for name, value in values.items()]
    return scores, []


_ANSWERS: dict[str, Answer] = {
    "clean": _accuracies(lambda _: [CLEAN]),
    "corruption": _accuracies(lambda cell: [one for one in (MEAN, UNSEEN, SEEN) if one in cell.any.values]),
    "corruption-kinds": _accuracies(lambda cell: [f"corruption.{kind}" for kind in cell.any.oracles]),
    "removal": _accuracies(lambda cell: [*(f"removal.{name}" for name in cell.cell.family.names), WORST]),
    "oracle": oracle,
    "detection": detection,
    "stability": stability,
    "ablation": _accuracies(lambda _: [CLEAN, MEAN, SWAP], lambda cell: (OURS, *cell.ablations)),
    "place": _accuracies(
        lambda _: [CLEAN, MEAN, WORST], lambda cell: [label for label in PLACES if label in cell.labels]
    ),
}


def score_row(cell: CellOutcomes, condition: str, label: str, values: Values) -> Row:
    """Return one row of scores from one value per seed."""
    return {**_number(cell, condition, label, float(values.mean())), "std": deviation(values)}


def _number(cell: CellOutcomes, condition: str, label: str, value: float | None) -> Row:
    return {**cell.cell.columns, "condition": condition, "label": label, "mean": value, "std": None}


def compare_cell(cell: CellOutcomes, compared: Sequence[Comparison], *, resamples: int) -> list[Row]:
    """Return one row per comparison; p-values are not corrected yet."""
    sides = [(one.of_outcomes, one.to_outcomes) for one in compared]
    paired = paired_bootstraps(sides, seed=seeding.derive_seed(0, "bootstrap"), resamples=resamples)
    rows = []
    for one, found in zip(compared, paired, strict=True):
        of, to = (
            np.array([np.mean(side[seed].values) for seed in sorted(side)])
            for side in (one.of_outcomes, one.to_outcomes)
        )
        rows.append(_row(cell, one.condition, one.of, one.to, of, to, found.ci95, found.p_value))
    return rows


def compare_seeds(cell: CellOutcomes, condition: str, of: str, to: str, ours: Values, theirs: Values) -> Row:
    """Return the comparison of two methods with one value per seed (S,); p is not corrected yet.

    There are no instances to resample, and a bootstrap of few seeds is overconfident. The p-value is that of an exact
    sign-flip test (3 seeds give 0.25 at the least, 5 give 0.0625), the interval is Student's.
    """
    from scipy import stats

    differences = ours - theirs
    if len(differences) < 2:
        return _row(cell, condition, of, to, ours, theirs, (None, None), 1.0)
    mean, error = float(differences.mean()), float(stats.sem(differences))
    reach = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    flips = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=FLIPS, rng=seeding.derive_seed(0, "sign flips")
    )
    return _row(cell, condition, of, to, ours, theirs, (mean - reach, mean + reach), float(flips.pvalue))


def _row(
    cell: CellOutcomes,
    condition: str,
    of: str,
    to: str,
    ours: Values,
    theirs: Values,
    bounds: tuple[float | None, float | None],
    p: float,
) -> Row:
    """Return the comparison of two methods, of which (S,) are the scores of each seed."""
    return {
        **cell.cell.columns,
        "condition": condition,
        "of": of,
        "to": to,
        "mean_of": float(ours.mean()),
        "std_of": deviation(ours),
        "mean_to": float(theirs.mean()),
        "std_to": deviation(theirs),
        "difference": float((ours - theirs).mean()),
        "low": bounds[0],
        "high": bounds[1],
        "p": p,
        "p_holm": None,  # of a whole table
        "p_wilcoxon": wilcoxon(ours - theirs),
    }


def corrected(rows: Sequence[Row], *, by: str | None = None) -> list[Row]:
    """Return the rows with Holm's correction over all of them, or over those that agree in `by`."""
    found = [dict(row) for row in rows]
    for group in dict.fromkeys(row[by] if by is not None else None for row in found):
        mine = [row for row in found if by is None or row[by] == group]
        for row, adjusted in zip(mine, holm([row["p"] for row in mine]), strict=True):
            row["p_holm"] = adjusted
    return found


def deviation(values: Values) -> float | None:
    """Return the sample standard deviation; None with fewer than two values."""
    return float(values.std(ddof=1)) if len(values) > 1 else None
