"""Training of the published LF-DNN at CMU-MOSI's sizes against a plain PyTorch loop, and what a whole command takes.

`python -m benchmarks.training --json results/training.json --page docs/performance-training.md` takes some 25 minutes
on one quiet core; named sections alone are measured anew. Data are random, of 1284, 229 and 686 instances (text
50 x 768, audio 375 x 5, vision 500 x 20).

- "training": epochs of `concordant run` with validation, for the clean model (`none`), its twin trained with
  perturbations and `context`, as ratios to the same epochs of a loop written by hand: same network, batch, optimiser
  and validation. Both of a ratio take turns on one thread; seconds are the processor's.
- "steps": the share of each part of a training step of `context`, for fusions at these lengths.
- "command": the share of each part of `concordant run --calibrators none` in its processor seconds, the ratio of the
  whole to training (validation included), and the highest resident memory.
- "compiled": steps of models that `torch.compile` compiles, over those of the same models as they are.
- "memory": the highest memory of two runs, one at a time and side by side (Linux).
"""

from __future__ import annotations

import importlib
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from benchmarks import put, run
from benchmarks.store import MOSI
from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.split import Task
from concordant.data.store import Instance, Store
from concordant.data.stored import everything, load_if_it_fits
from concordant.data.writing import write_store
from concordant.files import read_json, write_json, write_text
from concordant.speed import table, training_step
from concordant.timing import interleaved, one_thread, ratios, spread
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.devices import Devices
from concordant.training.model import build_model
from concordant.training.train import train

SCHEMA = "concordant.training/1"
COUNTS = {"train": 1284, "valid": 229, "test": 686}
BATCH = 128
BF16 = "none, bf16-mixed"
# Fusion, preset and batch whose steps are looked into.
STEPS = (("lf-dnn", "published", 128), ("tfn", "medium", 32), ("mult", "small", 8))
# Those that are also compiled; `mult` takes minutes to compile.
COMPILED = STEPS[:2]
# What the ratios are held to.
BOUNDS = {"none": 1.1, "context": 1.25}
COMMAND_BOUND, MEMORY_BOUND = 1.25, 1.3
# Parts of a command: name -> module and function whose processor seconds are summed.
PARTS = {
    "data": ("concordant.study.work", "prepare_of"),
    "training": ("concordant.study.work", "train"),
    "validation": ("concordant.training.train", "validation_score"),
    "scoring": ("concordant.study.work", "evaluate"),
    "checks": ("concordant.study.experiment", "check_features"),
    "late fusion": ("concordant.study.work", "LateFusion"),
    "reference": ("concordant.study.work", "usual_answer"),
    "statistics": ("concordant.study.experiment", "collect"),
    "page": ("concordant.cli.run", "write_page"),
}


