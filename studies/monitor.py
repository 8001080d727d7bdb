"""Makes results/monitor.json and results/MONITOR.md: `python -m studies.monitor [--streams 200] [--data DIR]`.

One calibrated model per benchmark is trained as by `concordant run` (seed 0). The evidence of every test instance,
clean and with each fault of each modality, is computed once; the streams are drawn from these numbers. For every stream
the test instances are shuffled: the monitor learns from the first half, the rest is the stream. The two are therefore
exchangeable, and no instance comes twice. A fault begins with instance 51 and stays.
Axis letters: N test instances.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from concordant import seeding
from concordant.benchmarks.catalogue import prepare
from concordant.data.split import Floats, Split, Task
from concordant.errors import ConcordantError
from concordant.files import read_json, write_atomically, write_json, write_text
from concordant.monitor import Alarm
from concordant.monitor.batches import joined
from concordant.monitor.evidence import Evidence
from concordant.monitor.monitor import Monitor
from concordant.monitor.sequential import threshold
from concordant.monitor.watch import Watch
from concordant.report.format import pairs_text
from concordant.report.record import Table, markdown
from concordant.training.config import Config, Variant, make_config
from concordant.training.model import MultimodalModel, build_model
from concordant.training.provenance import hardware, versions
from concordant.training.runs import load_weights
from concordant.training.train import train

Rows = NDArray[np.int64]
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
BENCHMARKS = ("utd-mhad", "av-digits")
KINDS = ("died", "frozen", "swapped", "drifted")
BEFORE = 50  # clean instances of a stream with a fault
RATE = 1e-4
SETTINGS = (("run-length", 1e-4), ("run-length", 1e-3), ("run-length", 1e-2), ("ever", 0.05))
STRENGTHS = np.arange(0.25, 2.01, 0.25)  # of the drift, in standard deviations of each feature
PACE = 10  # instances for which the drift stays at one strength
VARIANTS = 8  # draws of donors, and of the instances at which a sensor freezes


def main() -> int:
    """Train, simulate, and write numbers and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    document: dict[str, Any] = {
        "schema": "concordant.monitor-results/1",
        "streams": arguments.streams,
        "rate": RATE,
        "before": BEFORE,
        "benchmarks": {name: measure(name, arguments.streams, arguments.data) for name in BENCHMARKS},
        "versions": versions(),
        "hardware": hardware(),
        "command": f"python -m studies.monitor --streams {arguments.streams}",
    }
    write_json(RESULTS / "monitor.json", document)
    write_text(RESULTS / "MONITOR.md", page(read_json(RESULTS / "monitor.json")))
    return 0


def measure(name: str, streams: int, data: str | None) -> dict[str, Any]:
    """Return the numbers of one benchmark."""
    print(f"{name}: training", flush=True)
    config = make_config(name, seeds=1)
    task = prepare(name, seed=0, data=data)
    model = trained(task, config, ROOT / "runs" / "results" / "monitor" / f"{name}.safetensors")
    (test,) = task.test.chunks()
    (valid,) = task.valid.chunks()
    monitor = Monitor(model, layouts=task.layouts)
    print(f"{name}: evidence of {len(test)} instances", flush=True)
    clean, other = ask(monitor, test), ask(monitor, valid)
    faults = {(kind, modality): fault(monitor, test, kind, modality) for modality in clean.names for kind in KINDS}
    print(f"{name}: streams", flush=True)
    length = len(clean) - len(clean) // 2
    found: dict[str, Any] = {
        "modalities": list(clean.names),
        "learnt_from": len(clean) // 2,
        "length": length,
        "clean": [false_alarms(clean, None, guarantee, rate, streams) for guarantee, rate in SETTINGS],
        "other_subjects": false_alarms(clean, other, "run-length", RATE, streams),
        "faults": [],
    }
    for (kind, modality), evidence in faults.items():
        found["faults"].append(delays(clean, evidence, kind, modality, streams))
        print(found["faults"][-1], flush=True)
    return found


