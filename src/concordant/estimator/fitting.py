"""The training loop of the estimators: the recipe of `concordant run`, with weights and without files.

The encoders run once a batch; the features go on twice, untouched and perturbed, and the loss is the mean over both.
Of the states that are looked at on held-out instances the latest within one standard error of the best is kept.
Shapes: outputs (B, C), or (B, 1) of a regression; weights (N,).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from concordant import seeding
from concordant.calibration import Perturbation, repeat_targets
from concordant.data.split import Floats, Split
from concordant.encoders import build_encoder
from concordant.errors import ConcordantError
from concordant.estimator.inputs import Form
from concordant.fusion import FUSIONS, FeatureSpec
from concordant.modalities import LAYOUTS
from concordant.rivals import CALIBRATORS
from concordant.training.batches import Tensors, endless_rows, to_tensors
from concordant.training.model import MultimodalModel, class_options

EVALUATIONS, PATIENCE = 10, 5  # as in a recipe of `concordant run`
VALIDATION_COPIES = 2  # perturbed copies of the held-out instances: one alone is a noisy judge
_EVALUATION_BATCH = 512
_TINY = 1e-12


@dataclass(frozen=True)
class Plan:
    """What is built and how it is trained.

    Args:
        fusion: its name.
        calibrator: its name; "none" is trained with perturbations as well.
        outputs: numbers that come out, C.
        real: a regression.
        steps: of the optimiser, at the most.
        batch: instances a step.
        learning_rate: the highest of the one-cycle schedule.
        weight_decay: of AdamW.
        dropout: of encoders, calibrator and fusion.
        width: features that each encoder hands over.
        seed: of weights, batches and perturbations.
        device: where it is trained.
    """

    fusion: str
    calibrator: str
    outputs: int
    real: bool
    steps: int
    batch: int
    learning_rate: float
    weight_decay: float
    dropout: float
    width: int
    seed: int
    device: str


@dataclass(frozen=True)
class Targets:
    """Class indices or standardised numbers (N,), and what each counts (N,), 1 on average."""

    values: Tensor
    weights: Tensor

    def take(self, rows: Tensor | slice) -> Targets:
        """Return those of some instances."""
        return Targets(self.values[rows], self.weights[rows])


def build(forms: Mapping[str, Form], plan: Plan) -> MultimodalModel:
    """Return the untrained model; every part is built on a stream of its own, as in `concordant run`."""
    entry, method = FUSIONS[plan.fusion], CALIBRATORS[plan.calibrator]
    encoders = {}
    for name, form in forms.items():
        with seeding.scope(plan.seed, "encoder", name):
            encoders[name] = build_encoder(
                form.layout,
                form.sizes,
                size=plan.width,
                dropout=plan.dropout,
                maps=entry.setting == "convolutional",
                stages=entry.stages,
            )
    specs = {name: FeatureSpec(encoder.size, LAYOUTS[encoder.feature_layout]) for name, encoder in encoders.items()}
    chosen: dict[str, Any] = {**entry.small, "dropout": plan.dropout}
    if len(entry.points) > 1:
        chosen["at"] = entry.points[0]
    with seeding.scope(plan.seed, "fusion", plan.fusion):
        fusion = entry.build(specs, classes=plan.outputs, **chosen)
    sizes = {name: fusion.meeting[name].size for name in forms}
    layouts = {name: fusion.meeting[name].layout.name for name in forms}
    classes = None if plan.real else plan.outputs
    inputs = [form.layout for form in forms.values()]
    options = {**class_options(method, classes, inputs), "layouts": layouts, "dropout": plan.dropout}
    with seeding.scope(plan.seed, "calibrator", plan.calibrator):
        calibrator = method.build(sizes, **options)
    model = MultimodalModel(encoders=encoders, calibrator=calibrator, fusion=fusion)
    return model.to(plan.device).eval()


def paired(part: Split, targets: NDArray[Any], weights: Floats, plan: Plan) -> tuple[Tensors, Targets]:
    """Return instances and targets on the device, weights 1 on average."""
    scaled = torch.from_numpy(weights / max(float(weights.mean()), 1e-12)).to(plan.device)
    return to_tensors(part).to(plan.device), Targets(torch.from_numpy(targets).to(plan.device), scaled)


def new_optimizer(model: MultimodalModel, plan: Plan) -> torch.optim.Optimizer:
    """Return the optimiser of a plan."""
    return torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)


def fit_model(
    model: MultimodalModel,
    plan: Plan,
    train: tuple[Tensors, Targets],
    valid: tuple[Tensors, Targets] | None,
    say: Callable[[str], None],
) -> list[dict[str, float]]:
    """Train a model in place and leave it in the state that the held-out instances chose; return the history.

    Args:
        model: as `build` returns it.
        plan: how it is trained.
        train: instances and targets.
        valid: held-out ones; None = the last state is kept.
        say: told one line an evaluation.

    Raises:
        ConcordantError: features or loss are no longer finite.
    """
    inputs, targets = train
    settings = _perturbation(model)
    optimizer = new_optimizer(model, plan)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=plan.steps)
    order = endless_rows(len(inputs), plan.batch, seeding.generator(plan.seed, "batches"))
    draws = seeding.generator(plan.seed, "perturbations", device=plan.device)
    marks = {round(plan.steps * k / EVALUATIONS) for k in range(1, EVALUATIONS + 1)} - {0}
    best, error, stale, total, count = -math.inf, 0.0, 0, 0.0, 0
    kept: dict[str, Tensor] | None = None
    history: list[dict[str, float]] = []
    with _dropout_stream(plan, 0):
        for step in range(1, plan.steps + 1):
            model.train()
            rows = next(order)
            total += _one_step(model, plan, optimizer, settings, inputs.take(rows), targets.take(rows), draws)
            schedule.step()
            count += 1
            if step not in marks:
                continue
            entry: dict[str, float] = {"step": step, "loss": total / count}
            total, count = 0.0, 0
            if valid is not None:
                score, spread = _score(model.eval(), plan, settings, *valid)
                entry["validation"] = score
                if score > best:
                    best, error = score, spread
                if score >= best - error:
                    stale, kept = 0, copy.deepcopy(model.state_dict())
                else:
                    stale += 1
            history.append(entry)
            say(", ".join(f"{name} {value:.4g}" for name, value in entry.items()))
            if stale >= PATIENCE:
                break
    if kept is not None:
        model.load_state_dict(kept)
    model.eval()
    return history


def one_pass(
    model: MultimodalModel,
    plan: Plan,
    optimizer: torch.optim.Optimizer,
    train: tuple[Tensors, Targets],
    number: int,
) -> int:
    """Go once through the instances at a constant learning rate; return the number of steps.

    Args:
        model: trained in place.
        plan: batch, seed and learning rate.
        optimizer: of the passes before.
        train: instances and targets.
        number: which pass this is; another order, other perturbations.

    Raises:
        ConcordantError: features or loss are no longer finite.
    """
    inputs, targets = train
    settings = _perturbation(model)
    order = torch.randperm(len(inputs), generator=seeding.generator(plan.seed, "pass", number))
    draws = seeding.generator(plan.seed, "pass perturbations", number, device=plan.device)
    model.train()
    pieces = torch.split(order, plan.batch)
    with _dropout_stream(plan, number):
        for rows in pieces:
            _one_step(model, plan, optimizer, settings, inputs.take(rows), targets.take(rows), draws)
    model.eval()
    return len(pieces)


def _one_step(
    model: MultimodalModel,
    plan: Plan,
    optimizer: torch.optim.Optimizer,
    settings: Perturbation | None,
    batch: Tensors,
    targets: Targets,
    draws: torch.Generator,
) -> float:
    """Take one step of the optimiser and return the loss."""
    labels = None if plan.real else targets.values
    diverged = "training diverged; choose a lower learning_rate"
    try:
        out = model(batch.inputs, batch.masks, batch.present, labels=labels, perturbation=settings, generator=draws)
    except ConcordantError as error:  # finite inputs, but features that are not
        raise ConcordantError(f"{diverged} than {plan.learning_rate:g} ({error})") from None
    values, weights = targets.values, targets.weights
    if settings is not None:
        values, weights = repeat_targets(values), repeat_targets(weights)
    loss = (_losses(out.logits, values, real=plan.real) * weights).mean()
    loss = loss + out.calibration.auxiliary_loss + model.fusion.auxiliary_loss(values)
    found = float(loss.detach())
    if not math.isfinite(found):
        raise ConcordantError(f"{diverged} than {plan.learning_rate:g} (the loss is {found})")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return found


def _losses(outputs: Tensor, values: Tensor, *, real: bool) -> Tensor:
    """Return the loss of each instance: cross-entropy, or the squared error in standard deviations."""
    if real:
        return F.mse_loss(outputs[:, 0], values, reduction="none")
    return F.cross_entropy(outputs, values, reduction="none")


def _score(
    model: MultimodalModel, plan: Plan, settings: Perturbation | None, inputs: Tensors, targets: Targets
) -> tuple[float, float]:
    """Return the weighted score on held-out instances, untouched and perturbed, and its standard error.

    The score is accuracy, or minus the squared error; the perturbations are the same at every call.
    """
    draws = seeding.generator(plan.seed, "validation", device=plan.device)
    scores = torch.zeros(len(inputs), dtype=torch.float64)
    with torch.no_grad():
        for _ in range(1 if settings is None else VALIDATION_COPIES):
            start = 0
            for batch in inputs.chunks(_EVALUATION_BATCH):
                out = model(batch.inputs, batch.masks, batch.present, perturbation=settings, generator=draws)
                rows = slice(start, start + len(batch))
                for logits in out.logits.split(len(batch)):
                    scores[rows] += _merit(logits, targets.values[rows], real=plan.real).double().cpu()
                start += len(batch)
    scores /= 1 if settings is None else 2 * VALIDATION_COPIES
    weights = targets.weights.double().cpu()
    total = weights.sum().clamp(min=_TINY)
    mean = float((scores * weights).sum() / total)
    spread = float(((scores - mean).square() * weights.square()).sum().sqrt() / total)
    return mean, spread


def _merit(logits: Tensor, values: Tensor, *, real: bool) -> Tensor:
    return -_losses(logits, values, real=True) if real else (logits.argmax(1) == values).float()


def _perturbation(model: MultimodalModel) -> Perturbation | None:
    """Return what training inflicts; a single modality is left alone, since nothing could stand in for it."""
    return Perturbation() if len(model.encoders) > 1 else None


@contextmanager
def _dropout_stream(plan: Plan, number: int) -> Iterator[None]:
    """Run a block on the plan's own stream of dropout, and put the global streams back afterwards."""
    with seeding.stream(plan.seed, "dropout", number, device=plan.device):
        yield