class PlainNetwork(nn.Module):
    """LF-DNN of MMSA as one would write it: an LSTM for text, dense sub-networks for the means of audio and vision."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.text = nn.LSTM(768, 128, batch_first=True), nn.Linear(128, 256)
        self.audio, self.vision = self._dense(5, 16), self._dense(20, 128)
        self.joined = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(400, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)
        )

    @staticmethod
    def _dense(inputs: int, size: int) -> nn.Sequential:
        first = [nn.BatchNorm1d(inputs), nn.Dropout(0.2), nn.Linear(inputs, size), nn.ReLU()]
        return nn.Sequential(*first, nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU())

    def forward(self, text: Tensor, audio: Tensor, vision: Tensor) -> Tensor:
        """Return numbers (B,) from (B, T, 768), (B, 5) and (B, 20)."""
        _, (state, _) = self.lstm(text)
        joined: Tensor = self.joined(torch.cat([self.audio(audio), self.vision(vision), self.text(state[0])], 1))
        return joined[:, 0]


def plain_loop(task: Task, epochs: int) -> None:
    """Train the plain network for some epochs with a validation after each."""
    torch.manual_seed(0)
    train_data, valid_data = (_plain(split) for split in (task.train, task.valid))
    network = PlainNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in range(epochs):
        network.train()
        for rows in torch.split(torch.randperm(len(task.train)), BATCH):
            if len(rows) == BATCH:
                *inputs, labels = (x[rows] for x in train_data)
                optimizer.zero_grad()
                loss = nn.functional.l1_loss(network(*inputs), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                loss.item()
        network.eval()
        with torch.no_grad():
            *inputs, labels = valid_data
            nn.functional.l1_loss(network(*inputs), labels).item()


def _plain(split: Any) -> list[Tensor]:  # noqa: ANN401 - a split in memory
    text, audio, vision = (torch.from_numpy(split.inputs[name]) for name in MOSI)
    return [text, audio.mean(1), vision.mean(1), torch.from_numpy(split.labels)]


def measure_training(folder: Path, *, epochs: int, turns: int) -> list[dict[str, Any]]:
    """Return one record per method: the ratio of its epochs to the plain loop's, and the seconds of a step."""
    task = load_if_it_fits(everything_of(folder))
    recipe = {"epochs": epochs, "evaluations": epochs}
    config = make_config("own", fusion="lf-dnn", preset="published", modalities=tuple(MOSI), recipe=recipe)
    actions: dict[str, Callable[[], object]] = {"plain loop": partial(plain_loop, task, epochs)}
    for label in ("none", "none+perturbed", "context"):
        actions[label] = partial(train, task, config, Variant.of(label), 0)
    actions[BF16] = partial(train, task, config, Variant.of("none"), 0, devices=Devices(precision="bf16-mixed"))
    steps = epochs * (len(task.train) // BATCH)
    bases = {"none": "plain loop", "none+perturbed": "plain loop", "context": "none+perturbed", BF16: "none"}
    found = []
    for label, base in bases.items():  # two at a time: the shorter the turns, the less the machine changes in between
        pair = {name: actions[name] for name in (base, label)}
        with one_thread():
            seconds = interleaved(pair, repetitions=turns, warm=1, clock=time.process_time)
        ratio = spread("ratio", ratios(seconds[label], seconds[base]))
        per_step = spread("seconds_per_step", [one / steps for one in seconds[label]])
        found.append({"method": label, "over": base, **ratio, **per_step})
    return found


def measure_compiled(folder: Path, *, turns: int, steps: int = 3) -> list[dict[str, Any]]:
    """Return one record per fusion and calibrator: steps of the model compiled as a whole over those of the same model.

    "saved_after": how many steps it takes until the seconds of compiling are saved; None = never.
    """
    torch.compiler.config.force_disable_caches = True  # of what earlier measurements compiled
    task = load_if_it_fits(everything_of(folder))
    found = []
    for fusion, preset, batch in COMPILED:
        config = make_config("own", fusion=fusion, preset=preset, modalities=tuple(MOSI))
        for label in ("none", "context"):
            actions: dict[str, Callable[[], object]] = {}
            start = 0.0
            for way in ("eager", "compiled"):
                model = build_model(task, config, Variant.of(label), 0)
                data = model.prepared(to_tensors(task.train.take(np.arange(batch))))
                if way == "compiled":
                    model.compile(dynamic=False)
                step = training_step(model, config.recipe, perturbed=label != "none", kind="real")
                start = time.perf_counter()
                for _ in range(2):  # a second step may compile again
                    step(data)
                actions[way] = partial(step, data)
            compiling = time.perf_counter() - start
            with one_thread():
                seconds = interleaved(actions, repetitions=turns, calls=steps, warm=1, clock=time.process_time)
            torch.compiler.reset()
            ratio = spread("ratio", ratios(seconds["compiled"], seconds["eager"]))
            saved = statistics.median(seconds["eager"]) * (1 - ratio["ratio"])
            about = {"fusion": fusion, "preset": preset, "batch": batch, "method": label}
            after = round(compiling / saved) if ratio["ratio_high"] < 1 else None
            found.append({**about, **ratio, "compile_seconds": round(compiling, 1), "saved_after": after})
    return found


def measure_steps(folder: Path, *, repetitions: int = 3) -> list[dict[str, Any]]:
    """Return one record per fusion: seconds of a training step, and the share of each part of it."""
    task = load_if_it_fits(everything_of(folder))
    models: Any = importlib.import_module("concordant.training.model")
    found = []
    for fusion, preset, batch in STEPS:
        config = make_config("own", fusion=fusion, preset=preset, modalities=tuple(MOSI))
        model = build_model(task, config, Variant.of("context"), 0)
        data = model.prepared(to_tensors(task.train.take(np.arange(batch))))
        spent: dict[str, float] = {}
        copies = models.copies_across
        for part, home, name in (
            *(("encoders", encoder, "forward") for encoder in model.encoders.values()),
            ("encoders", model.fusion, "encode"),
            ("perturbation", models, "copies_across"),
            ("calibrator", model.calibrator, "forward"),
            ("fusion", model.fusion, "join"),
            ("backward", Tensor, "backward"),
            ("optimiser", torch.optim.AdamW, "step"),
        ):
            _timed(spent, part, home, name)
        try:
            step = training_step(model, config.recipe, perturbed=True, kind="real")
            step(data)
            spent.clear()
            start = time.process_time()
            for _ in range(repetitions):
                step(data)
            whole = time.process_time() - start
        finally:
            models.copies_across = copies
            Tensor.backward, torch.optim.AdamW.step = BACKWARD, OPTIMISER  # type: ignore[method-assign]
        parts = {**spent, "rest": whole - sum(spent.values())}
        shares = {part: round(seconds / whole, 4) for part, seconds in parts.items()}
        how = {"fusion": fusion, "preset": preset, "batch": batch, "seconds": round(whole / repetitions, 4)}
        found.append({**how, "shares": shares})
    return found


BACKWARD, OPTIMISER = Tensor.backward, torch.optim.AdamW.step


def _timed(spent: dict[str, float], part: str, home: Any, name: str) -> None:  # noqa: ANN401
    """Replace a function by one that adds its processor seconds to those of a part."""
    call = getattr(home, name)

    def wrapped(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        start = time.process_time()
        try:
            return call(*args, **options)
        finally:
            spent[part] = spent.get(part, 0.0) + time.process_time() - start

    setattr(home, name, wrapped)


def write(folder: Path) -> None:
    """Write a store of random sequences with CMU-MOSI's sizes and splits, all of full length."""
    draws = np.random.default_rng(0)

    def instances() -> Iterator[Instance]:
        for part, count in COUNTS.items():
            for row in range(count):
                features = {name: draws.standard_normal(shape, dtype=np.float32) for name, shape in MOSI.items()}
                yield Instance(f"{part}{row}", part, float(draws.uniform(-3, 3)), features)

    modalities = {name: ModalityCard(layout="btd", shape=(None, shape[1])) for name, shape in MOSI.items()}
    card = Card(name="own", modalities=modalities, label=LabelCard(kind="real"), splits=tuple(COUNTS))
    write_store(folder, card, instances())


def everything_of(folder: Path) -> Task:
    """Return the splits of the store."""
    from concordant.benchmarks.prepared import split

    return split(everything(Store(folder)), 0, "given")


def measure_command(folder: Path, *, seeds: int, epochs: int) -> dict[str, Any]:
    """Return what the parts of a command take, measured in a process of its own."""
    words = ["run", str(folder), "--fusion", "lf-dnn", "--preset", "published", "--calibrators", "none", "--jobs", "1"]
    words += ["--seeds", str(seeds), "--epochs", str(epochs), "--out", str(folder.parent / "run")]
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    process = context.Process(target=_command, args=(queue, words))
    process.start()
    found: dict[str, Any] = queue.get()
    process.join()
    return {"seeds": seeds, "epochs": epochs, **found}


def measure_memory(folder: Path, *, epochs: int) -> dict[str, float]:
    """Return the highest memory, in GiB, of a command that trains one run at a time, and of one that trains two.

    Pages that processes share count once (`Pss` of Linux); elsewhere nothing is returned.
    """
    found = {}
    for jobs, name in enumerate(("one_at_a_time", "two_at_a_time"), 1):
        words = ["run", str(folder), "--fusion", "lf-dnn", "--preset", "published", "--calibrators", "none"]
        words += ["--no-alone", "--seeds", "2", "--epochs", str(epochs), "--jobs", str(jobs)]
        words += ["--out", str(folder.parent / name)]
        process = subprocess.Popen([sys.executable, "-m", "concordant", *words], stdout=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_pss, _family(process.pid))))
            time.sleep(0.1)
        if not peak or process.returncode:
            return {}
        found[name] = round(peak / 2**20, 2)
    return found


