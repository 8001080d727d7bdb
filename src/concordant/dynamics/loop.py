"""Training dynamics of any PyTorch training loop: the numbers of `concordant run --dynamics`, from your own loop.

Nothing is traced or patched: the loop says what it is doing, and the recorder looks on.
Shapes: features (B, ...); reliability (B, M); gates (B, D).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from concordant.dynamics.gradients import gradient_cosines
from concordant.dynamics.recorder import DEFAULT_EVERY, QUANTILES, Record, check_every
from concordant.dynamics.stability import loss_variance, spikes
from concordant.errors import UsageError


class LoopRecorder:
    """Record gradients, conflict, updates, reliability and losses of a training loop of your own.

    Args:
        parts: part -> module, whose update-to-weight ratio is recorded; those without parameters are left out.
        every: steps from one that is looked into to the next; the loss is kept at every step.

    Attributes:
        records: what is known so far.

    Raises:
        UsageError: `every` is below 1.

    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
    >>> recorder = LoopRecorder({"model": model}, every=1)
    >>> for _ in range(3):
    ...     features = {"sensor": torch.ones(4, 2).requires_grad_() * 1}
    ...     loss = model(features["sensor"]).square().mean()
    ...     with recorder.step(loss, features=features):
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    >>> [(one["quantity"], one["of"], one["step"]) for one in recorder.series()]
    [('loss', '', [1, 2, 3]), ('gradient_norm', 'sensor', [1, 2, 3]), ('update_ratio', 'model', [1, 2, 3])]
    """

    def __init__(self, parts: Mapping[str, nn.Module], *, every: int = DEFAULT_EVERY) -> None:
        check_every(every)
        learned = {name: [p for p in part.parameters() if p.requires_grad] for name, part in parts.items()}
        self.parts = {name: own for name, own in learned.items() if own}
        self.every = every
        self.records: list[Record] = []
        self._step = 0

    @contextmanager
    def step(
        self,
        loss: Tensor,
        *,
        features: Mapping[str, Tensor] | None = None,
        losses: Mapping[str, Tensor] | None = None,
        shared: Sequence[Tensor] | None = None,
        calibration: Any = None,  # noqa: ANN401 - a Calibration, or what has its fields
    ) -> Iterator[None]:
        """Look on while the block does the backward pass and the optimiser's step.

        Args:
            loss: of the step, a scalar.
            features: modality -> a tensor of this step's graph, at which the gradient's norm is recorded.
            losses: modality -> the loss with that modality alone, for the conflict of their gradients.
            shared: the parameters on which conflict is looked for; needed with `losses`.
            calibration: what a calibrator returned, for the quantiles of reliability and gates.

        Raises:
            UsageError: `losses` without `shared`, or a loss that is no scalar.
        """
        if loss.numel() != 1:
            raise UsageError(f"loss must be a scalar; found the shape {tuple(loss.shape)}")
        if losses is not None and shared is None:
            raise UsageError("losses need shared: the parameters on which the modalities' gradients are compared")
        self._step += 1
        self._keep("loss", "", float(loss.detach()))
        if (self._step - 1) % self.every:
            yield
            return
        watched = {name: x for name, x in (features or {}).items() if x.requires_grad}
        for x in watched.values():
            x.retain_grad()
        if losses is not None and shared is not None:
            for (one, other), cosine in gradient_cosines(losses, shared).items():
                self._keep("conflict", f"{one}|{other}", cosine)
        if calibration is not None:
            self._modulation(calibration)
        before = {name: [p.detach().clone() for p in own] for name, own in self.parts.items()}
        yield
        for name in features or {}:
            gradient = watched[name].grad if name in watched else None
            self._keep("gradient_norm", name, None if gradient is None else float(gradient.float().norm()))
        for name, own in self.parts.items():
            moved = _norm([now.detach() - then for now, then in zip(own, before[name], strict=True)])
            size = _norm(before[name])
            self._keep("update_ratio", name, moved / size if size else None)

    def evaluated(
        self,
        *,
        validation_loss: float | None = None,
        validation_score: float | None = None,
        probes: Mapping[str, float | None] | None = None,
    ) -> None:
        """Keep what an evaluation after the last step gave.

        Args:
            validation_loss: of the task.
            validation_score: higher is better.
            probes: modality -> accuracy of a linear probe on its features
                (`concordant.visualisation.separation.probe` computes one).
        """
        for quantity, value in (("validation_loss", validation_loss), ("validation_score", validation_score)):
            if value is not None:
                self._keep(quantity, "", value)
        for name, value in (probes or {}).items():
            self._keep("probe", name, value)

    def series(self) -> list[dict[str, Any]]:
        """Return one entry a quantity and what it is of: "quantity", "of", "step", "value" (None = there is none)."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for step, quantity, of, value in self.records:
            entry = found.setdefault(
                (quantity, of), {"quantity": quantity, "of": of, "step": list[int](), "value": list[float | None]()}
            )
            entry["step"].append(step)
            entry["value"].append(None if math.isnan(value) else value)
        return list(found.values())

    def stability(self) -> dict[str, Any]:
        """Return the variance of the loss after warm-up, and the number of its spikes."""
        losses = [record.value for record in self.records if record.quantity == "loss"]
        return {"loss_variance": loss_variance(losses), "spikes": len(spikes(losses))}

    def _modulation(self, calibration: Any) -> None:  # noqa: ANN401
        levels = torch.tensor(list(QUANTILES.values()), device=calibration.reliability.device)
        for index, name in enumerate(calibration.names):
            here = calibration.present[:, index]
            if not here.any():
                continue
            values = {"reliability": calibration.reliability[here, index], "gate": calibration.gates[name][here]}
            for quantity, numbers in values.items():
                marks = torch.quantile(numbers.detach().float().flatten(), levels).tolist()
                for mark, value in zip(QUANTILES, marks, strict=True):
                    self._keep(f"{quantity}_{mark}", name, value)

    def _keep(self, quantity: str, of: str, value: float | None) -> None:
        self.records.append(Record(self._step, quantity, of, math.nan if value is None else value))


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm([x.float() for x in tensors]))
