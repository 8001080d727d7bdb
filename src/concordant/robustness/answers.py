"""The table of a model's answers, one row per instance and condition; every score is a function of it.

`evaluate` runs a model once under each condition. The predictions of runs are written as parquet with the columns
calibrator, perturbed_training, seed, condition, id, group, label, prediction, confidence (null for numbers), corrupted
(the perturbed modality, or null), and reliability_<modality> (null where the modality is absent, or for a method
without reliabilities).
Axis letters: N instances, M modalities, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from concordant.data.formats.parquet import read_parquet
from concordant.data.split import AnySplit, Bools, Floats, Split, Strings, as_classes
from concordant.errors import DataError, UsageError
from concordant.files import reading, write_atomically
from concordant.robustness.conditions import CLEAN, RUN, Condition, clean, presence
from concordant.robustness.detection import detection
from concordant.robustness.predict import Model, evaluating, joined, predictor
from concordant.statistics.bootstrap import Outcomes
from concordant.statistics.comparisons import Correct
from concordant.training.config import Variant
from concordant.training.metrics import PRIMARY, calibration_error, classification_metrics, sentiment_metrics

if TYPE_CHECKING:
    import pyarrow as pa

CLASS_METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted")
REAL_METRICS = ("accuracy", "has0_f1_weighted", "accuracy7", "accuracy5", "accuracy3", "correlation")


@dataclass(frozen=True)
class Answer:
    """The rows of one condition.

    Args:
        prediction: (N,) class indices, or real numbers.
        confidence: (N,) probability of the predicted class; None for real numbers.
        reliability: (N, M), or None for a model without reliabilities.
        present: bool (N, M).
        perturbed: bool (N, M), True at corrupted modalities; at most one per instance.
        clean: the calibrator's own probability that a modality is clean (N, M), or None.
    """

    prediction: NDArray[Any]
    confidence: Floats | None
    reliability: Floats | None
    present: Bools
    perturbed: Bools
    clean: Floats | None = None


@dataclass(frozen=True)
class Answers:
    """A model's answers on one split.

    Args:
        names: the modalities, the order of every M axis.
        labels: (N,).
        ids: (N,).
        groups: (N,), or None.
        outputs: C, or 1 for real labels.
        rows: condition -> its rows.
    """

    names: tuple[str, ...]
    labels: NDArray[Any]
    ids: Strings
    groups: Strings | None
    outputs: int
    rows: dict[str, Answer]

    def score(self, condition: str = CLEAN, metric: str = PRIMARY) -> float:
        """Return one metric, better when higher; `accuracy` of real labels is the share on the right side of 0."""
        return score_of(self.labels, self.rows[condition].prediction, metric, self.outputs)

    def metrics(self, condition: str) -> dict[str, float | None]:
        """Return all metrics; for real labels too, `accuracy` is among them, as `has0_accuracy`."""
        answer = self.rows[condition]
        if answer.confidence is None:
            real = sentiment_metrics(self.labels, answer.prediction)
            return {"accuracy": real["has0_accuracy"], **real}
        metrics = classification_metrics(self.labels, answer.prediction, self.outputs)
        error = calibration_error(agree(self.labels, answer.prediction), answer.confidence)
        return {**metrics, "calibration_error": error}


def evaluate(
    model: Model,
    split: AnySplit,
    conditions: Iterable[Condition],
    *,
    only: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Run a model once under each condition.

    A split that is too large for memory is read once, in chunks; encoders run on what a condition changes alone.

    Args:
        model: a module or any callable, see `concordant.robustness.predict`.
        split: the instances.
        conditions: from `concordant.robustness.conditions`.
        only: the one modality that the model takes; "" = all of the split.
        progress: called with the finished conditions and all of them; of a split in chunks, with their finished share.

    Raises:
        UsageError: the model returns no logits, or those of other labels than the split has.
    """
    wanted, outputs, rows_done = list(conditions), 0, 0
    real = split.labels.dtype.kind == "f"
    found: dict[str, list[Answer]] = {one.name: [] for one in wanted}
    with evaluating(model):
        for number, chunk in enumerate(split.chunks()):
            ask = predictor(model, chunk.only((only,)) if only else chunk, conditions=len(wanted))
            for condition in wanted:
                changed, perturbed = condition.change(chunk, None if isinstance(split, Split) else number)
                given = ask(changed.only((only,)) if only else changed)
                outputs = given.logits.shape[1]
                if not rows_done:  # once: of a large dataset it reads every label
                    _check_outputs(split.labels, outputs)
                best = torch.from_numpy(given.logits).softmax(1).max(1)
                prediction = given.predictions(real=True).copy() if real else best.indices.numpy()
                confidence = None if real else best.values.numpy()
                present = presence(changed) if only else given.present
                answer = Answer(prediction, confidence, given.reliability, present, perturbed, given.clean)
                found[condition.name].append(answer)
                del changed  # before the next one is made
                rows_done += len(chunk)
                if progress is not None:
                    progress(rows_done // max(1, len(split)), len(wanted))
    rows = {name: joined(chunks) for name, chunks in found.items()}
    return Answers(tuple(split.shapes), split.labels, split.ids, split.groups, outputs, rows)


def usual_answer(model: Model, split: AnySplit, *, only: str = "") -> Answer:
    """Return the answer on clean validation data, the reference for reliabilities."""
    return evaluate(model, split, [clean()], only=only).rows[CLEAN]


def run_scores(answers: Answers, usual: Answer) -> dict[str, Any]:
    """Return the scores that results.json holds for one run of `concordant run`.

    Of the answers under `concordant.robustness.conditions.run_conditions`, and the answer on clean validation data.
    """
    clean_answer = answers.rows[CLEAN]
    corrupted = {kind: answers.rows[name] for kind in RUN if (name := f"corruption.{kind}") in answers.rows}
    return {
        "clean": answers.metrics(CLEAN),
        "corruption": {kind: answers.metrics(f"corruption.{kind}") for kind in corrupted},
        "removal": {
            name: answers.metrics(f"removal.{name}") for name in answers.names if f"removal.{name}" in answers.rows
        },
        "detection_auroc": {kind: detection(answer, clean_answer, usual) for kind, answer in corrupted.items()},
    }


def agree(labels: NDArray[Any], predictions: NDArray[Any]) -> Bools:
    """Return where a prediction is right (N,): the class, or for real numbers the side of 0."""
    return np.asarray(as_classes(labels) == as_classes(predictions), dtype=np.bool_)


def check_metric(metric: str, labels: NDArray[Any]) -> str:
    """Return the metric's name if it is defined for labels of this kind and better when higher.

    Raises:
        UsageError: lists the metrics to choose from; errors such as `mae` are not among them.
    """
    choices = CLASS_METRICS if labels.dtype.kind == "i" else REAL_METRICS
    if metric not in choices:
        raise UsageError(f"unknown metric {metric!r} of these labels; choose from: {', '.join(choices)}")
    return metric


def _check_outputs(labels: NDArray[Any], outputs: int) -> None:
    """Raise UsageError unless a model with so many outputs per instance can predict the labels."""
    if labels.dtype.kind == "f":
        if outputs != 1:
            raise UsageError(
                f"labels are real numbers, and the model returns {outputs} values per instance; give class indices as "
                "whole numbers, or a model that returns one number"
            )
        return
    if outputs < 2:
        raise UsageError(
            "labels are class indices, and the model returns one number per instance; give a model that returns a "
            "logit per class, or labels that are real numbers"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < outputs:
        raise UsageError(
            f"labels must lie in 0..{outputs - 1}, as the model returns {outputs} logits per instance; found "
            f"{labels.min()}..{labels.max()}"
        )


def score_of(labels: NDArray[Any], predictions: NDArray[Any], metric: str, outputs: int) -> float:
    """Return one metric of class indices (N,), or of predicted numbers (N,)."""
    if metric == PRIMARY:
        return float(agree(labels, predictions).mean())
    if labels.dtype.kind == "f":
        return float(sentiment_metrics(labels, predictions)[metric] or 0.0)
    return classification_metrics(labels, predictions, outputs)[metric]


def score_without_any(train: NDArray[Any], labels: NDArray[Any], metric: str, outputs: int) -> float:
    """Return the score without any modality: of always the most frequent training class, or the training median."""
    if labels.dtype.kind == "f":
        constant = np.full(len(labels), np.median(train), np.float32)
    else:
        constant = np.full(len(labels), np.bincount(as_classes(train)).argmax(), np.int64)
    return score_of(labels, constant, metric, outputs)


def as_table(answers: Answers, variant: Variant, seed: int) -> pa.Table:
    """Return the answers of one run as a table, with the run's name in every row."""
    import pyarrow as pa

    count, real = len(answers.labels), answers.labels.dtype.kind == "f"
    kind = pa.float32() if real else pa.int64()
    tables = []
    for condition, answer in answers.rows.items():
        perturbed = np.array([None, *answers.names], dtype=object)[
            np.where(answer.perturbed.any(1), answer.perturbed.argmax(1) + 1, 0)
        ]
        confidence, reliability = answer.confidence, answer.reliability
        columns = {
            "calibrator": pa.array([variant.calibrator] * count).dictionary_encode(),
            "perturbed_training": pa.array([variant.perturbed] * count),
            "seed": pa.array([seed] * count, pa.int64()),
            "condition": pa.array([condition] * count).dictionary_encode(),
            "id": pa.array(answers.ids.tolist(), pa.string()),
            "group": pa.array([None] * count if answers.groups is None else answers.groups.tolist(), pa.string()),
            "label": pa.array(answers.labels, kind),
            "prediction": pa.array(answer.prediction, kind),
            "confidence": pa.nulls(count, pa.float32()) if confidence is None else pa.array(confidence),
            "corrupted": pa.array(perturbed.tolist(), pa.string()).dictionary_encode(),
        }
        for column, name in enumerate(answers.names):
            columns[f"reliability_{name}"] = (
                pa.nulls(count, pa.float32())
                if reliability is None
                else pa.array(reliability[:, column], pa.float32(), mask=~answer.present[:, column])
            )
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).unify_dictionaries()


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as parquet, atomically."""
    import pyarrow.parquet as pq

    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


# The columns of the predictions of runs that are read back.
PREDICTIONS = {
    "calibrator": "text",
    "perturbed_training": "truth values",
    "seed": "whole numbers",
    "condition": "text",
    "id": "text",
    "group": "text?",
    "label": "numbers",
    "prediction": "numbers",
}


def read_tables(paths: Sequence[Path], needed: Mapping[str, str] = PREDICTIONS) -> pa.Table:
    """Read the predictions of several runs as one table.

    `needed`: column -> "text", "whole numbers", "numbers" or "truth values"; absent values are allowed where a "?"
    follows.

    Raises:
        DataError: a file is absent, damaged or no parquet file, has other columns, or would take more than
            CONCORDANT_LIMIT allows.
    """
    import pyarrow as pa

    tables = []
    for path in paths:
        table = read_parquet(path, "remove its folder to run it again")
        for name, kind in needed.items():
            column = table.column(name) if name in table.column_names else None
            if column is None or not _is_kind(column, kind):
                found = "none" if column is None else f"{column.type} with {column.null_count} absent"
                raise DataError(
                    f"{path} must have {kind.rstrip('?')} in {name}; found {found}: remove it to run it again"
                )
        tables.append(table)
    with reading(paths[0], "Parquet", "the tables of all runs must have the same columns"):
        return pa.concat_tables(tables).unify_dictionaries()


def _is_kind(column: pa.ChunkedArray, kind: str) -> bool:
    import pyarrow.types as types

    of = column.type.value_type if types.is_dictionary(column.type) else column.type
    fits = {
        "text": types.is_string(of) or types.is_null(of),
        "whole numbers": types.is_integer(of),
        "numbers": types.is_integer(of) or types.is_floating(of),
        "truth values": types.is_boolean(of),
    }
    return fits[kind.rstrip("?")] and (kind.endswith("?") or not column.null_count)


def correctness(table: pa.Table) -> Correct:
    """Return (label, seed) -> condition -> 1 where a prediction is right and 0 where not, from a table of runs."""
    columns = ["calibrator", "perturbed_training", "seed", "condition", "id", "group", "label", "prediction"]
    plain = {name: table.column(name).to_numpy(zero_copy_only=False) for name in columns}
    label = np.array(
        [Variant(c, bool(p)).label for c, p in zip(plain["calibrator"], plain["perturbed_training"], strict=True)]
    )
    right = agree(plain["label"], plain["prediction"]).astype(np.float64)
    found: dict[tuple[str, int], dict[str, Outcomes]] = {}
    starts = np.flatnonzero(np.r_[True, _changes(label) | _changes(plain["seed"]) | _changes(plain["condition"])])
    for start, stop in zip(starts, [*starts[1:], len(right)], strict=True):
        rows = slice(start, stop)
        groups = None if plain["group"][start] is None else plain["group"][rows].astype(np.str_)
        outcomes = Outcomes(right[rows], plain["id"][rows].astype(np.str_), groups)
        found.setdefault((str(label[start]), int(plain["seed"][start])), {})[plain["condition"][start]] = outcomes
    return found


def _changes(values: NDArray[Any]) -> Bools:
    """Return where a value differs from the one before it, from the second on."""
    return np.asarray(values[1:] != values[:-1], dtype=np.bool_)