def _family(parent: int) -> list[int]:
    """Return a process and all that it started, by number."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        below = [int(one) for one in children.read_text().split()]
    except OSError:
        below = []
    return [parent, *(one for child in below for one in _family(child))]


def _pss(process: int) -> int:
    """Return the memory of a process in KiB; what n processes share counts as a share of 1 / n."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended, or this is not Linux
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _command(queue: Any, words: list[str]) -> None:  # noqa: ANN401
    from typer.testing import CliRunner

    from concordant.cli.main import app

    torch.set_num_threads(1)
    spent = dict.fromkeys(PARTS, 0.0)
    for part, (module, name) in PARTS.items():
        _timed(spent, part, importlib.import_module(module), name)
    done = CliRunner().invoke(app, words)
    if done.exit_code:
        queue.put({"error": f"{done.output}{done.exception!r}"})
        return
    whole = time.process_time()  # of the process, the start of Python and the imports included
    training = spent["training"]
    shares = {
        **spent,
        "training": training - spent["validation"],
        "rest": whole - sum(spent.values()) + spent["validation"],
    }
    unit = 1 if sys.platform == "darwin" else 1024
    queue.put(
        {
            "seconds": round(whole, 2),
            "over_training": round(whole / training, 3),
            "shares": {part: round(seconds / whole, 4) for part, seconds in shares.items()},
            "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2),
        }
    )


