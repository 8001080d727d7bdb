"""The callback that records training dynamics: gradients, conflict, updates, modulation, probes, validation.

Every `every`-th step is recorded, beginning with the first. Numbers stay on the device until the next evaluation:
no step waits for them. Training is equal bit for bit with it and without (see `concordant.training.loop.Callback`).
Shapes: features (R, ...) of R >= B rows, the first B clean; reliability (B, M); gates (B, D).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from concordant.data.split import LabelKind
from concordant.dynamics.gradients import Loss, cosine_table, modality_losses
from concordant.dynamics.probe import ROWS, evenly, probes
from concordant.dynamics.stability import loss_variance, sharpness, spikes
from concordant.errors import UsageError
from concordant.training.loop import Callback
from concordant.training.step import LOSSES

if TYPE_CHECKING:
    from concordant.training.batches import AnyTensors
    from concordant.training.model import MultimodalModel, Output

DEFAULT_EVERY = 25  # at which observing costs less than a tenth of training (benchmarks/dynamics_cost.py)
QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}
EVERY_STEP = ("loss", "task_loss")  # recorded at every step
_BATCH = 512
Log = Callable[[dict[str, float], int], None]


class Record(NamedTuple):
    """One number of a step: of a quantity, and of a modality, a pair or a component of the model ("" = the whole)."""

    step: int
    quantity: str
    of: str
    value: float  # NaN where there is none


class Records:
    """The numbers of one training, in the order of recording.

    Attributes:
        records: all numbers so far.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def series(self) -> list[dict[str, Any]]:
        """Return one entry per quantity and what it is of: "quantity", "of", "step", "value" (None = undefined)."""
        return as_series((one.step, one.quantity, one.of, one.value) for one in self.records)

    def stability(self) -> dict[str, Any]:
        """Return the variance of the loss after warm-up, and the number of its spikes.

        They are those of the task's loss where it is recorded, which alone is comparable between methods.
        """
        known = {record.quantity for record in self.records}
        wanted = "task_loss" if "task_loss" in known else "loss"
        losses = [record.value for record in self.records if record.quantity == wanted]
        return {"loss_variance": loss_variance(losses), "spikes": len(spikes(losses))}


