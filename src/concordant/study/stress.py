"""`concordant stress`: removal and corruption of every run in a folder.

RUN/runs/<label>/seed-<s>/<analysis>.json  one run; never computed twice with the same options and weights
RUN/analyses/<analysis>.json               all runs, with the comparisons between them
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from concordant.benchmarks.catalogue import natures_of, waves_of
from concordant.data.split import Split, Task
from concordant.documents import write_document
from concordant.errors import ConcordantError, DataError
from concordant.files import read_json, sha256, shown, write_json
from concordant.robustness.answers import check_metric
from concordant.robustness.conditions import check_kinds
from concordant.robustness.corruptions import KINDS
from concordant.robustness.curves import measure_corruption
from concordant.robustness.oracle import together, twin_of
from concordant.robustness.predict import FromFeatures, feature_layouts, features_of
from concordant.robustness.removal import RATES, measure_removal
from concordant.training.config import data_words
from concordant.training.metrics import PRIMARY
from concordant.training.model import MultimodalModel, build_model
from concordant.training.processes import Job, run_all
from concordant.training.progress import Progress, Underway, Within, reporter
from concordant.training.provenance import hardware, versions
from concordant.training.runs import ANALYSES, WEIGHTS, RunFolder, load_weights, prepare_of

Place = Literal["inputs", "features"]
Found = dict[str, Any]


def stress_removal(runs: RunFolder, *, metric: str = PRIMARY, **how: Any) -> Found:  # noqa: ANN401
    """Score every run with every subset of its modalities; return and write analyses/removal.json.

    Args:
        runs: a folder of `concordant run`.
        metric: the score, one that is better when higher.
        how: `data`, `jobs`, `progress` and `within`, as for `stress_corruption`.

    Raises:
        UsageError: the metric is unknown for these labels.
        DataError: the data or weights cannot be used.
    """
    found = _all_runs(runs, "removal", {"metric": metric}, **how)
    parts = {
        "rates": list(RATES),
        "runs": [{key: value for key, value in one.items() if key not in ("metric", "modalities")} for one in found],
    }
    return _written(runs, "removal", metric, parts, data_words(how.get("data")))


def stress_corruption(
    runs: RunFolder,
    *,
    metric: str = PRIMARY,
    kinds: Sequence[str] | None = None,
    at: Place = "inputs",
    **how: Any,  # noqa: ANN401
) -> Found:
    """Score every run under every corruption; return and write analyses/corruption.json.

    Args:
        runs: a folder of `concordant run`.
        metric: the score, one that is better when higher.
        kinds: names from the registry; None = all that can be applied.
        at: "inputs" to corrupt the inputs (and the waveforms behind them, where available), "features" to corrupt the
            features that arrive at the calibrator.
        how: `data`, the data folder, by default that of `concordant run`; `jobs`, the number of concurrent runs, by
            default one per core; `progress`, called with the finished runs, all runs, and a line about the last one;
            `within`, called a few times a second with the finished share of the others, in runs, and a line that has
            their conditions.

    Raises:
        UsageError: a kind or the metric is unknown, or no kind can be applied.
        DataError: the data or weights cannot be used.
    """
    names = [kind.name for kind in check_kinds(kinds)]
    found = _all_runs(runs, "corruption", {"metric": metric, "kinds": names, "at": at}, **how)
    options = [*([] if kinds is None else ["--kinds", ",".join(names)]), *([] if at == "inputs" else ["--at", at])]
    parts = together(found, runs.labels)
    about = [kind for kind in found[0]["about"] if kind["name"] in parts["runs"][0]["kinds"]]
    parts["kinds"] = [{**kind, "at": at if kind["at"] == "inputs" else kind["at"]} for kind in about]
    return _written(runs, "corruption", metric, parts, [*options, *data_words(how.get("data"))])


def _written(runs: RunFolder, analysis: str, metric: str, parts: Found, options: Sequence[str]) -> Found:
    """Write the document of an analysis of all runs, and return it; `options` are further ones of its command."""
    words = ["concordant", "stress", str(shown(runs.path)), f"--{analysis}", *options]
    words += [] if metric == PRIMARY else ["--metric", metric]
    document = {
        "schema": f"concordant.{analysis}/1",
        "benchmark": runs.config.title,
        "fusion": runs.config.fusion,
        "metric": metric,
        "modalities": list(runs.config.modalities),
        "command": shlex.join(words),
        "versions": versions(),
        "hardware": hardware(),
        **parts,
    }
    write_document(runs.path / ANALYSES / f"{analysis}.json", analysis, document)
    return document


def _all_runs(
    runs: RunFolder,
    analysis: str,
    options: Found,
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    within: Within | None = None,
) -> list[Found]:
    """Do an analysis of every run that lacks it, and return those of all runs, variant by variant."""
    source = runs.source(data)
    task = runs.task(0, source)
    check_metric(options["metric"], task.test.labels)
    everything = [
        Job(runs.config, variant, seed, runs.run(variant, seed), source)
        for seed in range(runs.config.seeds)
        for variant in runs.config.variants
    ]
    todo = [job for job in everything if _known(job, analysis, options) is None]
    total, done, underway = len(everything), len(everything) - len(todo), Underway(within)
    if todo:
        if progress is not None:
            progress(done, total, "")
        # Faulty weights show here, before hours are spent on all runs.
        runs.model(task, todo[0].variant, todo[0].seed)

    def finished(job: Job, _: Found) -> None:
        nonlocal done
        done += 1
        underway.end(job.folder)
        if progress is not None:
            progress(done, total, job.name)

    work = partial(_work, analysis, options)
    failures = run_all(todo, work, processes=jobs, done=finished, reached=underway.reach)
    if failures:
        raise ConcordantError("; ".join(sentence for _, sentence in failures))
    everything.sort(key=lambda job: runs.labels.index(job.variant.label))  # as in results.json
    return [one for job in everything if (one := _known(job, analysis, options)) is not None]


def _known(job: Job, analysis: str, options: Found) -> Found | None:
    """Return the earlier result of a run, if its options and weights are unchanged."""
    path = job.folder / f"{analysis}.json"
    if not path.is_file():
        return None
    found = read_json(path)
    if found.pop("asked", None) != {**options, "weights": _digest(job)}:
        return None
    return found


def _digest(job: Job) -> str:
    path = job.folder / WEIGHTS
    if not path.is_file():
        raise DataError(f"{path} is missing; remove its folder and give the `concordant run` command again")
    return sha256(path)


def _work(analysis: str, options: Found, job: Job) -> Found:
    """Do one analysis of one run in a worker process, and write its result."""
    task = prepare_of(job.config, job.data, seed=job.seed)
    model = build_model(task, job.config, job.variant, job.seed)
    load_weights(model, job.folder / WEIGHTS)
    model.eval()
    more: Found = {"metric": options["metric"], "seed": job.seed}
    more["progress"] = reporter(job.folder, job.name, unit="condition")
    if analysis == "removal":
        found = measure_removal(model, task.test, train_labels=task.train.labels, **more)
    else:
        found = _corruption(model, task, job, options, **more)
    found = {"label": job.variant.label, "seed": job.seed, **found}
    write_json(job.folder / f"{analysis}.json", {**found, "asked": {**options, "weights": _digest(job)}})
    return found


def _corruption(model: MultimodalModel, task: Task, job: Job, options: Found, **more: Any) -> Found:  # noqa: ANN401
    twin = twin_of([variant.label for variant in job.config.variants])
    more |= {"kinds": options["kinds"], "oracle": job.variant.label == twin}
    if options["at"] == "features":
        valid, test = (features_of(model, split) for split in (task.valid, task.test))
        layouts = feature_layouts(model)
        no_images = dict.fromkeys(layouts, "features")
        return measure_corruption(FromFeatures(model), test, valid=valid, layouts=layouts, natures=no_images, **more)
    signals = {}
    if isinstance(task.test, Split) and any(KINDS[name].group == "audio" for name in options["kinds"]):
        waves = waves_of(job.config.benchmark, seed=job.seed, data=job.data, protocol=job.config.protocol)
        signals = {name: one for name, one in waves.items() if name in job.config.modalities}
    return measure_corruption(
        model,
        task.test,
        valid=task.valid,
        layouts=task.layouts,
        natures=natures_of(job.config.benchmark, job.data),
        signals=signals,
        standardised=True,
        **more,
    )
