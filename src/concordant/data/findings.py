"""Findings of the checks of data: what is wrong or noteworthy, as sentences."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from concordant.data.store import Values
from concordant.errors import DataError

FEW = 5  # instances; a class with fewer can hardly be learned
IMBALANCE = 10  # ratio of the largest class of train to the smallest
OFTEN = 0.2  # share of absent instances that is reported
LEVELS = ("error", "warning", "note")
SHOWN = 3  # examples

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        level: "error", the dataset cannot be used; "warning", results on it may mislead; "note".
        subject: a modality, "labels", "ids", "groups", "splits", "modalities", "content" or "files".
        text: the sentence.
    """

    level: Level
    subject: str
    text: str


@dataclass(frozen=True)
class Report:
    """All findings.

    Args:
        folder: of the dataset, or the name of a run's splits.
        findings: in any order; sorted by severity.
        counts: split -> class -> instances (for segments: seconds); for real labels split -> quantile -> its value.
        modalities: modality -> absent (share), shortest, median and longest length, least, most, mean, std, zeros.
        task: what is to be predicted, in words; "" where the dataset cannot be read.
    """

    folder: str
    findings: tuple[Finding, ...]
    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    modalities: dict[str, dict[str, float]] = field(default_factory=dict)
    task: str = ""

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.findings, key=lambda finding: LEVELS.index(finding.level)))
        object.__setattr__(self, "findings", ordered)

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return any(finding.level == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "schema": "concordant.check/1",
            "folder": self.folder,
            "task": self.task,
            "failed": self.failed,
            "findings": [vars(finding) for finding in self.findings],
            "counts": self.counts,
            "modalities": self.modalities,
        }


def refuse(where: Path | str, findings: Iterable[Finding]) -> None:
    """Raise DataError with the errors among findings, nothing without one."""
    errors = [f"{one.subject}: {one.text}" for one in findings if one.level == "error"]
    if errors:
        raise DataError(f"{where} cannot be trained on: {'; '.join(errors)}")


def one_class(split: str, labels: Sequence[Any]) -> Iterator[Finding]:
    """Yield a finding where a swap with an instance of another class cannot be measured.

    It is a warning for real labels, of which accuracy is the share on the right side of 0.
    """
    flat = np.concatenate([np.zeros(0), *map(np.atleast_1d, labels)])
    real = bool(len(labels)) and np.asarray(labels[0]).dtype.kind == "f"
    if len(flat) and len(np.unique(flat >= 0 if real else flat)) == 1:
        what = "is of one class"
        if real:
            what = "lies on one side of 0, so that accuracy, the share on the right side of 0, says nothing"
            what += "; take the mean of the labels from them, or go by the mean absolute error"
        text = f"every label of {split} {what}: a swap with another class cannot be measured and is left out"
        yield Finding("warning" if real else "note", "labels", text)


def hash_of(arrays: Iterable[Values]) -> bytes:
    """Return a hash of the values of arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for x in arrays:
        digest.update(np.ascontiguousarray(x).data)
    return digest.digest()


def examples(values: list[Any]) -> str:
    """Return the first values in words."""
    shown = ", ".join(str(value) for value in values[:SHOWN])
    return shown if len(values) <= SHOWN else f"{shown}, ..."
