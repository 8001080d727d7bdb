"""Training of the estimators: step and loop of `concordant run`, with weights, in memory and on one device.

Shapes: outputs (B, C), or (B, 1) of a regression; weights (N,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from concordant import seeding
from concordant.calibration import Perturbation
from concordant.data.split import Floats, Split
from concordant.estimator.inputs import Form
from concordant.training.batches import Tensors, endless_rows, to_tensors
from concordant.training.config import Recipe
from concordant.training.loop import Report, TrainingState, fit, one_cycle
from concordant.training.model import MultimodalModel, assemble
from concordant.training.selection import CheckpointSelector
from concordant.training.step import TrainingStep, cross_entropy, squared_error
from concordant.training.validation import VALIDATION_COPIES

_EVALUATION_BATCH = 512
_TINY = 1e-12


@dataclass(frozen=True)
class Plan:
    """What is built and how it is trained."""

    recipe: Recipe
    fusion: str
    calibrator: str  # "none" is trained with perturbations too
    outputs: int  # C, or 1 of a regression
    real: bool  # a regression
    seed: int  # of weights, batches and perturbations
    device: str


def build(forms: Mapping[str, Form], plan: Plan) -> MultimodalModel:
    """Return the untrained model."""
    model = assemble(
        {name: (form.layout, form.sizes) for name, form in forms.items()},
        plan.recipe,
        fusion=plan.fusion,
        calibrator=plan.calibrator,
        outputs=plan.outputs,
        real=plan.real,
        seed=plan.seed,
    )
    return model.float().to(plan.device).eval()


def tensors_of(split: Split, targets: NDArray[Any], weights: Floats, plan: Plan) -> Tensors:
    """Return instances with targets and weights, which are 1 on average, on the device."""
    scaled = torch.from_numpy(weights / max(float(weights.mean()), _TINY))
    return replace(to_tensors(replace(split, labels=targets)), weights=scaled).to(plan.device)


def new_optimizer(model: MultimodalModel, plan: Plan) -> torch.optim.Optimizer:
    """Return the optimiser of passes at a constant learning rate."""
    recipe = plan.recipe
    return torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)


def fit_model(
    model: MultimodalModel, plan: Plan, train: Tensors, valid: Tensors | None, say: Callable[[str], None]
) -> list[dict[str, float]]:
    """Train a model in place and leave it in the selected state; return the history.

    The instances held out (`valid`) select the state; without any the last one is kept. `say` is called with one line
    per evaluation.

    Raises:
        ConcordantError: features or loss are no longer finite.
    """

    def report(entry: dict[str, float]) -> None:
        say(", ".join(f"{name} {value:.4g}" for name, value in entry.items()))

    recipe, state, selector = plan.recipe, TrainingState(), CheckpointSelector(plan.recipe.patience)
    optimizer, schedule = one_cycle(
        model.parameters(),
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        steps=recipe.steps,
    )
    order = endless_rows(len(train), recipe.batch, seeding.generator(plan.seed, "batches"))
    with seeding.in_order(plan.device):
        fit(
            model,
            _step(model, plan, state, "perturbations"),
            train.batches(order),
            optimizer,
            schedule,
            steps=recipe.steps,
            evaluations=recipe.evaluations,
            evaluate=None if valid is None else lambda: score(model, plan, valid),
            selector=selector,
            state=state,
            callbacks=[Report(report)],
            stream=seeding.Stream(plan.seed, "dropout", 0, device=plan.device),
        )
    selector.restore(model)
    return state.history


def one_pass(model: MultimodalModel, plan: Plan, optimizer: torch.optim.Optimizer, train: Tensors, number: int) -> int:
    """Go once through the instances at a constant learning rate; return the number of steps.

    The optimiser is that of the passes before; by its `number` each pass has its own order and perturbations.

    Raises:
        ConcordantError: features or loss are no longer finite.
    """
    state = TrainingState()
    order = torch.randperm(len(train), generator=seeding.generator(plan.seed, "pass", number))
    batches = torch.split(order, plan.recipe.batch)
    with seeding.in_order(plan.device):
        fit(
            model,
            _step(model, plan, state, "pass perturbations", number),
            train.batches(batches),
            optimizer,
            steps=len(batches),
            evaluations=1,
            state=state,
            stream=seeding.Stream(plan.seed, "dropout", number, device=plan.device),
        )
    model.eval()
    return len(batches)


def _step(model: MultimodalModel, plan: Plan, state: TrainingState, *stream: str | int) -> Callable[[Tensors], Tensor]:
    """Return the step of the loop, with perturbations drawn from the named stream."""
    draws = seeding.generator(plan.seed, *stream, device=plan.device)
    loss_of = TrainingStep(
        model,
        squared_error if plan.real else cross_entropy,
        perturbation=_perturbation(model),
        state=state,
        learning_rate=plan.recipe.learning_rate,
    )

    def step(batch: Tensors) -> Tensor:
        loss = loss_of(batch.inputs, batch.masks, batch.present, batch.labels, draws, batch.weights)
        loss.backward()
        return loss_of.value

    return step


def score(model: MultimodalModel, plan: Plan, valid: Tensors) -> tuple[float, float]:
    """Return the weighted score on clean and perturbed held-out instances, and its standard error.

    The score is accuracy, or minus the squared error; the perturbations depend on the seed alone.
    """
    settings = _perturbation(model)
    draws = seeding.generator(plan.seed, "validation", device=plan.device)
    copies = []
    with torch.no_grad():
        for _ in range(1 if settings is None else VALIDATION_COPIES):
            merits: list[list[Tensor]] = []
            for batch in valid.chunks(_EVALUATION_BATCH):
                out = model(batch.inputs, batch.masks, batch.present, perturbation=settings, generator=draws)
                each = [_merit(logits, batch.labels, real=plan.real) for logits in out.logits.split(len(batch))]
                merits.append(each)
            copies += [torch.cat(copy).double().cpu() for copy in zip(*merits, strict=True)]
    merit = torch.stack(copies).mean(0)
    weights = torch.ones_like(merit) if valid.weights is None else valid.weights.double().cpu()
    total = weights.sum().clamp(min=_TINY)
    mean = float((merit * weights).sum() / total)
    return mean, float(((merit - mean).square() * weights.square()).sum().sqrt() / total)


def _merit(logits: Tensor, targets: Tensor, *, real: bool) -> Tensor:
    return -(logits[:, 0] - targets).square() if real else (logits.argmax(1) == targets).float()


def _perturbation(model: MultimodalModel) -> Perturbation | None:
    """Return what training inflicts; a single modality has no other to replace it, and stays clean."""
    return Perturbation() if len(model.encoders) > 1 else None
