"""Make results/plugin.json and the table in docs/plugin.md: `python -m studies.plugin [NAME ...] [--seeds N]`.

A model of each benchmark is trained as by `concordant run`, without calibrator and without perturbations. `fit_plugin`
then attaches a calibrator behind its encoders and trains the calibrator alone, under a bound on harm by the validation
rows: as it is by default, and filled with zeros and with the running mean instead, by the perturbations that
the default has chosen. All are scored on the test rows, clean and with one random modality of every instance corrupted,
in all alike. The results of benchmarks that are not named are kept.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch

from concordant import Calibrator, Perturbation, fit_plugin, seeding
from concordant.attach.fit import STEPS, VARIATIONS
from concordant.benchmarks.catalogue import prepare
from concordant.calibration.fill import Fill
from concordant.data.split import AnySplit, Task
from concordant.files import read_json, write_json
from concordant.report.record import Table, markdown
from concordant.robustness.answers import as_table, correctness, evaluate
from concordant.robustness.conditions import run_conditions
from concordant.statistics.bootstrap import Outcomes, paired_bootstrap
from concordant.statistics.comparisons import with_mean
from concordant.training.batches import open_tensors
from concordant.training.config import Variant, make_config
from concordant.training.provenance import hardware, versions
from concordant.training.train import train
from studies import common
from studies.common import RESULTS

# name -> protocol (None = the benchmark's own), harm: the default, or what 60 to 180 validation rows can show. The test
# subjects of utd-mhad are new and its validation subjects are not, so they cannot choose the variation.
BENCHMARKS = {
    "scene15": (None, 0.02),
    "utd-mhad": (None, 0.06),
    "ravdess": (None, 0.06),
    "cmu-mosi-utterance": ("test-folds", 0.06),
    "handwritten": (None, 0.06),
}
FILLS: dict[Fill, str] = {"none": "towards zero", "mean": "towards the mean", "context": "filled"}
NEW_SUBJECTS = ("utd-mhad",)
BATCH = 64
PLAIN = Variant("none", False)


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
    known = read_json(path)["benchmarks"] if path.exists() and "benchmarks" in read_json(path) else {}
    for name in common.chosen(names, BENCHMARKS, "benchmark"):
        known[name] = measure(name, seeds, data)
        document = {
            "schema": "concordant.plugin-results/2",
            "benchmarks": {one: known[one] for one in BENCHMARKS if one in known},
            "steps": STEPS,
            "batch": BATCH,
            "versions": versions(),
            "hardware": hardware(),
            "command": f"python -m studies.plugin --seeds {seeds}",
        }
        write_json(path, document)
    common.fill_files([common.ROOT / "docs" / "plugin.md"], {"plugin": table(document)}, "results")


def measure(name: str, seeds: int, data: str | None) -> dict[str, Any]:
    """Return what the models of one benchmark score without the plug-in and with it."""
    protocol, harm = BENCHMARKS[name]
    config = make_config(
        name, calibrators=("none",), seeds=seeds, **({} if protocol is None else {"protocol": protocol})
    )
    runs: list[dict[str, Any]] = []
    outcomes: dict[str, list[dict[str, Outcomes]]] = {"model": [], **{str(fill): [] for fill in FILLS}}  # one per seed
    for seed in range(seeds):
        task = prepare(name, data=data, seed=seed, protocol=config.protocol)
        model = train(task, config, PLAIN, seed).model
        outcomes["model"].append(outcomes_of(model, task, seed))
        state = copy.deepcopy(model.state_dict())
        run: dict[str, Any] = {"seed": seed}
        chosen: dict[str, Any] = {}
        if name in NEW_SUBJECTS:
            chosen = {"perturbation": Perturbation(variation=VARIATIONS[0])}
        for fill in reversed(FILLS):  # the default first
            start, busy = time.perf_counter(), time.process_time()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                attached = fit_plugin(
                    model,
                    Batches(task.train, seed),
                    {one: f"encoders.{one}" for one in model.encoders},
                    layout={one: str(encoder.feature_layout) for one, encoder in model.encoders.items()},
                    validation=Batches(task.valid, None),
                    harm=harm,
                    fill=fill,
                    seed=seed,
                    **chosen,
                )
            seconds, busy = time.perf_counter() - start, time.process_time() - busy
            perturbation = cast(Calibrator, attached.calibrator).perturbation or Perturbation()
            chosen = {"perturbation": perturbation}
            outcomes[fill].append(outcomes_of(attached, task, seed))
            run[fill] = {
                "seconds": seconds,
                "processor_seconds": busy,
                "variation": perturbation.variation,
                "guarantee": None if attached.guarantee is None else vars(attached.guarantee),
                "warnings": [str(one.message) for one in caught],
                **{condition: float(np.mean(one.values)) for condition, one in outcomes[fill][seed].items()},
            }
            attached.detach()
        run["model"] = {condition: float(np.mean(one.values)) for condition, one in outcomes["model"][seed].items()}
        run["model_unchanged"] = all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        runs.append(run)
        print(name, run, flush=True)
    before = {
        condition: dict(enumerate(one[condition] for one in outcomes["model"])) for condition in outcomes["model"][0]
    }
    return {
        "protocol": config.protocol,
        "harm": harm,
        "fusion": config.fusion,
        "modalities": list(model.encoders),
        "runs": runs,
        "differences": {
            fill: {
                condition: difference(before[condition], dict(enumerate(one[condition] for one in outcomes[fill])))
                for condition in before
            }
            for fill in FILLS
        },
        "threads": torch.get_num_threads(),
    }


def outcomes_of(model: torch.nn.Module, task: Task, seed: int) -> dict[str, Outcomes]:
    """Return the outcomes on the test split: clean, under each corruption, and their mean."""
    conditions = [one for one in run_conditions(task.test, task.layouts, seed) if not one.name.startswith("removal.")]
    found = correctness(as_table(evaluate(model, task.test, conditions), PLAIN, seed))[PLAIN.label, seed]
    return {condition.removeprefix("corruption."): one for condition, one in with_mean(found).items()}


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


def table(document: dict[str, Any]) -> str:
    """Return the text and the table of docs/plugin.md."""
    rows = []
    for name, one in document["benchmarks"].items():
        found = one["differences"]["context"]
        rows.append(
            [
                f"{name} ({one['harm']:g})",
                "as they are",
                *(f"{100 * found[condition]['before']:.1f}" for condition in found),
                "",
            ]
        )
        for fill, title in FILLS.items():
            found = one["differences"][fill]
            low, high = (100 * bound for bound in found["mean"]["ci95"])
            gain = f"{100 * found['mean']['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
            rows.append(["", title, *(f"{100 * found[condition]['after']:.1f}" for condition in found), gain])
    conditions = list(next(iter(document["benchmarks"].values()))["differences"]["context"])
    runs = [run for one in document["benchmarks"].values() for run in one["runs"]]
    busy = [run["context"]["processor_seconds"] for run in runs]
    flips = sum(run["context"]["guarantee"]["flips"] for run in runs)
    units = sum(run["context"]["guarantee"]["rows"] for run in runs)
    text = (
        f"Made by `{document['command']}`, with torch {document['versions']['torch']}; {len(runs)} trained models. "
        f"The default (*filled*) took {min(busy):.0f} to {max(busy):.0f} seconds of one core each "
        f"({document['hardware']['processor']}), three candidates of {document['steps']} steps; on the validation rows "
        f"it turned {flips} of {units} right answers into wrong ones. Accuracy on test rows in percent; *mean* is over "
        "the four corruptions of one random modality of every instance; *gain* is of that mean over the model, with a "
        "95 % interval from a paired bootstrap over seeds, groups and instances.\n\n"
    )
    return text + markdown(Table("", "", ["benchmark (harm)", "features", *conditions, "gain"], rows))


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.plugin")