def page(document: Mapping[str, Any]) -> str:
    """Return a document as Markdown."""
    command, memory, hardware = document["command"], document["memory"], document["hardware"]
    training = []
    for one in document["training"]:
        ratio = f"{one['ratio']:.2f} ({one['ratio_low']:.2f} to {one['ratio_high']:.2f})"
        most = BOUNDS.get(one["method"])
        bound = "" if most is None else f"at most {most:g}, {'kept' if one['ratio'] <= most else 'missed'}"
        training.append([f"`{one['method']}`", f"`{one['over']}`", ratio, bound])
    parts = list(dict.fromkeys(part for one in document["steps"] for part in one["shares"]))
    steps = [
        [f"`{one['fusion']}`", one["preset"], str(one["batch"]), *(f"{one['shares'].get(p, 0):.0%}" for p in parts)]
        for one in document["steps"]
    ]
    shares = [[part, f"{share:.1%}"] for part, share in command["shares"].items()]
    compiled = []
    for one in document["compiled"]:
        ratio = f"{one['ratio']:.2f} ({one['ratio_low']:.2f} to {one['ratio_high']:.2f})"
        after = "never" if one["saved_after"] is None else f"{one['saved_after']:,} steps"
        model = [f"`{one['fusion']}`", one["preset"], str(one["batch"]), f"`{one['method']}`"]
        compiled.append([*model, ratio, f"{one['compile_seconds']:.0f}", after])
    side_by_side = ""
    if memory:
        side_by_side = (
            f"Two seeds trained one after another in one process take {memory['one_at_a_time']:.2f} GiB at the most, "
            f"and side by side in two processes (`--jobs 2`) {memory['two_at_a_time']:.2f}, pages that they share "
            "counted once: on Linux the data are held once for all processes, where every seed has the same splits.\n"
        )
    whole = f"{command['over_training']:.2f} times its training with validation"
    return f"""# Cost of training

Made by `python -m benchmarks.training --json results/training.json --page docs/performance-training.md`: ratios of
processor seconds on one thread, of things that took turns, medians and quartiles. Here: {hardware["processor"]},
{hardware["cores"]} cores.

## Against a plain loop

LF-DNN [as published](compare.md#which-follows-what) at CMU-MOSI's sizes, in batches of 128 with a validation per epoch,
over the same network, batches and optimiser in a loop of plain PyTorch; `context` over the twin trained with the same
perturbations. `--precision bf16-mixed` pays on processors with instructions for it; results then differ in more than
the last digits.

{table(["training", "over", "ratio", "held to"], training, words=2)}
## A step of `context`

Shares of its processor seconds. Sub-networks of a fusion are among the encoders.

{table(["fusion", "preset", "batch", *parts], steps, words=2)}
## Compiled steps

Training steps of models that `torch.compile` compiles as a whole, over steps of the same models as they are, and the
seconds that compiling takes. `mult`, which takes minutes to compile, is left out. *saved after*: the steps after which
the faster ones have paid for compiling. `run` has no option for it, because these models gain nothing. In a loop of
your own, [try it](performance.md#compile-where-the-cost-matters).

{table(["fusion", "preset", "batch", "method", "over eager", "seconds of compiling", "saved after"], compiled, words=2)}
## A whole command

`concordant run --preset published --calibrators none` with its baselines, {command["seeds"]} seeds of at most
{command["epochs"]} epochs: {whole} (held to {COMMAND_BOUND:g} with five seeds), and
{command["peak_gib"]:.2f} GiB of memory at the most (held to {MEMORY_BOUND:g}), of which the data are 0.41 and the
imports of PyTorch and scikit-learn 0.5. What is computed without weights, such as means over time, is computed
once; scoring re-encodes only the modalities that a corruption changes.

{table(["part", "share"], shares)}
{side_by_side}"""


