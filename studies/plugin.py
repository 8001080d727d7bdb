"""Make results/plugin.json and the table in docs/plugin.md: `python -m studies.plugin [--seeds N] [--data DIR]`.

A model of utd-mhad is trained as by `concordant run`, without calibrator and without perturbations. `fit_plugin` then
attaches a calibrator behind its encoders and trains the calibrator alone. Both models are scored on the test subjects,
clean and with one random modality of every instance corrupted, in both alike.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from concordant import fit_plugin, seeding
from concordant.attach.fit import STEPS
from concordant.benchmarks.catalogue import prepare
from concordant.data.split import AnySplit, Task
from concordant.files import write_json
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

BENCHMARK = "utd-mhad"
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


def main(seeds: common.Seeds = 5, data: common.Data = None) -> None:
    """Train, attach, score, and write."""
    config = make_config(BENCHMARK, calibrators=("none",), seeds=seeds)
    runs: list[dict[str, Any]] = []
    outcomes: dict[str, list[dict[str, Outcomes]]] = {"before": [], "after": []}  # one mapping per seed
    for seed in range(seeds):
        task = prepare(BENCHMARK, data=data, seed=seed, protocol=config.protocol)
        model = train(task, config, PLAIN, seed).model
        outcomes["before"].append(outcomes_of(model, task, seed))
        state = copy.deepcopy(model.state_dict())
        start, busy = time.perf_counter(), time.process_time()
        attached = fit_plugin(
            model,
            Batches(task.train, seed),
            {name: f"encoders.{name}" for name in model.encoders},
            layout={name: str(encoder.feature_layout) for name, encoder in model.encoders.items()},
            validation=Batches(task.valid, None),
            seed=seed,
        )
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        outcomes["after"].append(outcomes_of(attached, task, seed))
        tolerance = attached.calibrator.tolerance if attached.calibrator is not None else None
        run: dict[str, Any] = {
            "seed": seed,
            "seconds": seconds,
            "processor_seconds": busy,
            "model_unchanged": all(torch.equal(value, state[key]) for key, value in model.state_dict().items()),
            "tolerance": None if tolerance is None else tolerance.tolist(),  # None = validation refused the calibrator
        }
        for when, found in outcomes.items():
            run[when] = {condition: float(np.mean(one.values)) for condition, one in found[seed].items()}
        runs.append(run)
        print(run, flush=True)
    document = {
        "schema": "concordant.plugin-results/1",
        "benchmark": BENCHMARK,
        "protocol": config.protocol,
        "fusion": config.fusion,
        "steps": STEPS,
        "batch": BATCH,
        "calibrator_parameters": sum(p.numel() for p in attached.parameters() if p.requires_grad),
        "runs": runs,
        "differences": {
            condition: difference(*(dict(enumerate(one[condition] for one in outcomes[when])) for when in outcomes))
            for condition in outcomes["after"][0]
        },
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "hardware": hardware(),
        "command": f"python -m studies.plugin --seeds {seeds}",
    }
    write_json(RESULTS / "plugin.json", document)
    common.fill_files([common.ROOT / "docs" / "plugin.md"], {"plugin": table(document)}, "results")


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
    runs, where = document["runs"], document["hardware"]
    seconds = [run["seconds"] for run in runs]
    text = (
        f"`{document['benchmark']}`, {document['fusion']} fusion, trained plainly (no calibrator, no perturbations) on "
        f"four subjects and tested on four others; {len(runs)} seeds; made by `{document['command']}`, with torch "
        f"{document['versions']['torch']}. Fitted in {min(seconds):.0f} to {max(seconds):.0f} seconds each, on "
        f"{document['threads']} of {where['cores']} cores ({where['processor']}), {document['steps']} steps. "
        "Accuracy in percent; *mean* is over the four corruptions of one random modality of every instance; intervals "
        "and p-values from a paired bootstrap over seeds, subjects and instances.\n\n"
    )
    rows = []
    for condition, one in document["differences"].items():
        low, high = (100 * bound for bound in one["ci95"])
        points = f"{100 * one['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
        rows.append(
            [condition, *(f"{100 * one[key]:.1f}" for key in ("before", "after")), points, f"{one['p_value']:.4f}"]
        )
    head = ["condition", "the model", "with the plug-in", "difference (95 %)", "p"]
    return text + markdown(Table("", "", head, rows))


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.plugin")
