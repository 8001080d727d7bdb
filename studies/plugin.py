"""Make results/plugin.json and what docs/plugin.md shows of it: `python -m studies.plugin [NAME ...] [--seeds N]`.

A cell is a benchmark with one fusion. Its model is trained as by `concordant run`, without calibrator and without
perturbations, and from then on knows nothing of absent modalities: their inputs are zeros. `fit_plugin` attaches a
calibrator behind its encoders and trains the calibrator alone, under a bound on harm by the validation rows: as it is
by default, filled with zeros and with the running mean instead, and two gates that do not compare modalities, all by
the perturbations that the default has chosen. Beside them stand imputers of scikit-learn, fitted on the features of the
training rows, that are given which modality is absent, and a model that is trained anew with modality dropout. All are
scored on the test rows: clean, with one random modality of every instance corrupted, in all alike, and with one and
with two modalities absent from every instance. The results of cells that are not named are kept.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from concordant import Calibrator, Perturbation, fit_plugin, seeding
from concordant.attach.fit import STEPS, VARIATIONS
from concordant.data.split import AnySplit, Task
from concordant.files import read_json, write_json
from concordant.modalities import ModalityBatch
from concordant.report.figures.colours import colour_of
from concordant.report.record import Table, markdown
from concordant.rivals import CALIBRATORS
from concordant.robustness.answers import as_table, correctness, evaluate
from concordant.robustness.conditions import run_conditions, subset
from concordant.statistics.bootstrap import Outcomes, paired_bootstrap
from concordant.statistics.comparisons import with_mean
from concordant.training.batches import open_tensors
from concordant.training.config import Variant, make_config
from concordant.training.model import MultimodalModel, Output
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from concordant.training.train import train
from studies import common
from studies.common import RESULTS


@dataclass(frozen=True)
class Cell:
    """A benchmark with one fusion: the models that the plug-in is attached to."""

    benchmark: str
    fusion: str
    harm: float = 0.06  # 60 to 180 validation rows cannot show the default
    protocol: str | None = None  # None = the benchmark's own
    modalities: tuple[str, ...] | None = None  # None = all
    # Test subjects are new and validation subjects are not, so they cannot choose the variation.
    new_subjects: bool = False


_TWO_SENSORS = ("skeleton", "inertial")
CELLS = {
    "scene15/lf-dnn": Cell("scene15", "lf-dnn", harm=0.02),
    "scene15/transformer": Cell("scene15", "transformer", harm=0.02),
    "utd-mhad/transformer": Cell("utd-mhad", "transformer", new_subjects=True),
    "utd-mhad/lf-dnn": Cell("utd-mhad", "lf-dnn", new_subjects=True),
    "utd-mhad-2/transformer": Cell("utd-mhad", "transformer", modalities=_TWO_SENSORS, new_subjects=True),
    "utd-mhad-2/lf-dnn": Cell("utd-mhad", "lf-dnn", modalities=_TWO_SENSORS, new_subjects=True),
    "ravdess/lf-dnn": Cell("ravdess", "lf-dnn"),
    "ravdess/transformer": Cell("ravdess", "transformer"),
    "av-digits/concat": Cell("av-digits", "concat"),
    "av-digits/film": Cell("av-digits", "film"),
    "cmu-mosi-utterance/lf-dnn": Cell("cmu-mosi-utterance", "lf-dnn", protocol="test-folds"),
    "cmu-mosi-utterance/transformer": Cell("cmu-mosi-utterance", "transformer", protocol="test-folds"),
    "handwritten/lf-dnn": Cell("handwritten", "lf-dnn"),
    "handwritten/transformer": Cell("handwritten", "transformer"),
}
FILLS = {"none": "towards zero", "mean": "towards the mean", "context": "filled"}
GATES = {"self": "self gate", "joint": "joint gate"}
IMPUTERS = {"knn": "KNNImputer", "iterative": "IterativeImputer"}
RETRAINED = "modality-dropout"
ROWS = {**FILLS, **GATES, **IMPUTERS, RETRAINED: "retrained with modality dropout"}
ABSENT = {1: "one absent", 2: "two absent"}
BATCH = 64
PLAIN = Variant("none", False)


Named = Mapping[str, Tensor]  # by modality


class Unaware(nn.Module):
    """A trained model that does not handle absent modalities; what `present` says is there for the calibrator alone."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Named, masks: Named | None = None, present: Named | None = None) -> Output:
        """Return the model's output as if all modalities were there."""
        return cast(Output, self.model(inputs, masks))


