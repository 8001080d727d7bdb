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
    if removal is None and corruption is None and dynamics is None and features is None:
        raise UsageError("nothing to report: give removal, corruption, dynamics or features")
    found: dict[str, Any] = {
        "removal": None if removal is None else _removal(name, removal),
        "corruption": None if corruption is None else _corruption(name, corruption, twin),
        "dynamics": None if dynamics is None else _dynamics(name, dynamics),
        "features": None if features is None else _features(name, features),
    }
    for kind, document in found.items():
        if document is not None:
            check_document(document, kind, kind)
    write_report([RunDocuments(name, **found)], Path(path))


def _removal(name: str, found: ByModel) -> dict[str, Any]:
    runs = _runs(found, "removal", "modalities", "metric")
    return {
        **_head("removal", name, runs[0]),
        "metric": runs[0]["metric"],
        "rates": [one["rate"] for one in runs[0]["rates"]],
        "runs": runs,
    }


def _corruption(name: str, found: ByModel, twin: str | None) -> dict[str, Any]:
    runs = _runs(found, "corruption", "about", "metric")
    if twin is not None and twin not in found:
        raise UsageError(f"twin must be one of the models of corruption, {', '.join(found)}; found {twin!r}")
    if twin is not None and any("oracle" not in run for run in runs if run["label"] == twin):
        raise UsageError(f"corruption of the twin {twin!r} was measured without its oracle; leave oracle=True")
    # Only the twin's oracle counts.
    kept = [
        {key: value for key, value in run.items() if key != "oracle" or twin in (None, run["label"])} for run in runs
    ]
    head = {**_head("corruption", name, runs[0]), "metric": runs[0]["metric"], "kinds": runs[0]["about"]}
    return {**head, **together(kept, list(found), twin=twin)}


def _dynamics(name: str, found: Mapping[str, LoopRecorder | Sequence[LoopRecorder]]) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    every = set()
    for label, recorders in found.items():
        for seed, one in enumerate([recorders] if isinstance(recorders, LoopRecorder) else recorders):
            every.add(one.every)
            series = one.series()
            scores = [s["value"][-1] for s in series if s["quantity"] == "validation_score"]
            stability = {**one.stability(), "final_score": scores[0] if scores else None, "sharpness": None}
            run = {"label": label, "seed": seed, "seconds": 0.0, "observing_seconds": 0.0}
            runs.append({**run, "series": series, "stability": stability})
    known = ("gradient_norm", "probe", "reliability_q50")
    names = [s["of"] for run in runs for s in run["series"] if s["quantity"] in known]
    head = _head("dynamics", name, {"modalities": list(dict.fromkeys(names))})
    return {**head, "every": max(every), "runs": runs, "summary": summarise(runs)}


def _features(name: str, found: Found) -> dict[str, Any]:
    points = dict(found["points"])
    if points["prediction"] is None:  # of a calibrator alone
        points["prediction"] = points["label"]
    distrusted = [
        {**one, "prediction": one["prediction"] or "-", "right": bool(one["right"])} for one in found["distrusted"]
    ]
    head = _head("features", name, found)
    return {**head, **found, "points": points, "distrusted": distrusted, "label": name, "seed": 0}


def _runs(found: ByModel, analysis: str, *shared: str) -> list[dict[str, Any]]:
    """Return one run per model and seed; `shared` names the keys that must agree."""
    runs: list[dict[str, Any]] = []
    for label, results in found.items():
        listed = [results] if isinstance(results, Mapping) else list(results)
        runs += [{"label": label, "seed": seed, **one} for seed, one in enumerate(listed)]
    if not runs:
        raise UsageError(f"{analysis} names no model; give model -> its result")
    for key in shared:
        if any(run[key] != runs[0][key] for run in runs):
            raise UsageError(f"{analysis} of the models was measured on different things: {key} differs between them")
    return runs


def _head(kind: str, name: str, found: Found) -> dict[str, Any]:
    command = "LoopRecorder" if kind == "dynamics" else f"measure_{kind}"
    return {
        "schema": f"concordant.{kind}/1",
        "benchmark": name,
        "fusion": "",
        "modalities": list(found["modalities"]),
        "versions": versions(),
        "hardware": hardware(),
        "command": f"concordant.analysis.{command}",
    }