def as_series(rows: Iterable[tuple[int, str, str, float | None]]) -> list[dict[str, Any]]:
    """Return rows (step, quantity, of, value) as one entry per quantity and of, in the order of their first steps."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for step, quantity, of, value in rows:
        entry = found.setdefault((quantity, of), {"quantity": quantity, "of": of, "step": [], "value": []})
        entry["step"].append(step)
        entry["value"].append(None if value is None or math.isnan(value) else value)
    return list(found.values())


class Recorder(Records, Callback):
    """Record the dynamics of one training run.

    Quantities: of every step the whole "loss", and "task_loss", that of the task on the clean copy alone, without the
    losses that a calibrator, a fusion or a method adds; of every `every`-th step "gradient_norm" of each modality's
    features as the fusion joins them (both copies), "conflict" of each pair "a|b" (cosine of the gradients of the
    fusion's weights), "update_ratio" of each component (norm of the step's change over the norm of the weights), and
    the quantiles
    "reliability_q10", "_q50", "_q90" and "gate_q10", ... over the clean instances with the modality; at evaluations
    "validation_loss", "validation_score" (accuracy; for real labels minus the mean absolute error; both on clean data,
    for all variants alike) and "probe" of each modality.

    Args:
        every: steps from one recorded step to the next.
        kind: of the labels.
        seed: of the directions of sharpness.
        log: called at evaluations with "quantity/of" -> value and the step; None = no log.

    Attributes:
        records: all numbers fetched so far.
        seconds: time spent on recording; for work that is queued on an accelerator, the time of queueing.

    Raises:
        UsageError: `every` below 1.
    """

    def __init__(
        self, *, every: int = DEFAULT_EVERY, kind: LabelKind = "class", seed: int = 0, log: Log | None = None
    ) -> None:
        super().__init__()
        check_every(every)
        self.every, self.kind, self.seed, self.log = every, kind, seed, log
        self.seconds = 0.0
        self._loss_of: Loss = LOSSES[kind]
        # Numbers on the device: step, keys (quantity, of), values (keys,).
        self._losses: list[tuple[int, Sequence[tuple[str, str]], Tensor]] = []
        self._pending: list[tuple[int, Sequence[tuple[str, str]], Tensor]] = []
        self._out: Output | None = None
        self._labels: Tensor | None = None
        self._weights: dict[str, list[Tensor]] = {}

    def wants(self, step: int) -> bool:
        """Return whether a step is one of every `every`, counted from the first."""
        return (step - 1) % self.every == 0

    def start(self, model: Any, train: AnyTensors, valid: AnyTensors) -> None:  # noqa: ANN401
        """Take the model and the data."""
        self._model, self._train, self._valid = model, train, valid

    def forward(self, step: int, out: Output, labels: Tensor) -> None:
        """Keep the task's loss; retain the gradients at the features."""
        with torch.no_grad():
            task = self._loss_of(out.logits[: len(labels)], labels)
        self._losses.append((step, [("task_loss", "")], task.reshape(1)))
        if not self.wants(step):
            return
        self._out, self._labels = out, labels
        for x in out.calibration.features.values():
            if x.requires_grad:
                x.retain_grad()

    def before_update(self, step: int) -> None:
        """Record gradients, conflict and modulation; keep the weights."""
        out, model = self._out, self._model
        if out is None or self._labels is None:
            return
        with self._at_work():
            rows = len(self._labels)
            self._record(step, _gradient_norms(out))
            learns = next(model.calibrator.parameters(), None) is not None
            reliable = getattr(model.calibrator, "has_reliability", True)
            self._record(step, modulation(out.calibration, rows, reliability=reliable, gates=learns))
            losses = modality_losses(model, out, self._labels, self._loss_of)
            table = cosine_table(losses, list(model.fusion.parameters()))
            upper = table[*torch.triu_indices(len(losses), len(losses), offset=1, device=table.device)]
            known = dict(zip(combinations(losses, 2), upper, strict=True))
            nothing = torch.full((), torch.nan, device=self._labels.device)
            pairs = combinations(out.calibration.names, 2)
            self._record(step, {("conflict", "|".join(pair)): known.get(pair, nothing) for pair in pairs})
            self._weights = {part: [p.detach().clone() for p in own] for part, own in parts_of(model).items()}
            self._out = self._labels = None  # the output holds the graph of the step

    def after_update(self, step: int, loss: Tensor) -> None:
        """Keep the loss, and record how far the weights have moved."""
        self._losses.append((step, [("loss", "")], loss.reshape(1)))
        if not self._weights:
            return
        with self._at_work():
            self._record(step, update_ratios(self._weights, parts_of(self._model)))
            self._weights = {}

    def evaluated(self, step: int, entry: dict[str, float]) -> None:
        """Record validation and probes, fetch the numbers from the device, and hand them to the log."""
        with self._at_work():
            loss, score = validate(self._model, self._valid, kind=self.kind)
            probed = probes(self._model, self._train, self._valid)
            self.fetch()
            self._keep([Record(step, "validation_loss", "", loss), Record(step, "validation_score", "", score)])
            self._keep([Record(step, "probe", name, math.nan if x is None else x) for name, x in probed.items()])

    def fetch(self) -> None:
        """Move the numbers on the device into `records`."""
        for pending in (self._losses, self._pending):
            # One copy from the device for all values.
            values = torch.cat([values for _, _, values in pending]).tolist() if pending else []
            keys = [(step, *key) for step, names, _ in pending for key in names]
            self._keep([Record(*key, value) for key, value in zip(keys, values, strict=True)])
            pending.clear()

    def finish(self, model: MultimodalModel, valid: AnyTensors) -> dict[str, float | None]:
        """Return the "final_score" of the selected state on clean data, and its "sharpness".

        Sharpness is the mean rise of the validation loss (of at most 512 instances) under random shifts of the weights.
        """
        with self._at_work():
            self.fetch()
            few = evenly(valid, ROWS)
            return {
                "final_score": validate(model, valid, kind=self.kind)[1],
                "sharpness": sharpness(model, lambda: validate(model, few, kind=self.kind)[0], seed=self.seed),
            }

    def _record(self, step: int, values: Mapping[tuple[str, str], Tensor]) -> None:
        if values:
            stacked = torch.stack([value.detach().float().reshape(()) for value in values.values()])
            self._pending.append((step, list(values), stacked))

    def _keep(self, records: Sequence[Record]) -> None:
        self.records += records
        if self.log is None:
            return
        by_step: dict[int, dict[str, float]] = {}
        for record in records:
            if record.value == record.value and (record.quantity not in EVERY_STEP or self.wants(record.step)):
                # TensorBoard's names have no "|".
                name = f"{record.quantity}/{record.of.replace('|', '-')}" if record.of else record.quantity
                by_step.setdefault(record.step, {})[name] = record.value
        for step, values in by_step.items():
            self.log(values, step)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Measure the time, and restore the global streams of random numbers."""
        start = time.perf_counter()
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            yield
        self.seconds += time.perf_counter() - start


def check_every(every: int) -> None:
    """Raise UsageError for a distance between recorded steps below 1."""
    if every < 1:
        raise UsageError(f"dynamics must be 1 or more, the steps from one that is observed to the next; found {every}")


def parts_of(model: MultimodalModel) -> dict[str, list[nn.Parameter]]:
    """Return "encoder.<modality>", "calibrator" and "fusion" -> trainable parameters, where there are any."""
    encoders = {f"encoder.{name}": encoder for name, encoder in model.encoders.items()}
    return trainable({**encoders, "calibrator": model.calibrator, "fusion": model.fusion})


def trainable(parts: Mapping[str, nn.Module]) -> dict[str, list[nn.Parameter]]:
    """Return component -> its trainable parameters; components without any are left out."""
    found = {name: [p for p in part.parameters() if p.requires_grad] for name, part in parts.items()}
    return {name: own for name, own in found.items() if own}


def validate(model: MultimodalModel, split: AnyTensors, *, kind: LabelKind) -> tuple[float, float]:
    """Return the task's loss and the score on a clean split: accuracy; for real labels minus the absolute error.

    The model is in evaluation mode.
    """
    loss, score = 0.0, 0.0
    with torch.no_grad():
        for batch in split.chunks(_BATCH):
            logits = model(batch.inputs, batch.masks, batch.present).logits.float()
            loss += float(LOSSES[kind](logits, batch.labels)) * len(batch)
            score += float((logits.argmax(1) == batch.labels).sum()) if kind == "class" else 0.0
    loss /= len(split)
    return loss, score / len(split) if kind == "class" else -loss


def _gradient_norms(out: Output) -> dict[tuple[str, str], Tensor]:
    """Return the norm of the loss's gradient at each modality's features, NaN if no instance has it."""
    found = {}
    for index, name in enumerate(out.calibration.names):
        here = out.calibration.present[:, index].any()
        x = out.calibration.features.get(name)
        norm = torch.full((), torch.nan, device=here.device)
        if x is not None and x.requires_grad and x.grad is not None:
            norm = torch.where(here, torch.linalg.vector_norm(x.grad.float()), norm)
        found["gradient_norm", name] = norm
    return found


def modulation(
    calibration: Any,  # noqa: ANN401 - a Calibration, or an object with its fields
    rows: int | None = None,
    *,
    reliability: bool = True,
    gates: bool = True,
) -> dict[tuple[str, str], Tensor]:
    """Return quantiles of reliability and gates over the instances that have the modality, NaN if there are none.

    Args:
        calibration: the output of a calibrator.
        rows: number of leading rows that count; None = all.
        reliability: whether the calibrator has reliabilities.
        gates: whether it learns gates.
    """
    found: dict[tuple[str, str], Tensor] = {}
    levels = torch.tensor(list(QUANTILES.values()), device=calibration.reliability.device)
    for index, name in enumerate(calibration.names):
        here = calibration.present[:rows, index]
        values = {}
        if reliability:
            values["reliability"] = torch.where(here, calibration.reliability[:rows, index].detach().float(), torch.nan)
        if gates:
            values["gate"] = torch.where(here[:, None], calibration.gates[name][:rows].detach().float(), torch.nan)
        for quantity, numbers in values.items():
            marks = torch.nanquantile(numbers.flatten(), levels)
            found |= {(f"{quantity}_{mark}", name): marks[number] for number, mark in enumerate(QUANTILES)}
    return found


def update_ratios(
    before: Mapping[str, Sequence[Tensor]], now: Mapping[str, Sequence[Tensor]]
) -> dict[tuple[str, str], Tensor]:
    """Return the norm of each component's change over the norm of its weights before; NaN for weights of 0."""
    found = {}
    for part, old in before.items():
        moved = [new.detach() - then for new, then in zip(now[part], old, strict=True)]
        size = _norm(old)
        found["update_ratio", part] = torch.where(size > 0, _norm(moved) / size, torch.nan)
    return found


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm([x.float() for x in tensors])
