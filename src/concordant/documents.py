"""The JSON documents on disk as records that writers and readers share: one class per schema `concordant.KIND/1`.

A document may hold more than its record names. Numbers are not converted: text that looks like a number is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from concordant.errors import DataError
from concordant.files import read_json

VERSION = 1  # of every schema

T = TypeVar("T")
Some = Annotated[list[T], Field(min_length=1)]
Numbers = list[float | None]


class Record(BaseModel):
    """An object with these fields, and perhaps others."""

    model_config = ConfigDict(extra="allow", strict=True)


class Experiment(Record):
    """One experiment of a sweep."""

    name: str
    group: str


class Sweep(Record):
    """sweep.json: the experiments of `concordant sweep`."""

    state: str
    experiments: list[Experiment]


class Made(Record):
    """The software and the machine that made a document."""

    versions: dict[str, str | None]
    hardware: dict[str, Any]


class Score(Record):
    """Metrics of one run under one condition; those of regression stand beside."""

    accuracy: float


class Detection(Record):
    """Areas under the ROC curve of the reliability: which modality is corrupted, whether one is."""

    which: float | None
    whether: float | None


class Run(Record):
    """One trained run of results.json."""

    calibrator: str
    perturbed_training: bool
    seed: int
    parameters: int
    clean: Score
    corruption: dict[str, Score]
    removal: dict[str, Score]
    detection_auroc: dict[str, Detection]


class Comparison(Record):
    """A paired difference of two methods under one condition."""

    of: str
    to: str
    condition: str
    difference: float
    ci95: list[float]
    p_holm: float
    p_wilcoxon: float | None


class Results(Made):
    """results.json: scores and paired differences of `concordant run`."""

    benchmark: str
    fusion: str
    config: dict[str, Any]
    runs: Some[Run]
    comparisons: list[Comparison]


class GridConfig(Record):
    """What the rows of a grid share."""

    modalities: list[str]
    seeds: int
    method: str


class GridScores(Record):
    """Accuracies of a method per seed."""

    clean: Some[float]
    corrupted: Some[float] = Field(alias="corruption.mean")


class Against(Record):
    """The difference of a fusion and its best modality alone."""

    difference: float
    p_holm: float


class Row(Record):
    """One fusion of a grid."""

    row: str
    fusion: str
    calibrate: str
    scores: dict[str, GridScores]
    comparisons: list[Comparison]
    majority: float
    alone: dict[str, list[float]]
    best_alone: str | None
    against_alone: dict[str, Against]


class Grid(Made):
    """grid.json: several fusions, each compared on its own."""

    benchmark: str
    config: GridConfig
    rows: Some[Row]
    overall: list[Comparison]


class Analysis(Made):
    """What the documents under analyses/ share."""

    benchmark: str
    fusion: str
    modalities: list[str]
    command: str


class Subset(Record):
    """The score with some modalities alone, and its share of the full score."""

    present: list[str]
    score: float
    retained: float | None


class Rate(Record):
    """The score with each modality of each instance removed at this rate."""

    rate: float
    score: float
    retained: float | None


class RemovalRun(Record):
    """Modality removal of one run."""

    label: str
    seed: int
    empty: float
    full: float
    subsets: list[Subset]
    shapley: dict[str, float]
    shapley_error: dict[str, float | None] | None
    rates: list[Rate]
    rate_area: float


class Removal(Analysis):
    """removal.json: scores of every subset of the modalities."""

    metric: str
    runs: Some[RemovalRun]


class Kind(Record):
    """One kind of corruption, at five severities."""

    name: str
    summary: str
    group: str
    unit: str
    severities: list[float]
    seen: bool
    modalities: list[str]
    at: str


class KindScores(Record):
    """Scores and detection of a run under one kind, per severity."""

    scores: Numbers
    which: Numbers | None
    whether: Numbers | None
    area: float | None


class Worst(Record):
    """The condition of the lowest score."""

    kind: str
    severity: int
    score: float


class Diagram(Record):
    """Predicted reliability against the share of modalities that are not corrupted (`intact`), per bin."""

    edges: list[float]
    predicted: Numbers
    intact: Numbers
    count: list[int]
    error: float | None


class CorruptionRun(Record):
    """Synthetic corruption of one run."""

    label: str
    seed: int
    clean: float
    kinds: dict[str, KindScores]
    mean: float
    area: float
    mean_corruption_error: float | None
    worst: Worst
    diagram: Diagram | None


class OracleScores(Record):
    """Scores of the oracle under one kind, per severity."""

    scores: Numbers


class OracleRun(Record):
    """One run of the twin that is given the corrupted modality as absent."""

    label: str
    seed: int
    kinds: dict[str, OracleScores]
    mean: float


class Covered(Record):
    """The share of the way from the twin to its oracle."""

    label: str
    twin: str
    share: float | None
    by_kind: dict[str, float | None]


class Corruption(Analysis):
    """corruption.json: scores under every kind and severity."""

    metric: str
    kinds: list[Kind]
    runs: Some[CorruptionRun]
    oracle: list[OracleRun]
    covered: list[Covered]


class Series(Record):
    """One quantity over the steps of training."""

    quantity: str
    of: str
    step: list[int]
    value: Numbers


class Stability(Record):
    """How steadily one run trained."""

    loss_variance: float | None
    spikes: int
    final_score: float | None
    sharpness: float | None


class DynamicsRun(Record):
    """What was recorded while one run was trained."""

    label: str
    seed: int
    seconds: float
    observing_seconds: float
    series: list[Series]
    stability: Stability


class Spread(Record):
    """Mean and standard deviation over seeds."""

    mean: float | None
    std: float | None


class StabilitySummary(Record):
    """How steadily one method trained."""

    label: str
    seeds: int
    loss_variance: Spread
    spikes: Spread
    final_score: Spread
    sharpness: Spread


class Dynamics(Analysis):
    """dynamics.json: what was recorded in training."""

    runs: Some[DynamicsRun]
    summary: list[StabilitySummary]


class BeforeAfter(Record):
    """A measure of the features before and after calibration."""

    before: float | None
    after: float | None


class Map(Record):
    """Places of the instances in two dimensions, before and after calibration."""

    before: list[list[float] | None]
    after: list[list[float] | None]


class Points(Record):
    """Test instances, one entry each."""

    id: list[str]
    label: list[int]
    prediction: list[int]
    reliability: dict[str, Numbers]
    maps: dict[str, dict[str, Map]]


class Separation(Record):
    """How well the classes are separated in one modality's features."""

    silhouette: BeforeAfter
    probe: BeforeAfter