class Imputed(Unaware):
    """A trained model whose absent features an imputer fills in; fitted on complete rows and on rows without one each.

    Args:
        model: with vectors as features.
        imputer: of scikit-learn.
        train: the training rows.
    """

    def __init__(self, model: MultimodalModel, imputer: TransformerMixin, train: AnySplit) -> None:
        super().__init__(model)
        self.pipeline = make_pipeline(StandardScaler(), imputer)
        with torch.no_grad():
            tensors = open_tensors(train)
            rows = tensors.take(torch.arange(len(tensors)))
            features = self._features(model.eval().encode(rows.inputs, rows.masks))
        absent = np.arange(len(features)) % len(model.encoders)
        self.pipeline.fit(np.concatenate([features, np.where(absent[:, None] == self.owner, np.nan, features)]))

    def _features(self, batch: ModalityBatch) -> NDArray[Any]:
        """Return the features of all modalities side by side, (B, sum of D); `owner` is the modality of each."""
        sizes = [x.shape[1] for x in batch.features.values()]
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        return torch.cat(list(batch.features.values()), 1).numpy()

    def forward(self, inputs: Named, masks: Named | None = None, present: Named | None = None) -> Output:
        """Return the model's output with the features of absent modalities imputed."""
        batch = self.model.encode(inputs, masks)
        if present:
            there = np.stack([presence_of(name)(inputs, masks, present).numpy() for name in batch.features], 1)
            features = np.where(there[:, self.owner], self._features(batch), np.nan)
            if np.isnan(features).any():
                scaled = self.pipeline.transform(features)
                imputed = torch.from_numpy(self.pipeline[0].inverse_transform(scaled)).float()
                parts = torch.split(imputed, [x.shape[1] for x in batch.features.values()], 1)
                batch = replace(batch, features=dict(zip(batch.features, parts, strict=True)))
        return self.model.calibrate_and_fuse(batch)


def presence_of(name: str) -> Callable[..., Tensor]:
    """Return the function of a model's inputs that tells whether each instance has a modality, as `attach` takes it."""

    def there(inputs: Named, masks: Named | None = None, present: Named | None = None) -> Tensor:
        known = (present or {}).get(name)
        return torch.ones(len(inputs[name]), dtype=torch.bool) if known is None else known

    return there


