"""Training methods, which balance the modalities during training, beside any calibrator and any fusion.

A method may add to the loss, change gradients, and evaluate the splits at each validation.
Shapes: logits (R, C) and labels (R,), where R is B, or 2B with perturbed copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.errors import UsageError
from concordant.fusion.base import masked_mean
from concordant.registry import Registry

if TYPE_CHECKING:
    from concordant.calibration.distributed import Ranks
    from concordant.training.batches import AnyTensors
    from concordant.training.model import MultimodalModel, Output

METHODS: Registry[type[TrainingMethod]] = Registry("method")

_JOINT = "joint"  # the others are prefixed, so a modality of this name does no harm
_FLOOR = 0.05  # the smallest weight of a blended loss before normalisation
_LEAST_GROWTH = 0.01  # of the generalisation gap, in nats: below it is noise
_OBSERVED = 1024  # training instances that are scored at an evaluation, at most
_BATCH = 512


@METHODS.register("none")
class TrainingMethod(nn.Module):
    """Train by the task's loss alone; base of the other methods.

    A method's own parameters are trained with the model's and dropped afterwards.

    Args:
        model: in training.
        seed: of the run, from which all draws of the method follow.
    """

    summary: ClassVar[str] = "the task's loss and nothing else"
    paper: ClassVar[str] = ""

    def __init__(self, model: MultimodalModel, *, seed: int) -> None:
        super().__init__()
        self.seed = seed
        #: The processes that share every batch; None = one process. Training sets it.
        self.ranks: Ranks | None = None
        # In a tuple, which keeps the model's parameters apart from the method's.
        self._model = (model,)

    @property
    def model(self) -> MultimodalModel:
        """Model in training."""
        return self._model[0]

    def loss(self, out: Output, labels: Tensor, task_loss: Tensor) -> Tensor:
        """Return the loss of a batch, without the auxiliary ones of calibrator and fusion."""
        return task_loss

    def modulate(self, progress: float) -> None:
        """Change the gradients between the backward pass and the optimiser's step.

        Args:
            progress: the share of the steps done, in [0, 1].
        """

    def observe(self, train: AnyTensors, valid: AnyTensors) -> None:
        """Evaluate the splits at each validation; the model is in evaluation mode."""


@METHODS.register("ogm-ge")
class GradientModulation(TrainingMethod):
    """On-the-fly gradient modulation with generalisation enhancement (OGM-GE): slows the leading modality down.

    Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation", CVPR 2022. Each modality's own
    score s_m is the mean probability of the true class, rho_m its ratio to the others; the gradients of its encoder
    shrink by k_m = 1 - tanh(alpha * rho_m) where rho_m > 1 (equations 8 to 10). Gaussian noise replaces the noise that
    smaller steps lose (equation 11).

    The paper computes s_m from the halves of a linear head on concatenated features. Here it is the fusion's output
    with that modality alone present, which for such a head is equal up to the bias and is defined for every fusion.
    With more than two modalities the ratio is to the mean of the others. The released code changes the gradients of
    convolutions; here all of an encoder's weights but vectors (biases and the like) are changed.

    Args:
        model: in training.
        seed: of the run.
        alpha: strength; 0.8, as in the released code for CREMA-D.
        until: the share of the steps with modulation; a half, as in the released code.
        noise: standard deviation of the noise, relative to that of the gradient; 0 = OGM without GE.

    Raises:
        UsageError: arguments out of range.
    """

    summary = "slows the encoder of the modality that is ahead, with noise on the gradients"
    paper = "Peng et al., CVPR 2022"

    def __init__(
        self, model: MultimodalModel, *, seed: int, alpha: float = 0.8, until: float = 0.5, noise: float = 1.0
    ) -> None:
        super().__init__(model, seed=seed)
        for name, value in (("alpha", alpha), ("until", until), ("noise", noise)):
            if not value >= 0:
                raise UsageError(f"{name} must not be negative; found {value}")
        self.alpha, self.until, self.noise = alpha, until, noise
        self.coefficients: dict[str, float] = {}
        self._draws: torch.Generator | None = None
        self._restored: Tensor | None = None  # state of the draws, which are made on the gradients' device
        self._over = False

    def loss(self, out: Output, labels: Tensor, task_loss: Tensor) -> Tensor:
        """Return the task's loss, and compute the coefficients."""
        if not self._over:
            self.coefficients = coefficients(unimodal_scores(self.model, out, labels, self.ranks), self.alpha)
        return task_loss

    def modulate(self, progress: float) -> None:
        """Scale the encoders' gradients and add noise to those of weights."""
        self._over = progress > self.until
        if self._over or len(self.coefficients) < 2:
            return
        for name, encoder in self.model.encoders.items():
            for weight in encoder.parameters():
                if weight.grad is None or weight.dim() < 2:
                    continue
                spread = float(weight.grad.std()) if weight.numel() > 1 else 0.0
                weight.grad.mul_(self.coefficients[name])
                if self.noise:
                    weight.grad.add_(self._noise_like(weight.grad), alpha=self.noise * spread)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state for a checkpoint; there are no parameters."""
        draws = None if self._draws is None else self._draws.get_state()
        return {"coefficients": self.coefficients, "over": self._over, "draws": draws}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.coefficients, self._over, self._restored = state["coefficients"], state["over"], state["draws"]

    def _noise_like(self, x: Tensor) -> Tensor:
        if self._draws is None or self._draws.device != x.device:
            self._draws = seeding.generator(self.seed, "ogm-ge", device=x.device)
            if self._restored is not None:
                self._draws.set_state(self._restored)
        return torch.randn(x.shape, generator=self._draws, device=x.device, dtype=x.dtype)


def unimodal_scores(
    model: MultimodalModel, out: Output, labels: Tensor, ranks: Ranks | None = None
) -> dict[str, float]:
    """Return modality -> the mean probability of the true class with that modality alone, over its rows."""
    fusion, names = model.fusion, out.calibration.names
    features = {name: x.detach() for name, x in out.calibration.features.items()}
    training = fusion.training
    fusion.eval()
    scores = {}
    try:
        with torch.no_grad():
            for name in names:
                here = presence_of(out, name, len(labels))
                alone = {other: here if other == name else torch.zeros_like(here) for other in names}
                right = F.softmax(fusion.join(features, out.masks, alone).float(), 1)
                scores[name] = float(mean_over(right.gather(1, labels[:, None]).squeeze(1), here, ranks))
    finally:
        fusion.train(training)
    return scores


def coefficients(scores: dict[str, float], alpha: float) -> dict[str, float]:
    """Return modality -> k, in [0, 1]: 1 unless its score is above the mean of the others'.

    >>> found = coefficients({"audio": 0.6, "vision": 0.3}, 0.8)
    >>> round(found["audio"], 4), found["vision"]
    (0.0783, 1.0)
    """
    found = {}
    for name, score in scores.items():
        others = [value for other, value in scores.items() if other != name]
        mean = sum(others) / len(others) if others else score
        ratio = torch.tensor(score / max(mean, 1e-8))
        found[name] = float(1 - torch.tanh(alpha * ratio)) if ratio > 1 else 1.0
    return found


@METHODS.register("gradient-blending")
class GradientBlending(TrainingMethod):
    """Blend the joint loss with one loss per modality, weighted by generalisation and overfitting.

    Wang, Tran and Feiszli, "What Makes Training Multi-modal Classification Networks Hard?", CVPR 2020, in the
    online form: from one evaluation to the next, a loss that generalises by G (its fall on held-out data) while
    overfitting by dO (the growth of the gap between held-out and training loss) gets a weight in proportion to
    G / dO^2 (proposition 1). Here all heads are measured while they train together, where the paper trains copies of
    them from each snapshot; the validation split is held out; and each weight keeps a floor, since a loss without
    weight is not learned any more.

    Args:
        model: in training.
        seed: of the run; the heads' initial weights follow from it.
    """

    summary = "a head per modality, each loss weighted by how it generalises and overfits"
    paper = "Wang et al., CVPR 2020"

    def __init__(self, model: MultimodalModel, *, seed: int) -> None:
        super().__init__(model, seed=seed)
        self.heads = nn.ModuleDict()
        for name, spec in model.fusion.meeting.items():
            with seeding.scope(seed, "gradient-blending", name):
                self.heads[name] = nn.Linear(spec.size, model.fusion.classes)
        keys = [_JOINT, *(f"alone.{name}" for name in self.heads)]
        self.weights = dict.fromkeys(keys, 1 / len(keys))
        self._last: dict[str, tuple[float, float]] | None = None

    def loss(self, out: Output, labels: Tensor, task_loss: Tensor) -> Tensor:
        """Return the weighted sum of the joint loss and each modality's own."""
        losses = {_JOINT: task_loss, **self.unimodal_losses(out, labels)}
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def unimodal_losses(self, out: Output, labels: Tensor) -> dict[str, Tensor]:
        """Return "alone.<modality>" -> the mean cross-entropy of its head, over the rows that have it."""
        losses = {}
        for name, head in self.heads.items():
            here = presence_of(out, name, len(labels))
            if name in out.calibration.features:
                flat = self.model.fusion.positions(name, out.calibration.features)
                logits = head(masked_mean(flat, out.masks.get(name), here))
                each = F.cross_entropy(logits, labels, reduction="none")
                ranks = self.ranks if self.model.training and self.ranks is not None and self.ranks.whole else None
                losses[f"alone.{name}"] = mean_over(each, here, ranks)
            else:
                losses[f"alone.{name}"] = out.logits.new_zeros(())
        return losses

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, without the heads."""
        return {"weights": self.weights, "last": self._last}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.weights, self._last = state["weights"], state["last"]

    def observe(self, train: AnyTensors, valid: AnyTensors) -> None:
        """Measure all losses on both splits and update the weights."""
        every = -(-len(train) // _OBSERVED)  # evenly spaced, since splits may be sorted by class
        seen, held = self._mean_losses(train.take(slice(None, None, every))), self._mean_losses(valid)
        now = {name: (seen[name], held[name]) for name in seen}
        if self._last is not None:
            self.weights = blend(self._last, now, self.weights)
        self._last = now

    def _mean_losses(self, split: AnyTensors) -> dict[str, float]:
        totals: dict[str, float] = dict.fromkeys(self.weights, 0.0)
        with torch.no_grad():
            for batch in split.chunks(_BATCH):
                out = self.model(batch.inputs, batch.masks, batch.present)
                losses = {_JOINT: F.cross_entropy(out.logits, batch.labels), **self.unimodal_losses(out, batch.labels)}
                for name, loss in losses.items():
                    totals[name] += float(loss) * len(batch) / len(split)
        return totals


def blend(
    before: Mapping[str, tuple[float, float]],
    after: Mapping[str, tuple[float, float]],
    weights: Mapping[str, float],
) -> dict[str, float]:
    """Return the weight of each loss; they sum to 1.

    Args:
        before: loss -> (training, held-out) at one evaluation.
        after: loss -> (training, held-out) at the next.
        weights: kept where no loss has generalised since.

    >>> before = {"joint": (2.0, 2.0), "alone.audio": (2.0, 2.0)}
    >>> after = {"joint": (1.0, 1.2), "alone.audio": (1.0, 1.4)}
    >>> {name: round(weight, 3) for name, weight in blend(before, after, {}).items()}
    {'joint': 0.842, 'alone.audio': 0.158}
    """
    raw = {}
    for name, (train, held) in after.items():
        train_before, held_before = before[name]
        gain = max(held_before - held, 0.0)
        growth = max(abs((held - train) - (held_before - train_before)), _LEAST_GROWTH)
        raw[name] = gain / growth**2
    total = sum(raw.values())
    if total == 0:
        return dict(weights)
    floored = {name: max(value / total, _FLOOR) for name, value in raw.items()}
    return {name: value / sum(floored.values()) for name, value in floored.items()}


def presence_of(out: Output, name: str, rows: int) -> Tensor:
    """Return bool (R,), True where a row has the modality."""
    return out.calibration.present[:rows, out.calibration.names.index(name)]


def mean_over(values: Tensor, rows: Tensor, ranks: Ranks | None = None) -> Tensor:
    """Return the mean of (R,) over the rows that are True, of all processes if there are several; 0 without any."""
    if ranks is not None:
        values, rows = ranks.gather(values, rows)
    return torch.where(rows, values, 0).sum() / rows.sum().clamp(min=1)
