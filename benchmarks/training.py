"""Training of the published LF-DNN at CMU-MOSI's sizes against a plain PyTorch loop, and what a whole command takes.

`python -m benchmarks.training [--epochs N] [--turns N] [--seeds N]` prints JSON. Data are random, of 1284, 229 and 686
instances (text 50 x 768, audio 375 x 5, vision 500 x 20).

- "training": epochs of `concordant run` with validation, for the clean model (`none`), its twin trained with
  perturbations and `context`, as ratios to the same epochs of a loop written by hand: same network, batch, optimiser
  and validation. All take turns on one thread; seconds are the processor's.
- "command": the share of each part of `concordant run --calibrators none` in its processor seconds, the ratio of the
  whole to training (validation included), and the highest resident memory.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import put, run
from benchmarks.store import MOSI
from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.split import Task
from concordant.data.store import Instance, Store
from concordant.data.stored import everything, load_if_it_fits
from concordant.data.writing import write_store
from concordant.speed import interleaved, one_thread, ratios, spread
from concordant.training.config import Variant, make_config
from concordant.training.train import train

SCHEMA = "concordant.training/1"
COUNTS = {"train": 1284, "valid": 229, "test": 686}
BATCH = 128
# Parts of a command: name -> the functions whose processor seconds are summed, and what they are called by.
PARTS = {
    "data": ("concordant.study.experiment", "prepare_of"),
    "training": ("concordant.study.experiment", "train"),
    "validation": ("concordant.training.train", "validation_score"),
    "scoring": ("concordant.study.experiment", "evaluate"),
    "reference": ("concordant.study.experiment", "usual_answer"),
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
    with one_thread():
        seconds = interleaved(actions, repetitions=turns, warm=1, clock=time.process_time)
    steps = epochs * (len(task.train) // BATCH)
    bases = {"none": "plain loop", "none+perturbed": "plain loop", "context": "none+perturbed"}
    return [
        {
            "method": label,
            "over": base,
            **spread("ratio", ratios(seconds[label], seconds[base])),
            **spread("seconds_per_step", [one / steps for one in seconds[label]]),
        }
        for label, base in {"plain loop": "plain loop", **bases}.items()
    ]


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


def _command(queue: Any, words: list[str]) -> None:  # noqa: ANN401
    import importlib

    from typer.testing import CliRunner

    from concordant.cli.main import app

    torch.set_num_threads(1)
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            start = time.process_time()
            try:
                return call(*args, **options)
            finally:
                spent[part] += time.process_time() - start

        return wrapped

    for part, (module, name) in PARTS.items():
        home = importlib.import_module(module)
        setattr(home, name, timed(part, getattr(home, name)))
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


def main(epochs: int = 1, turns: int = 5, seeds: int = 2, command_epochs: int = 10) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "store"
        write(folder)
        command = measure_command(folder, seeds=seeds, epochs=command_epochs)
        training = measure_training(folder, epochs=epochs, turns=turns)
    put({"schema": SCHEMA, "training": training, "command": command})


if __name__ == "__main__":
    run(main, __doc__)