class Batches:
    """A split in batches for `fit_plugin`: ((inputs, masks, present), labels), in another order at every pass.

    Args:
        split: the instances.
        seed: of the order; None = as they are.
    """

    def __init__(self, split: AnySplit, seed: int | None) -> None:
        self.tensors = open_tensors(split)
        self.draws = None if seed is None else seeding.generator(seed, "plugin", "batches")

    def __len__(self) -> int:
        return -(-len(self.tensors) // BATCH)

    def __iter__(self) -> Iterator[Any]:
        count = len(self.tensors)
        order = torch.arange(count) if self.draws is None else torch.randperm(count, generator=self.draws)
        for rows in torch.split(order, BATCH):
            batch = self.tensors.take(rows)
            yield (batch.inputs, batch.masks, batch.present), batch.labels


def main(names: common.Names = None, seeds: common.Seeds = 2, data: common.Data = None) -> None:
    """Train, attach, score, and write."""
    path = RESULTS / "plugin.json"
    known = read_json(path)["cells"] if path.exists() else {}
    for name in common.chosen(names, CELLS, "cell"):
        known[name] = measure(CELLS[name], seeds, data)
        document = {
            "schema": "concordant.plugin-results/4",
            "cells": {one: known[one] for one in CELLS if one in known},
            "steps": STEPS,
            "batch": BATCH,
            "versions": versions(),
            "hardware": hardware(),
            "command": f"python -m studies.plugin --seeds {seeds}",
        }
        write_json(path, document)
    blocks = {"plugin-summary": summary(document), "plugin": table(document)}
    common.fill_files([common.ROOT / "docs" / "plugin.md"], blocks, "results")
    draw(document, common.ROOT / "docs" / "plugin-gains.png")


def measure(cell: Cell, seeds: int, data: str | None) -> dict[str, Any]:
    """Return what the models of one cell score without the plug-in, with it, and with what else there is."""
    config = make_config(
        cell.benchmark,
        fusion=cell.fusion,
        calibrators=("none", RETRAINED),
        seeds=seeds,
        protocol=cell.protocol,
        modalities=cell.modalities,
    )
    folder = None if data is None else Path(data)
    runs: list[dict[str, Any]] = []
    outcomes: dict[str, list[dict[str, Outcomes]]] = {"model": [], **{row: [] for row in ROWS}}  # one per seed
    for seed in range(seeds):
        task = prepare_of(config, folder, seed=seed)
        model = Unaware(train(task, config, PLAIN, seed).model)
        outcomes["model"].append(outcomes_of(model, task, seed))
        state = copy.deepcopy(model.state_dict())
        run: dict[str, Any] = {"seed": seed}
        chosen: dict[str, Any] = {}
        if cell.new_subjects:
            chosen = {"perturbation": Perturbation(variation=VARIATIONS[0])}
        for row in (*reversed(FILLS), *GATES):  # the default first
            own: dict[str, Any] = {"fill": row}
            if row in GATES:
                own = {"calibrator": partial(cast(Any, CALIBRATORS[row].build), seed=seed, **chosen)}
            start, busy = time.perf_counter(), time.process_time()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                attached = fit_plugin(
                    model,
                    Batches(task.train, seed),
                    {one: f"model.encoders.{one}" for one in model.model.encoders},
                    layout={one: str(encoder.feature_layout) for one, encoder in model.model.encoders.items()},
                    validation=Batches(task.valid, None),
                    harm=cell.harm,
                    present={one: presence_of(one) for one in model.model.encoders},
                    absent="fill" if row == "context" else "keep",
                    seed=seed,
                    **own,
                    **({} if row in GATES else chosen),
                )
            seconds, busy = time.perf_counter() - start, time.process_time() - busy
            perturbation = cast(Calibrator, attached.calibrator).perturbation or Perturbation()
            chosen = {"perturbation": perturbation}
            outcomes[row].append(outcomes_of(attached, task, seed))
            run[row] = {
                "seconds": seconds,
                "processor_seconds": busy,
                "variation": perturbation.variation,
                "guarantee": None if attached.guarantee is None else vars(attached.guarantee),
                "warnings": [str(one.message) for one in caught],
            }
            attached.detach()
        run["model_unchanged"] = all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        if all(layout == "bd" for layout in task.layouts.values()):
            for row, imputer in (
                ("knn", KNNImputer()),
                ("iterative", IterativeImputer(n_nearest_features=20, random_state=seed)),
            ):
                busy = time.process_time()
                with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):
                    imputed = Imputed(model.model, imputer, task.train)
                    outcomes[row].append(outcomes_of(imputed, task, seed, told=True))
                run[row] = {"processor_seconds": time.process_time() - busy}
        again = train(task, config, Variant(RETRAINED, CALIBRATORS[RETRAINED].perturbed), seed).model
        outcomes[RETRAINED].append(outcomes_of(again, task, seed))
        for row, found in outcomes.items():
            if found:
                scores = {condition: float(np.mean(one.values)) for condition, one in found[seed].items()}
                run[row] = {**run.get(row, {}), **scores}
        runs.append(run)
        print(cell.benchmark, cell.fusion, run, flush=True)
    before = by_condition(outcomes["model"])
    others = {row: by_condition(one) for row, one in outcomes.items() if one and row != "model"}
    return {
        "protocol": config.protocol,
        "harm": cell.harm,
        "fusion": config.fusion,
        "modalities": list(model.model.encoders),
        "runs": runs,
        "differences": {
            row: {condition: difference(before[condition], after[condition]) for condition in after}
            for row, after in others.items()
        },
        "threads": torch.get_num_threads(),
    }


def by_condition(runs: list[dict[str, Outcomes]]) -> dict[str, dict[int, Outcomes]]:
    """Return condition -> seed -> outcomes."""
    return {condition: dict(enumerate(one[condition] for one in runs)) for condition in runs[0]}


def outcomes_of(model: nn.Module, task: Task, seed: int, *, told: bool = False) -> dict[str, Outcomes]:
    """Return the outcomes on the test split: clean, under each corruption and their mean, and with modalities absent.

    With `told` only those with modalities absent.
    """
    corrupted = [one for one in run_conditions(task.test, task.layouts, seed) if not one.name.startswith("removal.")]
    names = list(task.test.shapes)
    counts = range(1, min(2, len(names) - 1) + 1)
    absent = {
        count: [subset([name for name in names if name not in gone]) for gone in combinations(names, count)]
        for count in counts
    }
    every = [*([] if told else corrupted), *(one for some in absent.values() for one in some)]
    found = correctness(as_table(evaluate(model, task.test, every), PLAIN, seed))[PLAIN.label, seed]
    scored = {} if told else with_mean({one.name: found[one.name] for one in corrupted})
    means = {ABSENT[count]: mean_of([found[one.name] for one in some]) for count, some in absent.items()}
    return {condition.removeprefix("corruption."): one for condition, one in {**scored, **means}.items()}


def mean_of(outcomes: list[Outcomes]) -> Outcomes:
    """Return each instance's mean over some conditions."""
    values = np.mean([np.asarray(one.values, dtype=np.float64) for one in outcomes], 0)
    return Outcomes(values, outcomes[0].ids, outcomes[0].groups)