def main(
    sections: Annotated[list[str] | None, typer.Argument(metavar="[SECTION]...", help="Some; default: all.")] = None,
    epochs: int = 2,
    turns: int = 9,
    seeds: int = 5,
    command_epochs: int = 20,
    json_to: Annotated[Path | None, typer.Option("--json", help="Write the document here, and keep the rest.")] = None,
    page_to: Annotated[Path | None, typer.Option("--page", help="Write a page of Markdown here.")] = None,
) -> None:
    """Measure, print, and write what is asked for; other sections of the document are kept."""
    known = read_json(json_to) if json_to is not None and json_to.is_file() else {}
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "store"
        write(folder)
        measures: dict[str, Callable[[], Any]] = {
            "command": partial(measure_command, folder, seeds=seeds, epochs=command_epochs),
            "training": partial(measure_training, folder, epochs=epochs, turns=turns),
            "steps": partial(measure_steps, folder),
            "compiled": partial(measure_compiled, folder, turns=turns),
            "memory": partial(measure_memory, folder, epochs=2),
        }
        unknown = [name for name in sections or () if name not in measures]
        if unknown:
            raise typer.BadParameter(f"unknown section {unknown[0]!r}; choose from: {', '.join(measures)}")
        kept = {name: known[name] for name in measures if sections and name not in sections and name in known}
        found = {name: kept[name] if name in kept else measure() for name, measure in measures.items()}
    document = put({"schema": SCHEMA, **found})
    if json_to is not None:
        write_json(json_to, document)
    if page_to is not None:
        write_text(page_to, page(document))


if __name__ == "__main__":
    run(main, __doc__)
