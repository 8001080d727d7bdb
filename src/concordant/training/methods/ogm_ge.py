"""On-the-fly gradient modulation with generalisation enhancement (OGM-GE): slow down whoever is ahead.

Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation", CVPR 2022. Each modality's own
score s_m is the mean probability of the true class; its ratio to the others, rho_m, says who is ahead, and
the gradients of that encoder shrink by k_m = 1 - tanh(alpha * rho_m) where rho_m > 1 (equations 8 to 10).
Gaussian noise then makes up for the noise that smaller steps lose (equation 11).

The paper reads s_m off the halves of a linear head on concatenated features. Here it is what the fusion says
with that modality alone present, which is the same up to the bias for such a head and is defined for every
other; with more than two modalities the ratio is to the mean of the others; and where the released code changes
the gradients of convolutions alone, here all of an encoder's weights but biases and the like have theirs changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from concordant import seeding
from concordant.errors import UsageError
from concordant.training.methods.base import TrainingMethod, mean_over, presence_of

if TYPE_CHECKING:
    from concordant.calibration.distributed import Ranks
    from concordant.training.model import MultimodalModel, Output


class GradientModulation(TrainingMethod):
    """Scale the gradients of each encoder by how far its modality is ahead of the others.

    Args:
        model: what is trained.
        seed: of the run.
        alpha: how strongly; 0.8, as in the released code for CREMA-D.
        until: the share of the steps during which gradients are modulated; a half, as in the released code.
        noise: standard deviations of the noise, in those of the gradient it is added to; 0 = OGM without GE.

    Raises:
        UsageError: arguments out of range.
    """

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
        """Return the task's loss; on the way find out who is ahead."""
        if self._over:
            return task_loss
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
        """Return what a checkpoint needs; modulation has no parameters."""
        draws = None if self._draws is None else self._draws.get_state()
        return {"coefficients": self.coefficients, "over": self._over, "draws": draws}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Be as a checkpoint says."""
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