def difference(before: Mapping[int, Outcomes], after: Mapping[int, Outcomes]) -> dict[str, Any]:
    """Return the paired difference of two models' outcomes by seed."""
    one = paired_bootstrap(after, before, seed=0)
    return {
        "before": one.mean_to,
        "after": one.mean_of,
        "difference": one.difference,
        "ci95": list(one.ci95),
        "p_value": one.p_value,
    }


def summary(document: dict[str, Any]) -> str:
    """Return the first table of docs/plugin.md: the model, with the plug-in, and trained anew, in three conditions."""
    conditions = {"clean": "clean", "mean": "one corrupted", "one absent": "one absent"}
    rows = []
    for name, one in document["cells"].items():
        context, retrained = (one["differences"][row] for row in ("context", RETRAINED))
        scores = []
        for condition in conditions:
            three = (context[condition]["before"], context[condition]["after"], retrained[condition]["after"])
            scores.append(" / ".join(f"{100 * score:.1f}" for score in three))
        rows.append([*name.split("/"), *scores])
    return markdown(Table("", "", ["benchmark", "fusion", *conditions.values()], rows, left=2))


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw the accuracy of the models of each cell, with one modality corrupted and with one absent."""
    cells = document["cells"]
    looks: dict[str, tuple[str, str, dict[str, Any]]] = {
        "trained model": ("context", "before", {"marker": "o", "color": "#8f949b"}),
        "trained anew with modality dropout": (RETRAINED, "after", {"marker": "D", "color": "#15181b", "mfc": "none"}),
        "trained model with the plug-in": ("context", "after", {"marker": "o", "color": colour_of("context"), "ms": 6}),
    }
    with common.picture(path, 7.6, 0.22 * len(cells) + 1.3) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (condition, title) in zip(
            panels, {"mean": "one corrupted", "one absent": "one absent"}.items(), strict=True
        ):
            for place, one in enumerate(cells.values()):
                ends = [100 * one["differences"]["context"][condition][when] for when in ("before", "after")]
                axes.plot(ends, [place, place], color=colour_of("context"), lw=2, alpha=0.4)
            for label, (row, when, look) in looks.items():
                scores = [100 * one["differences"][row][condition][when] for one in cells.values()]
                axes.plot(scores, range(len(scores)), **{"ls": "", "ms": 4, "label": label, **look})
            axes.set_title(f"{title}: accuracy, %", loc="left", fontsize=8)
            axes.grid(axis="x", alpha=0.3)
        panels[0].set_yticks(range(len(cells)), [name.replace("/", ", ") for name in cells])
        panels[0].invert_yaxis()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)


def table(document: dict[str, Any]) -> str:
    """Return the text and the table of docs/plugin.md."""
    rows = []
    measured = document["cells"]
    conditions = list(dict.fromkeys(key for one in measured.values() for key in one["differences"]["context"]))
    for name, one in measured.items():
        context = one["differences"]["context"]
        before = [f"{100 * context[key]['before']:.1f}" if key in context else "" for key in conditions]
        rows.append([f"{name.replace('/', ', ')} ({one['harm']:g})", "as they are", *before, ""])
        for row, title in ROWS.items():
            found = one["differences"].get(row)
            if found is None:
                continue
            gain = ""
            if "mean" in found:
                low, high = (100 * bound for bound in found["mean"]["ci95"])
                gain = f"{100 * found['mean']['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
            after = [f"{100 * found[key]['after']:.1f}" if key in found else "" for key in conditions]
            rows.append(["", title, *after, gain])
    runs = [run for one in measured.values() for run in one["runs"]]
    busy = [run["context"]["processor_seconds"] for run in runs]
    flips = sum(run["context"]["guarantee"]["flips"] for run in runs)
    units = sum(run["context"]["guarantee"]["rows"] for run in runs)
    text = (
        f"Made by `{document['command']}`, with torch {document['versions']['torch']}; {len(runs)} trained models. "
        f"The default (*filled*) took {min(busy):.0f} to {max(busy):.0f} seconds of one core each "
        f"({document['hardware']['processor']}), three candidates of {document['steps']} steps; on the validation rows "
        f"it turned {flips} of {units} right answers into wrong ones. Accuracy on test rows in percent; *mean* is over "
        "the four corruptions of one random modality of every instance; *gain* is of that mean over the model, with a "
        "95 % interval from a paired bootstrap over seeds, groups and instances; *absent*: the mean over every "
        "modality, or pair, that every instance lacks. The model does not handle absence and gets zeros. *filled* and "
        "the imputers are given which modality is absent; an imputer cannot find a corrupted one.\n\n"
    )
    return text + markdown(Table("", "", ["benchmark and fusion (harm)", "features", *conditions, "gain"], rows))


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.plugin")