class CorruptedGates(Record):
    """Mean gates of each feature per kind of corruption."""

    kinds: list[str]
    values: dict[str, list[Numbers]]


class Gates(Record):
    """Mean gates of each feature per class and per corruption."""

    by_class: dict[str, list[Numbers]]
    by_corruption: CorruptedGates


class Agreement(Record):
    """Mean support and conflict of each pair of modalities under one condition."""

    condition: str
    support: list[Numbers]
    conflict: list[Numbers]


class Distrusted(Record):
    """An instance with an unusually low reliability of a modality."""

    id: str
    modality: str
    reliability: float
    usual: float
    z: float
    label: str
    prediction: str
    right: bool
    supported_by: str | None
    contradicted_by: str | None


class Features(Analysis):
    """features.json: what calibration does to the features of one run's test split."""

    label: str
    seed: int
    classes: list[str]
    points: Points
    separation: dict[str, Separation]
    gates: Gates
    agreement: list[Agreement]
    distrusted: list[Distrusted]


class Finding(Record):
    """One finding of a check."""

    level: str
    subject: str
    text: str


class Check(Record):
    """check.json: findings of `concordant data check`."""

    folder: str
    failed: bool
    findings: list[Finding]


RECORDS: dict[str, type[Record]] = {
    "sweep": Sweep,
    "results": Results,
    "grid": Grid,
    "removal": Removal,
    "corruption": Corruption,
    "dynamics": Dynamics,
    "features": Features,
    "check": Check,
}
_WANTED = {
    "string_type": "text",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def read_document(path: Path, kind: str) -> dict[str, Any]:
    """Read a document from a file.

    Args:
        path: of the file.
        kind: "results", "grid", "sweep", "removal", "corruption", "dynamics", "features" or "check".

    Raises:
        DataError: the file cannot be read, or `check_document` refuses it.
    """
    document = read_json(path)
    check_document(document, kind, str(path))
    return document


def check_document(document: Mapping[str, Any], kind: str, place: str) -> None:
    """Check a document against its record.

    Args:
        document: the content of the file.
        kind: as for `read_document`.
        place: the file, for the error.

    Raises:
        DataError: the document has another schema, a newer version, or lacks something.
    """
    wanted = f"concordant.{kind}/{VERSION}"
    schema = document.get("schema")
    if schema != wanted:
        version = re.fullmatch(rf"concordant\.{kind}/(\d+)", schema) if isinstance(schema, str) else None
        if version is not None and int(version[1]) > VERSION:
            raise DataError(
                f"{place} was written by a newer Concordant ({schema}, this one reads {wanted}); upgrade Concordant"
            )
        found = f"schema {schema!r}" if schema is not None else "no schema"
        raise DataError(f"{place} is not a document of schema {wanted}; found {found}; move it away, or make it again")
    fault = fault_of(document, RECORDS[kind])
    if fault is not None:
        raise DataError(f"{place} {fault}, which {wanted} must have; make it again")


def fault_of(document: Mapping[str, Any], record: type[Record]) -> str | None:
    """Return the first fault of a document as a phrase, e.g. "lacks runs[0].seed"; None without a fault."""
    try:
        record.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault["loc"]).lstrip(".")
        if fault["type"] == "missing":
            return f"lacks {place}"
        if fault["type"] == "too_short":
            return f"holds nothing in {place}"
        wanted = _WANTED.get(fault["type"], fault["msg"])
        return f"must hold {wanted} as {place or 'a whole'}; found {type(fault['input']).__name__}"
    return None