def trained(task: Task, config: Config, path: Path) -> MultimodalModel:
    """Return the trained model, from earlier weights where there are any."""
    variant = Variant("context", True)
    if not path.exists():
        weights = train(task, config, variant, 0).model.state_dict()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: save_file(weights, temporary))
    model = build_model(task, config, variant, 0)
    load_weights(model, path)
    return model.eval()


def ask(monitor: Monitor, part: Split) -> Evidence:
    """Return the evidence of a part's instances."""
    return joined(list(monitor.evidence(part)))


def fault(monitor: Monitor, part: Split, kind: str, modality: str) -> list[Evidence]:
    """Return the evidence of all instances under a fault, once for each variant or strength of it."""
    draws = np.random.default_rng(seeding.derive_seed(0, "monitor", kind, modality))
    x = part.inputs[modality]
    if kind == "died":
        changed = [np.zeros_like(x)]
    elif kind == "frozen":
        changed = [np.broadcast_to(x[row], x.shape).copy() for row in draws.permutation(len(x))[:VARIANTS]]
    elif kind == "swapped":
        changed = [x[draws.permutation(len(x))] for _ in range(VARIANTS)]
    else:
        noise = draws.standard_normal(x.shape, dtype=np.float32) * spread(x)
        changed = [x + np.float32(strength) * noise for strength in STRENGTHS]
    return [ask(monitor, part.with_inputs({**part.inputs, modality: values})) for values in changed]


def spread(x: Floats) -> Any:  # noqa: ANN401 - broadcasts over x
    """Return the standard deviation over everything but the last axis of a sequence; of a map over everything."""
    return x.std() if x.ndim > 3 else x.std(axis=tuple(range(x.ndim - 1)))


