"""The report page of models that `concordant run` did not train, from the results of `concordant.analysis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from concordant.documents import check_document
from concordant.dynamics.loop import LoopRecorder
from concordant.dynamics.stability import summarise
from concordant.errors import UsageError
from concordant.report.folder import RunDocuments
from concordant.report.page.render import write_report
from concordant.robustness.oracle import together
from concordant.training.provenance import hardware, versions

Found = Mapping[str, Any]
ByModel = Mapping[str, Found | Sequence[Found]]


def write_own_report(
    path: Path | str,
    *,
    name: str,
    removal: ByModel | None = None,
    corruption: ByModel | None = None,
    dynamics: Mapping[str, LoopRecorder | Sequence[LoopRecorder]] | None = None,
    features: Found | None = None,
    twin: str | None = None,
) -> None:
    """Write one self-contained HTML page about models of your own.

    Args:
        path: of the page.
        name: its title, in place of a benchmark.
        removal: model -> the result of `measure_removal`; a list of them for several seeds.
        corruption: model -> the result of `measure_corruption`; a list of them for several seeds.
        dynamics: model -> the recorder of its training; a list of them for several seeds.
        features: the result of `measure_features` for one model.
        twin: the uncalibrated model of `corruption`, relative to which errors are computed.

    Raises:
        UsageError: there is nothing to report, models were measured on different things, or `twin` is not a model.
    """
    found: dict[str, Any] = {}
    if removal is not None:
        found["removal"] = _removal(name, removal)
    if corruption is not None:
        found["corruption"] = _corruption(name, corruption, twin)
    if dynamics is not None:
        found["dynamics"] = _dynamics(name, dynamics)
    if features is not None:
        found["features"] = _features(name, features)
    if not found:
        raise UsageError("nothing to report: give removal, corruption, dynamics or features")
    for kind, document in found.items():
        check_document(document, kind, kind)
    write_report([RunDocuments(name, **found)], Path(path))


def _removal(name: str, found: ByModel) -> dict[str, Any]:
    runs = _runs(found, "removal", "modalities", "metric")
    rates = [[one["rate"] for one in run["rates"]] for run in runs]
    if any(one != rates[0] for one in rates):
        raise _different("removal", "rates")
    return {**_head("removal", name, runs[0]), "rates": rates[0], "runs": runs}


def _corruption(name: str, found: ByModel, twin: str | None) -> dict[str, Any]:
    runs = _runs(found, "corruption", "about", "metric")
    if twin is not None and twin not in found:
        raise UsageError(f"twin must be one of the models of corruption, {', '.join(found)}; found {twin!r}")
    if twin is not None and any("oracle" not in run for run in runs if run["label"] == twin):
        raise UsageError(f"corruption of the twin {twin!r} was measured without its oracle; leave oracle=True")
    for run in runs:
        if twin not in (None, run["label"]):
            run.pop("oracle", None)  # only the twin's oracle counts
    return {**_head("corruption", name, runs[0]), "kinds": runs[0]["about"], **together(runs, list(found), twin=twin)}


def _dynamics(name: str, found: Mapping[str, LoopRecorder | Sequence[LoopRecorder]]) -> dict[str, Any]:
    runs = []
    for label, seed, recorder in _each(found, "dynamics"):
        series = recorder.series()
        score = next((one["value"][-1] for one in series if one["quantity"] == "validation_score"), None)
        stability = {**recorder.stability(), "final_score": score, "sharpness": None}
        times = {"seconds": 0.0, "observing_seconds": 0.0}
        runs.append({"label": label, "seed": seed, **times, "series": series, "stability": stability})
    known = ("gradient_norm", "probe", "reliability_q50")
    names = dict.fromkeys(one["of"] for run in runs for one in run["series"] if one["quantity"] in known)
    every = max(recorder.every for _, _, recorder in _each(found, "dynamics"))
    head = _head("dynamics", name, {"modalities": names})
    return {**head, "every": every, "runs": runs, "summary": summarise(runs)}


def _features(name: str, found: Found) -> dict[str, Any]:
    points = dict(found["points"])
    if points["prediction"] is None:  # of a calibrator alone
        points["prediction"] = points["label"]
    distrusted = [
        {**one, "prediction": one["prediction"] or "-", "right": bool(one["right"])} for one in found["distrusted"]
    ]
    head = _head("features", name, found)
    return {**head, **found, "points": points, "distrusted": distrusted, "label": name, "seed": 0}


def _each(found: Mapping[str, Any], analysis: str) -> list[tuple[str, int, Any]]:
    """Return model, seed and result of each run; a single result is that of seed 0."""
    given = {label: one if isinstance(one, Sequence) else [one] for label, one in found.items()}
    runs = [(label, seed, one) for label, several in given.items() for seed, one in enumerate(several)]
    if not runs:
        raise UsageError(f"{analysis} names no model; give model -> its result")
    return runs


def _runs(found: ByModel, analysis: str, *shared: str) -> list[dict[str, Any]]:
    """Return one run per model and seed; `shared` names the keys that must agree."""
    runs: list[dict[str, Any]] = [{"label": label, "seed": seed, **one} for label, seed, one in _each(found, analysis)]
    for key in shared:
        if any(run[key] != runs[0][key] for run in runs):
            raise _different(analysis, key)
    return runs


def _different(analysis: str, key: str) -> UsageError:
    return UsageError(f"{analysis} of the models was measured on different things: {key} differs between them")


def _head(kind: str, name: str, found: Found) -> dict[str, Any]:
    command = "LoopRecorder" if kind == "dynamics" else f"measure_{kind}"
    head = {
        "schema": f"concordant.{kind}/1",
        "benchmark": name,
        "fusion": "",
        "modalities": list(found["modalities"]),
        "versions": versions(),
        "hardware": hardware(),
        "command": f"concordant.analysis.{command}",
    }
    return {**head, "metric": found["metric"]} if "metric" in found else head
