"""Makes results/plugin.json and the table in docs/plugin.md: `python -m studies.plugin [--seeds N] [--data DIR]`.

A plain model is trained on utd-mhad without calibrator and without perturbations, as `concordant run` does it. It is
then treated as a given model: `fit_plugin` attaches a calibrator behind its encoders and trains the calibrator alone.
Both are scored on the test subjects, clean and with one random modality of every instance corrupted, equally for both.
Axis letters: N test instances.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from concordant import fit_plugin, seeding
from concordant.attach.fit import STEPS
from concordant.benchmarks.catalogue import prepare
from concordant.data.split import AnySplit, Split, Task
from concordant.errors import ConcordantError
from concordant.files import write_json, write_text
from concordant.report.record import Table, markdown
from concordant.robustness.conditions import CLEAN, RUN, run_conditions
from concordant.statistics.bootstrap import Outcomes, paired_bootstrap
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.provenance import hardware, versions
from concordant.training.train import train
from studies.results_page import fill

BENCHMARK = "utd-mhad"
BATCH = 64
START = "<!-- results: made by studies/plugin.py -->"
Right = dict[str, NDArray[np.float64]]  # condition -> (N,) 1 where the prediction is right


class Batches:
    """A part in batches for `fit_plugin`: ((inputs, masks, presence), labels), in another order at every pass.

    Args:
        part: the instances.
        seed: of the order; None = as they are.
    """

    def __init__(self, part: AnySplit, seed: int | None) -> None:
        self.tensors = to_tensors(in_memory(part))
        self.draws = None if seed is None else seeding.generator(seed, "plugin", "batches")

    def __len__(self) -> int:
        return -(-len(self.tensors) // BATCH)

    def __iter__(self) -> Any:  # noqa: ANN401 - an iterator of what `fit_plugin` reads
        count = len(self.tensors)
        order = torch.arange(count) if self.draws is None else torch.randperm(count, generator=self.draws)
        for rows in torch.split(order, BATCH):
            batch = self.tensors.take(rows)
            yield (batch.inputs, batch.masks, batch.present), batch.labels


def main() -> int:
    """Train, attach, score, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    arguments = parser.parse_args()
    config = make_config(BENCHMARK, calibrators=("none",), seeds=arguments.seeds)
    runs: list[dict[str, Any]] = []
    before: dict[str, dict[int, Outcomes]] = {}
    after: dict[str, dict[int, Outcomes]] = {}
    parameters = 0
    for seed in range(arguments.seeds):
        task = prepare(BENCHMARK, data=arguments.data, seed=seed, protocol=config.protocol)
        model = train(task, config, Variant("none", False), seed).model
        original = right(model, task, seed)
        state = copy.deepcopy(model.state_dict())
        taps = {name: f"encoders.{name}" for name in model.encoders}
        layouts = {name: str(encoder.feature_layout) for name, encoder in model.encoders.items()}
        start, busy = time.perf_counter(), time.process_time()
        attached = fit_plugin(
            model,
            Batches(task.train, seed),
            taps,
            layout=layouts,
            validation=Batches(task.valid, None),
            seed=seed,
        )
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        parameters = sum(p.numel() for p in attached.parameters() if p.requires_grad)
        unchanged = all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        plugged = right(attached, task, seed)
        run: dict[str, Any] = {
            "seed": seed,
            "seconds": seconds,
            "processor_seconds": busy,
            "model_unchanged": unchanged,
        }
        tolerance = attached.calibrator.tolerance if attached.calibrator is not None else None
        run["tolerance"] = None if tolerance is None else tolerance.tolist()  # None = validation refused the calibrator
        runs.append({**run, "before": means(original), "after": means(plugged)})
        print(runs[-1], flush=True)
        for store, found in ((before, original), (after, plugged)):
            for condition, values in {**found, "mean": np.mean([found[kind] for kind in RUN], 0)}.items():
                store.setdefault(condition, {})[seed] = Outcomes(values, task.test.ids, task.test.groups)
    differences = {}
    for condition, outcomes in after.items():
        one = paired_bootstrap(outcomes, before[condition], seed=0)
        differences[condition] = {
            "before": one.mean_to,
            "after": one.mean_of,
            "difference": one.difference,
            "ci95": list(one.ci95),
            "p_value": one.p_value,
        }
    document = {
        "schema": "concordant.plugin-results/1",
        "benchmark": BENCHMARK,
        "protocol": config.protocol,
        "fusion": config.fusion,
        "steps": STEPS,
        "batch": BATCH,
        "calibrator_parameters": parameters,
        "runs": runs,
        "differences": differences,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "hardware": hardware(),
        "command": f"python -m studies.plugin --seeds {arguments.seeds}",
    }
    root = Path(__file__).resolve().parents[1]
    write_json(root / "results" / "plugin.json", document)
    page = root / "docs" / "plugin.md"
    write_text(page, fill(page.read_text(encoding="utf-8"), table(document), start=START))
    return 0


def table(document: dict[str, Any]) -> str:
    """Return the text and the table of docs/plugin.md."""
    runs, where = document["runs"], document["hardware"]
    seconds = [run["seconds"] for run in runs]
    text = [
        f"`{document['benchmark']}`, {document['fusion']} fusion, trained plainly (no calibrator, no perturbations) on "
        f"four subjects and tested on four others; {len(runs)} seeds; made by `{document['command']}`, with torch "
        f"{document['versions']['torch']}. Fitted in {min(seconds):.0f} to {max(seconds):.0f} seconds each, on "
        f"{document['threads']} of {where['cores']} cores ({where['processor']}), {document['steps']} steps. "
        "Accuracy in percent; *mean* is over the four corruptions of one random modality of every instance; intervals "
        "and p-values from a paired bootstrap over seeds, subjects and instances.",
    ]
    rows = []
    for condition, one in document["differences"].items():
        low, high = (100 * bound for bound in one["ci95"])
        difference = f"{100 * one['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
        before, after = (f"{100 * one[key]:.1f}" for key in ("before", "after"))
        rows.append([condition, before, after, difference, f"{one['p_value']:.4f}"])
    head = ["condition", "the model", "with the plug-in", "difference (95 %)", "p"]
    return "\n".join([*text, "", markdown(Table("", "", head, rows))])


@torch.no_grad()
def right(model: torch.nn.Module, task: Task, seed: int) -> Right:
    """Return the correct predictions on the test split, clean and under each corruption."""
    test, found = in_memory(task.test), {}
    for shown in run_conditions(test, task.layouts, seed):
        condition = shown.name.removeprefix("corruption.")
        if condition not in (CLEAN, *RUN):
            continue
        part, _ = shown.change(test, None)
        guesses: list[Tensor] = []
        for (inputs, masks, present), _ in Batches(part, None):
            guesses.append(model(inputs, masks, present).logits.argmax(1))
        found[condition] = (torch.cat(guesses).numpy() == part.labels).astype(np.float64)
    return found


def in_memory(part: AnySplit) -> Split:
    """Return the part, which this benchmark has in memory.

    Raises:
        ConcordantError: it is read from files.
    """
    if not isinstance(part, Split):
        raise ConcordantError(f"{BENCHMARK} must be in memory; found {type(part).__name__}")
    return part


def means(found: Right) -> dict[str, float]:
    """Return the accuracies, and their mean over corruptions."""
    scores = {condition: float(values.mean()) for condition, values in found.items()}
    return {**scores, "mean": float(np.mean([scores[kind] for kind in RUN]))}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordantError as error:
        sys.exit(f"studies/plugin.py: {error}")
