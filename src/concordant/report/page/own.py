"""The report page of models that `concordant run` did not train: of what `concordant.analysis` returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from concordant.documents import check_document
from concordant.dynamics.loop import LoopRecorder
from concordant.dynamics.stability import summarise
from concordant.errors import UsageError
from concordant.report.folder import ANALYSES, RunDocuments
from concordant.report.page.render import write_report
from concordant.study.stress import together
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
        name: its title, and what stands for the benchmark.
        removal: model -> what `measure_removal` returned; a list of several seeds.
        corruption: model -> what `measure_corruption` returned; a list of several seeds.
        dynamics: model -> the recorder of its training; a list of several seeds.
        features: what `measure_features` returned of one model.
        twin: which model of `corruption` is the uncalibrated one, against which errors are taken.

    Raises:
        UsageError: there is nothing to report, models were measured on different things, or `twin` is no model.
    """
    if removal is None and corruption is None and dynamics is None and features is None:
        raise UsageError("nothing to report: give removal, corruption, dynamics or features")
    documents = RunDocuments(
        name=name,
        results=None,
        grid=None,
        removal=None if removal is None else _removal(name, removal),
        corruption=None if corruption is None else _corruption(name, corruption, twin),
        dynamics=None if dynamics is None else _dynamics(name, dynamics),
        features=None if features is None else _features(name, features),
        checks=None,
    )
    for kind in ANALYSES:
        document = getattr(documents, kind)
        if document is not None:
            check_document(document, kind, kind)
    write_report([documents], Path(path))


def _removal(name: str, found: ByModel) -> dict[str, Any]:
    runs = _runs(found, "removal", "modalities", "metric")
    first = runs[0]
    return {
        **_head("concordant.removal/1", name, first),
        "metric": first["metric"],
        "rates": [one["rate"] for one in first["rates"]],
        "runs": runs,
        "command": "concordant.analysis.measure_removal",
    }


def _corruption(name: str, found: ByModel, twin: str | None) -> dict[str, Any]:
    runs = _runs(found, "corruption", "about", "metric")
    if twin is not None and twin not in found:
        raise UsageError(f"twin must be one of the models of corruption, {', '.join(found)}; found {twin!r}")
    if twin is not None and any("oracle" not in run for run in runs if run["label"] == twin):
        raise UsageError(f"corruption of the twin {twin!r} was measured without its oracle; leave oracle=True")
    return {
        **_head("concordant.corruption/1", name, runs[0]),
        "metric": runs[0]["metric"],
        "kinds": runs[0]["about"],
        **together([_only_oracle(run, twin) for run in runs], list(found), twin=twin),
        "command": "concordant.analysis.measure_corruption",
    }


def _only_oracle(run: dict[str, Any], twin: str | None) -> dict[str, Any]:
    """Return a run without its oracle, unless it is the twin's."""
    if twin is None or run["label"] == twin:
        return run
    return {key: value for key, value in run.items() if key != "oracle"}


def _dynamics(name: str, found: Mapping[str, LoopRecorder | Sequence[LoopRecorder]]) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    every = set()
    for label, recorders in found.items():
        for seed, one in enumerate([recorders] if isinstance(recorders, LoopRecorder) else recorders):
            every.add(one.every)
            series = one.series()
            scores = [s["value"][-1] for s in series if s["quantity"] == "validation_score"]
            final = scores[0] if scores else None
            stability = {**one.stability(), "final_score": final, "sharpness": None}
            runs.append(
                {
                    "label": label,
                    "seed": seed,
                    "seconds": 0.0,
                    "observing_seconds": 0.0,
                    "series": series,
                    "stability": stability,
                }
            )
    known = ("gradient_norm", "probe", "reliability_q50")
    names = [s["of"] for run in runs for s in run["series"] if s["quantity"] in known]
    return {
        **_head("concordant.dynamics/1", name, {"modalities": list(dict.fromkeys(names))}),
        "every": max(every),
        "runs": runs,
        "summary": summarise(runs),
        "command": "concordant.analysis.LoopRecorder",
    }


def _features(name: str, found: Found) -> dict[str, Any]:
    points = dict(found["points"])
    if points["prediction"] is None:  # of a calibrator alone
        points["prediction"] = points["label"]
    distrusted = [
        {**one, "prediction": one["prediction"] or "-", "right": bool(one["right"])} for one in found["distrusted"]
    ]
    return {
        **_head("concordant.features/1", name, found),
        **found,
        "points": points,
        "distrusted": distrusted,
        "label": name,
        "seed": 0,
        "command": "concordant.analysis.measure_features",
    }


def _runs(found: ByModel, what: str, *same: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    for label, results in found.items():
        listed = [results] if isinstance(results, Mapping) else list(results)
        runs += [{"label": label, "seed": seed, **one} for seed, one in enumerate(listed)]
    if not runs:
        raise UsageError(f"{what} names no model; give model -> what was measured")
    for key in same:
        if any(run[key] != runs[0][key] for run in runs):
            raise UsageError(f"{what} of the models was measured on different things: {key} is not the same for all")
    return runs


def _head(schema: str, name: str, found: Found) -> dict[str, Any]:
    return {
        "schema": schema,
        "benchmark": name,
        "fusion": "",
        "modalities": list(found["modalities"]),
        "versions": versions(),
        "hardware": hardware(),
    }
