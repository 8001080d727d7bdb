"""The JSON documents on disk as records that writers and readers share: one class per schema `concordant.KIND/1`.

A document may hold more than its record names. Numbers are not converted: text that looks like a number is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from concordant.errors import DataError, shown
from concordant.files import read_json, write_json

VERSION = 1  # of every schema

T = TypeVar("T")
Some = Annotated[list[T], Field(min_length=1)]
Numbers = list[float | None]


def _number(value: Any) -> Any:  # noqa: ANN401
    """Return a number, those of NumPy and PyTorch as Python's; pydantic alone takes booleans and text such as "1_0"."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(value, bool | str | bytes):
        raise ValueError(f"input should be a number; found {shown(value)}")
    return value


# Numbers of records that are not strict in all.
Whole = Annotated[int, BeforeValidator(_number), Field(ge=-(2**63), lt=2**63)]
Number = Annotated[float, BeforeValidator(_number)]


class Record(BaseModel):
    """An object with these fields, and perhaps others."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Experiment(Record):
    name: str
    group: str


class Sweep(Record):
    """sweep.json: the experiments of `concordant sweep`."""

    state: str
    experiments: list[_Experiment]


class _Made(Record):
    versions: dict[str, str | None]
    hardware: dict[str, Any]


class _Score(Record):
    accuracy: float  # other metrics are allowed


class _Detection(Record):
    which: float | None  # area under the ROC curve: which modality is corrupted
    whether: float | None  # whether one is


class Run(Record):
    """run.json, and its entry in results.json: scores of one trained model."""

    calibrator: str
    perturbed_training: bool
    seed: int
    parameters: int
    clean: _Score
    corruption: dict[str, _Score]
    removal: dict[str, _Score]
    detection_auroc: dict[str, _Detection]


class _Comparison(Record):
    of: str
    to: str
    condition: str
    family: str  # "primary" or "secondary"; Holm's correction is within it
    difference: float
    ci95: list[float]
    p_holm: float
    p_wilcoxon: float | None


class Results(_Made):
    """results.json: scores and paired differences of `concordant run`."""

    benchmark: str
    fusion: str
    config: dict[str, Any]
    runs: Some[Run]
    comparisons: list[_Comparison]


class _GridConfig(Record):
    modalities: list[str]
    seeds: int
    method: str


class _GridScores(Record):
    clean: Some[float]  # one accuracy per seed
    corrupted: Some[float] = Field(alias="corruption.mean")


class _Against(Record):
    difference: float
    p_holm: float


class _Row(Record):
    row: str
    fusion: str
    calibrate: str
    scores: dict[str, _GridScores]
    comparisons: list[_Comparison]
    majority: float
    alone: dict[str, list[float]]
    best_alone: str | None
    against_alone: dict[str, _Against]


class Grid(_Made):
    """grid.json: several fusions, each compared on its own."""

    benchmark: str
    config: _GridConfig
    rows: Some[_Row]
    overall: list[_Comparison]


class _Analysis(_Made):
    benchmark: str
    fusion: str
    modalities: list[str]
    command: str


class _Labelled(Record):
    label: str
    seed: int


class _Subset(Record):
    present: list[str]
    score: float
    retained: float | None  # share of the full score


class _Rate(Record):
    rate: float
    score: float
    retained: float | None


class _RemovalRun(_Labelled):
    empty: float
    full: float
    subsets: list[_Subset]
    shapley: dict[str, float]
    shapley_error: dict[str, float | None] | None
    rates: list[_Rate]
    rate_area: float


class Removal(_Analysis):
    """removal.json: scores of every subset of the modalities."""

    metric: str
    runs: Some[_RemovalRun]


class _Kind(Record):
    name: str
    summary: str
    group: str
    unit: str
    severities: list[float]
    seen: bool
    modalities: list[str]
    at: str


class _KindScores(Record):
    scores: Numbers  # one per severity
    which: Numbers | None
    whether: Numbers | None
    area: float | None


class _Worst(Record):
    kind: str
    severity: int
    score: float


class _Diagram(Record):
    edges: list[float]
    predicted: Numbers  # mean reliability per bin
    intact: Numbers  # share of modalities that are not corrupted per bin
    count: list[int]
    error: float | None


class _CorruptionRun(_Labelled):
    clean: float
    kinds: dict[str, _KindScores]
    mean: float
    area: float
    mean_corruption_error: float | None
    worst: _Worst
    diagram: _Diagram | None


class _OracleScores(Record):
    scores: Numbers


class _OracleRun(_Labelled):
    kinds: dict[str, _OracleScores]
    mean: float


class _Covered(Record):
    label: str
    twin: str
    share: float | None  # of the way from the twin to its oracle
    by_kind: dict[str, float | None]


class Corruption(_Analysis):
    """corruption.json: scores under every kind and severity."""

    metric: str
    kinds: list[_Kind]
    runs: Some[_CorruptionRun]
    oracle: list[_OracleRun]
    covered: list[_Covered]


class _Series(Record):
    quantity: str
    of: str
    step: list[int]
    value: Numbers


class _Stability(Record):
    loss_variance: float | None
    spikes: int
    final_score: float | None
    sharpness: float | None


class DynamicsRun(_Labelled):
    """A run in dynamics.json."""

    seconds: float
    observing_seconds: float
    series: list[_Series]
    stability: _Stability


class _Spread(Record):
    mean: float | None
    std: float | None


class _StabilitySummary(Record):
    label: str
    seeds: int
    loss_variance: _Spread
    spikes: _Spread
    final_score: _Spread
    sharpness: _Spread


class Dynamics(_Analysis):
    """dynamics.json: what was recorded in training."""

    runs: Some[DynamicsRun]
    summary: list[_StabilitySummary]


class _BeforeAfter(Record):
    before: float | None
    after: float | None


class _Map(Record):
    before: list[list[float] | None]  # places of instances in two dimensions
    after: list[list[float] | None]


class _Points(Record):
    id: list[str]
    label: list[int]
    prediction: list[int]
    reliability: dict[str, Numbers]
    maps: dict[str, dict[str, _Map]]


class _Separation(Record):
    silhouette: _BeforeAfter
    probe: _BeforeAfter


class _CorruptedGates(Record):
    kinds: list[str]
    values: dict[str, list[Numbers]]


class _Gates(Record):
    by_class: dict[str, list[Numbers | None]]  # null for a class without instances
    by_corruption: _CorruptedGates


class _Agreement(Record):
    condition: str
    support: list[Numbers]
    conflict: list[Numbers]


class _Seen(Record):
    name: str
    reliability: float
    picture: str = Field(pattern=r"^data:image/(png|svg\+xml);base64,[A-Za-z0-9+/=]+$")


class _Distrusted(Record):
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
    modalities: list[_Seen]


class Features(_Analysis):
    """features.json: what calibration does to the features of one run's test split."""

    label: str
    seed: int
    classes: list[str]
    points: _Points
    separation: dict[str, _Separation]
    gates: _Gates
    agreement: list[_Agreement]
    distrusted: list[_Distrusted]


