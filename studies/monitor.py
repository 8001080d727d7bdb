"""Make results/monitor.json and results/MONITOR.md: `python -m studies.monitor [--streams 200] [--data DIR]`.

One calibrated model per benchmark is trained as by `concordant run` (seed 0). The evidence of every test instance,
clean and with each fault of each modality, is computed once, and streams are drawn from it. For every stream the test
instances are shuffled: the monitor learns from the first half, the rest is the stream. The two are therefore
exchangeable, and no instance occurs twice. A fault begins with instance 51 and stays.
Axis letters: N test instances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from concordant import seeding
from concordant.benchmarks.catalogue import prepare
from concordant.data.split import Split, Task
from concordant.files import read_json, write_atomically, write_json, write_text
from concordant.monitor import Alarm
from concordant.monitor.batches import joined
from concordant.monitor.evidence import Evidence
from concordant.monitor.monitor import Monitor
from concordant.monitor.sequential import threshold
from concordant.monitor.watch import Watch
from concordant.report.record import Table, markdown
from concordant.training.config import Config, Variant, make_config
from concordant.training.model import MultimodalModel, build_model
from concordant.training.provenance import hardware, versions
from concordant.training.runs import load_weights
from concordant.training.train import train
from studies import common
from studies.common import RESULTS, RUNS

Rows = NDArray[np.int64]
BENCHMARKS = ("utd-mhad", "av-digits")
KINDS = ("died", "frozen", "swapped", "drifted")
BEFORE = 50  # clean instances of a stream with a fault
RATE = 1e-4
SETTINGS = (("run-length", 1e-4), ("run-length", 1e-3), ("run-length", 1e-2), ("ever", 0.05))
STRENGTHS = np.arange(0.25, 2.01, 0.25)  # of the drift, in standard deviations of each feature
PACE = 10  # instances for which the drift stays at one strength
VARIANTS = 8  # draws of donors, and of the instances at which a sensor freezes


def main(streams: int = 200, data: common.Data = None) -> None:
    """Train, simulate, and write numbers and page."""
    torch.set_num_threads(1)
    document: dict[str, Any] = {
        "schema": "concordant.monitor-results/1",
        "streams": streams,
        "rate": RATE,
        "before": BEFORE,
        "benchmarks": {name: measure(name, streams, data) for name in BENCHMARKS},
        "versions": versions(),
        "hardware": hardware(),
        "command": f"python -m studies.monitor --streams {streams}",
    }
    write_json(RESULTS / "monitor.json", document)
    write_text(RESULTS / "MONITOR.md", page(read_json(RESULTS / "monitor.json")))


def measure(name: str, streams: int, data: str | None) -> dict[str, Any]:
    """Return the numbers of one benchmark."""
    print(f"{name}: training", flush=True)
    task = prepare(name, seed=0, data=data)
    model = trained(task, make_config(name, seeds=1), RUNS / "results" / "monitor" / f"{name}.safetensors")
    (test,), (valid,) = task.test.chunks(), task.valid.chunks()
    monitor = Monitor(model, layouts=task.layouts)
    print(f"{name}: evidence of {len(test)} instances", flush=True)
    clean, other = (joined(list(monitor.evidence(split))) for split in (test, valid))
    faults = {(kind, modality): fault(monitor, test, kind, modality) for modality in clean.names for kind in KINDS}
    print(f"{name}: streams", flush=True)
    return {
        "modalities": list(clean.names),
        "learnt_from": len(clean) // 2,
        "length": len(clean) - len(clean) // 2,
        "clean": [false_alarms(clean, None, guarantee, rate, streams) for guarantee, rate in SETTINGS],
        "other_subjects": false_alarms(clean, other, "run-length", RATE, streams),
        "faults": [delays(clean, found, *which, streams) for which, found in faults.items()],
    }


def trained(task: Task, config: Config, path: Path) -> MultimodalModel:
    """Return the trained model, from earlier weights where there are any."""
    variant = Variant("context", True)
    if not path.exists():
        weights = train(task, config, variant, 0).model.state_dict()
        write_atomically(path, lambda temporary: save_file(weights, temporary))
    model = build_model(task, config, variant, 0)
    load_weights(model, path)
    return model.eval()


def fault(monitor: Monitor, split: Split, kind: str, modality: str) -> list[Evidence]:
    """Return the evidence of all instances under a fault, once for each variant or strength of it."""
    draws = np.random.default_rng(seeding.derive_seed(0, "monitor", kind, modality))
    x = split.inputs[modality]
    if kind == "died":
        changed = [np.zeros_like(x)]
    elif kind == "frozen":
        changed = [np.broadcast_to(x[row], x.shape).copy() for row in draws.permutation(len(x))[:VARIANTS]]
    elif kind == "swapped":
        changed = [x[draws.permutation(len(x))] for _ in range(VARIANTS)]
    else:  # drifted: noise by the deviation of each feature of a vector or sequence, of a map by that of all values
        deviation = x.std() if x.ndim > 3 else x.std(axis=tuple(range(x.ndim - 1)))
        noise = draws.standard_normal(x.shape, dtype=np.float32) * deviation
        changed = [x + np.float32(strength) * noise for strength in STRENGTHS]
    parts = (split.with_inputs({**split.inputs, modality: values}) for values in changed)
    return [joined(list(monitor.evidence(part))) for part in parts]


def shuffled(clean: Evidence, stream: int, *what: str) -> tuple[Rows, Rows, np.random.Generator]:
    """Return the rows to learn from, those of the stream, and the source of the monitor's draws.

    Every row of a table has its own shuffles, so that its counts do not depend on those of the others.
    """
    draws = np.random.default_rng(seeding.derive_seed(stream, "monitor", "stream", *what))
    order = draws.permutation(len(clean))
    return order[: len(clean) // 2], order[len(clean) // 2 :], draws


def false_alarms(clean: Evidence, learnt: Evidence | None, guarantee: str, rate: float, streams: int) -> dict[str, Any]:
    """Return how many clean streams raise an alarm, and what the guarantee allows on average."""
    length, first = len(clean) - len(clean) // 2, []
    what = "clean" if learnt is None else "other subjects"
    for stream in range(streams):
        known, rest, draws = shuffled(clean, stream, what, guarantee, str(rate))
        reference = clean.take(known) if learnt is None else learnt.take(draws.permutation(len(learnt)))
        alarm = first_alarm(Watch(reference, rate=rate, guarantee=guarantee, draws=draws), clean.take(rest))
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
    alarms: list[Alarm] = []
    for stream in range(streams):
        known, rest, draws = shuffled(clean, stream, kind, modality)
        chosen = faulty[int(draws.integers(len(faulty)))]
        parts = [clean.take(rest[:BEFORE])]
        if kind == "drifted":  # through all strengths; the last one stays
            for step, start in enumerate(range(BEFORE, len(rest), PACE)):
                parts.append(faulty[min(step, len(faulty) - 1)].take(rest[start : start + PACE]))
        else:
            parts.append(chosen.take(rest[BEFORE:]))
        watch = Watch(clean.take(known), rate=RATE, guarantee="run-length", draws=draws)
        alarm = first_alarm(watch, joined(parts))
        alarms += [] if alarm is None else [alarm]
    seen = [alarm for alarm in alarms if alarm.number > BEFORE]
    found = [alarm.number - BEFORE for alarm in seen]
    quantiles = np.quantile(found, [0.5, 0.9]).tolist() if found else [None, None]
    row = {
        "kind": kind,
        "modality": modality,
        "streams": streams,
        "seen": len(seen),
        "early": len(alarms) - len(seen),
        "median_delay": quantiles[0],
        "ninth_decile_delay": quantiles[1],
        "mean_delay": float(np.mean(found)) if found else None,
        "right_modality": sum(alarm.modality == modality for alarm in seen),
        "right_kind": sum((alarm.modality, alarm.kind) == (modality, kind) for alarm in seen),
        "kinds": dict(Counter(alarm.kind for alarm in seen)),
    }
    print(row, flush=True)
    return row


def first_alarm(watch: Watch, evidence: Evidence) -> Alarm | None:
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
        rows = [
            (f"{one['learnt_from']} clean test instances", row, f"{100 * row['allowed']:.1f} %") for row in one["clean"]
        ]
        rows.append(("the validation part (other subjects)", one["other_subjects"], "not exchangeable"))
        for learnt, row, allowed in rows:
            share = 100 * row["alarms"] / row["streams"]
            alarms = f"{row['alarms']} of {row['streams']} ({share:.1f} %)"
            length = f"{row['mean_run_length_at_least']:.0f} or more"
            setting = (name, learnt, row["guarantee"], f"{row['rate']:g}", str(row["instances"]))
            clean_rows.append([*setting, alarms, allowed, length])
        for row in one["faults"]:
            seen = max(row["seen"], 1)
            delay = (row[key] for key in ("median_delay", "ninth_decile_delay"))
            fault_rows.append(
                [
                    *(name, row["modality"], row["kind"], f"{row['seen']} of {row['streams']}", str(row["early"])),
                    *("-" if value is None else f"{value:.0f}" for value in delay),
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
        *(line.rstrip() for line in common.remark_of(document)),
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
        f"{common.made_line(document)}\n",
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.monitor")