def shuffled(
    clean: Evidence, stream: int, *what: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], np.random.Generator]:
    """Return the rows to learn from, those of the stream, and the source of the monitor's draws.

    Every row of a table has its own shuffles: its counts do not depend on those of the others.
    """
    draws = np.random.default_rng(seeding.derive_seed(stream, "monitor", "stream", *what))
    order = draws.permutation(len(clean))
    return order[: len(clean) // 2], order[len(clean) // 2 :], draws


def false_alarms(clean: Evidence, learnt: Evidence | None, guarantee: str, rate: float, streams: int) -> dict[str, Any]:
    """Return how many clean streams raise an alarm, and what the guarantee allows on average."""
    length, first = len(clean) - len(clean) // 2, []
    for stream in range(streams):
        what = "clean" if learnt is None else "other subjects"
        known_rows, rest, draws = shuffled(clean, stream, what, guarantee, str(rate))
        known = clean.take(known_rows) if learnt is None else learnt.take(draws.permutation(len(learnt)))
        alarm = run(Watch(known, rate=rate, guarantee=guarantee, draws=draws), clean.take(rest))
        first.append(length + 1 if alarm is None else alarm.number)
    return {
        "guarantee": guarantee,
        "rate": rate,
        "alarms": sum(number <= length for number in first),
        "mean_run_length_at_least": float(np.mean(first)),  # streams without an alarm count as ended
        "streams": streams,
        "instances": length,
        "allowed": rate if guarantee == "ever" else min(1.0, length * rate / 2),
        "threshold": threshold(rate, guarantee, 4 * len(clean.names)),
    }


def delays(clean: Evidence, faulty: Sequence[Evidence], kind: str, modality: str, streams: int) -> dict[str, Any]:
    """Return the delay of the alarm after a fault of a modality, and how often modality and kind are identified."""
    found, early, right, named = [], 0, 0, 0
    kinds: dict[str, int] = {}
    for stream in range(streams):
        first, rest, draws = shuffled(clean, stream, kind, modality)
        parts = [clean.take(rest[:BEFORE])]
        chosen = int(draws.integers(len(faulty)))
        if kind == "drifted":
            for start in range(BEFORE, len(rest), PACE):
                level = min((start - BEFORE) // PACE, len(faulty) - 1)
                parts.append(faulty[level].take(rest[start : start + PACE]))
        else:
            parts.append(faulty[chosen].take(rest[BEFORE:]))
        watch = Watch(clean.take(first), rate=RATE, guarantee="run-length", draws=draws)
        alarm = run(watch, joined(parts))
        if alarm is None:
            continue
        if alarm.number <= BEFORE:
            early += 1
            continue
        found.append(alarm.number - BEFORE)
        right += alarm.modality == modality
        named += alarm.modality == modality and alarm.kind == kind
        kinds[alarm.kind] = kinds.get(alarm.kind, 0) + 1
    quantiles = np.quantile(found, [0.5, 0.9]).tolist() if found else [None, None]
    return {
        "kind": kind,
        "modality": modality,
        "streams": streams,
        "seen": len(found),
        "early": early,
        "median_delay": quantiles[0],
        "ninth_decile_delay": quantiles[1],
        "mean_delay": float(np.mean(found)) if found else None,
        "right_modality": right,
        "right_kind": named,
        "kinds": kinds,
    }


def run(watch: Watch, evidence: Evidence) -> Alarm | None:
    """Return the first alarm of a stream."""
    for row in range(len(evidence)):
        alarms = watch.step(evidence.take(slice(row, row + 1)))
        if alarms:
            return alarms[0]
    return None


def page(document: dict[str, Any]) -> str:
    """Return the tables."""
    clean_rows: list[list[str]] = []
    fault_rows: list[list[str]] = []
    for name, one in document["benchmarks"].items():
        rows = [(f"{one['learnt_from']} clean test instances", row, True) for row in one["clean"]]
        rows.append(("the validation part (other subjects)", one["other_subjects"], False))
        for learnt, row, holds in rows:
            share = 100 * row["alarms"] / row["streams"]
            clean_rows.append(
                [
                    *(name, learnt, row["guarantee"], f"{row['rate']:g}", str(row["instances"])),
                    f"{row['alarms']} of {row['streams']} ({share:.1f} %)",
                    f"{100 * row['allowed']:.1f} %" if holds else "not exchangeable",
                    f"{row['mean_run_length_at_least']:.0f} or more",
                ]
            )
        for row in one["faults"]:
            seen = max(row["seen"], 1)
            fault_rows.append(
                [
                    *(name, row["modality"], row["kind"], f"{row['seen']} of {row['streams']}", str(row["early"])),
                    *("-" if row[key] is None else f"{row[key]:.0f}" for key in ("median_delay", "ninth_decile_delay")),
                    *(f"{100 * row[key] / seen:.0f} %" for key in ("right_modality", "right_kind")),
                ]
            )
    clean_head = ["benchmark", "learnt from", "guarantee", "rate", "instances a stream", "streams with an alarm"]
    fault_head = ["benchmark", "sensor", "fault", "seen", "early", "median delay", "90 % within"]
    parts = [
        "# Monitor",
        f"Made by `{document['command']}`; the numbers are those of [monitor.json](monitor.json). For each of "
        f"{document['streams']} streams the test instances are shuffled, the monitor learns from the first half, and "
        "the rest is the stream.",
        *([f"**{document['remark']}**"] if "remark" in document else []),
        "## False alarms on clean streams",
        "Share of the clean streams in which any alarm is raised, and the largest chance that the guarantee allows. "
        "The mean run length counts a stream without an alarm as one that raises it right after its end, and so is too "
        "small; run-length guarantees 1 / rate or more.",
        markdown(Table("", "", [*clean_head, "allowed", "mean run length"], clean_rows, left=3)).rstrip(),
        f"## Faults, at rate {document['rate']:g} (run-length)",
        f"The fault comes after {document['before']} clean instances; a delay of 1 is an alarm at the first bad "
        "instance. Early: an alarm before the fault. Right sensor, right kind: of the streams in which it was seen. A "
        "drift is noise that grows by a quarter of a standard deviation every ten instances, up to two; a swapped "
        "sensor delivers what belongs to another instance, a dead one zeros. With two sensors "
        "which of them was swapped is a guess: they disagree with each other, and no third one is there.",
        markdown(Table("", "", [*fault_head, "right sensor", "right kind"], fault_rows, left=3)).rstrip(),
        f"Versions: {pairs_text(document['versions'], ' ')}. Hardware: {pairs_text(document['hardware'])}.\n",
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordantError as error:
        sys.exit(f"studies/monitor.py: {error}")