class _Finding(Record):
    level: str
    subject: str
    text: str


class Check(Record):
    """check.json: findings of `concordant data check`."""

    folder: str
    failed: bool
    findings: list[_Finding]


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


def write_document(path: Path, kind: str, document: Mapping[str, Any]) -> None:
    """Write a document to a file atomically; its reader takes what passes here.

    Raises:
        DataError: `check_document` refuses it; nothing is written.
    """
    check_document(document, kind, str(path))
    write_json(path, document)


def check_document(document: Mapping[str, Any], kind: str, place: str) -> None:
    """Check a document against its record.

    Args:
        document: the content of the file.
        kind: as for `read_document`.
        place: the file, for the error.

    Raises:
        DataError: the document has another schema, a newer version, or lacks something.
    """
    wanted = check_schema(document, kind, place)
    fault = fault_of(document, RECORDS[kind])
    if fault is not None:
        raise DataError(f"{place} {fault}, which {wanted} must have; make it again")


def check_schema(document: Mapping[str, Any], kind: str, place: str) -> str:
    """Return the schema of a document, which must be that of its kind.

    Raises:
        DataError: it is of a newer version, or of another kind.
    """
    wanted = f"concordant.{kind}/{VERSION}"
    schema = document.get("schema")
    if schema != wanted:
        version = re.fullmatch(rf"concordant\.{kind}/([0-9]{{1,9}})", schema) if isinstance(schema, str) else None
        if version is not None and int(version[1]) > VERSION:
            raise DataError(
                f"{place} was written by a newer Concordant ({schema}, this one reads {wanted}); upgrade Concordant"
            )
        found = f"schema {shown(schema)}" if schema is not None else "no schema"
        raise DataError(f"{place} is not a document of schema {wanted}; found {found}; move it away, or make it again")
    return wanted


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
