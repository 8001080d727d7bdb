"""The frame that every calibrator shares: checks, training perturbations, scaling, auxiliary loss.

A subclass only says how reliability and gates come from the summaries. What is scaled are the original
features, in their own layout; nothing is resampled or fused.
Shapes: reliability (B, M); gates (B, D) a modality; support and conflict (B, M, M).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concord.calibration.comparison import support_and_conflict
from concord.calibration.finite import require_finite
from concord.calibration.modulation import START, reliability_from_shift
from concord.calibration.objective import agreement_loss, intact_loss
from concord.calibration.outcome import Calibration, Modulation, Summaries
from concord.calibration.perturbation import Perturbation, as_settings, perturb
from concord.calibration.summary import RunningStandardiser, energy, pool, valid_positions
from concord.errors import ConcordError, UsageError
from concord.modalities import ModalityBatch, check_sizes, gather, over_features, over_positions, to_positions


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer in the input's precision, whatever the dtype of its parameters."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer that gives zeros until it is trained."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _full_precision(device: str) -> AbstractContextManager[object]:
    """Switch autocast off; an exported graph has none, and its formats know none."""
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(device_type=device, enabled=False)


class Calibrator(nn.Module):
    """Base of the contextual calibrator and of its rivals; see `ContextualCalibrator` for the arguments."""

    has_reliability = True  # False where reliability is constant and detection makes no sense
    needs_classes = False  # True where the loss needs labels, however few classes there are
    fewest = 2  # modalities

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        intact_weight: float = 0.5,
        agreement_weight: float = 0.2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if not isinstance(sizes, Mapping):
            raise UsageError(f"sizes must be a dictionary from modality to feature size; found {sizes!r}")
        self.layouts = check_sizes(sizes, layouts, fewest=self.fewest)
        self.sizes = dict(sizes)
        self.names = tuple(sizes)
        faults = []
        if nonfinite not in ("raise", "absent"):
            faults.append(f"nonfinite must be 'raise' or 'absent'; found {nonfinite!r}")
        for name, value in (("intact_weight", intact_weight), ("agreement_weight", agreement_weight)):
            if not value >= 0:
                faults.append(f"{name} must not be negative; found {value}")
        if not 0 <= dropout < 1:
            faults.append(f"dropout must lie in [0, 1); found {dropout}")
        if faults:
            raise UsageError("; ".join(faults))
        self.nonfinite = nonfinite
        self.perturbation = as_settings(perturbation)
        self.intact_weight = intact_weight
        self.agreement_weight = agreement_weight
        self.dropout = dropout
        # A vector has no spread; "auto" is ready for sequences and maps, which have.
        self.spread = {name: layout != "bd" for name, layout in self.layouts.items()}
        self.standardise = nn.ModuleDict({name: RunningStandardiser(self.summary_size(name)) for name in sizes})
        self.standardise_energy = nn.ModuleDict({name: RunningStandardiser(self.energy_count(name)) for name in sizes})
        #: Training batches are those of `with_copies`, so that all untouched instances are in the first half.
        self.copies = False
        self._last_loss: Tensor | None = None

    def summary_size(self, name: str) -> int:
        """Return S, the length of a modality's summary."""
        return self.sizes[name] * (2 if self.spread[name] else 1)

    def energy_count(self, name: str) -> int:
        """Return E, the number of energies of a modality: 2 where its summary has a spread, else 1."""
        return 2 if self.spread[name] else 1

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return reliability shifts and gates; what a subclass is."""
        raise NotImplementedError

    def decide(self, modulation: Modulation, present: Tensor) -> Tensor | None:
        """Return logits (B, C) that stand in for the fusion's; None unless a subclass decides itself."""
        return None

    def own_loss(self, modulation: Modulation, present: Tensor, labels: Tensor | None) -> Tensor | None:
        """Return a subclass's further loss of a training pass, a scalar, or None.

        Args:
            modulation: what `modulate` returned.
            present: bool (B, M).
            labels: class indices (B,), or None.
        """
        return None

    def gather(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> ModalityBatch:
        """Check features, masks and presence; what `forward` does first (see `concord.modalities.gather`).

        NaN and infinity are dealt with here too, so that copies made of the batch do not spread them.
        """
        return self._finite(gather(features, sizes=self.sizes, layouts=self.layouts, masks=masks, present=present))

    def forward(
        self,
        features: Mapping[str, Tensor] | ModalityBatch,
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        *,
        labels: Tensor | None = None,
        touched: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Calibration:
        """Calibrate one batch.

        Args:
            features: modality -> features in its layout; or a batch that `gather` or `with_copies` made.
            masks: modality -> bool, True at valid steps.
            present: modality -> bool (B,), True where the instance has the modality.
            labels: class indices (B,), only used in training, where three or more classes make better
                positives for the contrastive loss. With two classes or a regression leave them out.
            touched: bool (B, M): what was perturbed already, by the caller; the calibrator then inflicts
                nothing itself.
            generator: the source of the perturbations' draws; None = the global one.

        Raises:
            UsageError: features, masks, presence, labels or `touched` have a wrong name, type or shape.
            ConcordError: a present modality holds NaN or infinity, with nonfinite="raise".
        """
        if isinstance(features, ModalityBatch):
            batch = self._finite(features)
        else:
            batch = self.gather(features, masks, present)
        self._check_training(batch, labels, touched)
        if self.training and touched is None and self.perturbation is not None:
            hurt = perturb(batch, self.perturbation, generator=generator)
            batch, touched = hurt.batch, hurt.touched
        with _full_precision(batch.present.device.type):
            modulation = self.modulate(self._summaries(batch, touched))
            loss = self._auxiliary_loss(modulation, batch, touched, labels)
        decision = self.decide(modulation, batch.present)
        left, complete = batch.present, batch.complete
        if modulation.kept is not None:
            left, complete = left & modulation.kept, False
        alone = batch.present.sum(1, keepdim=True) <= 1  # (B, 1)
        shift = torch.where(alone, 0, modulation.shift)
        reliability = reliability_from_shift(shift)
        gates = {name: torch.where(alone, 1, gate) for name, gate in modulation.gates.items()}
        cosines = modulation.agreement
        if cosines is None:
            cosines = reliability.new_zeros(batch.size, len(self.names), len(self.names))
        support, conflict = support_and_conflict(cosines)
        if self.training:
            self._last_loss = loss
        return Calibration(
            features=self._scaled(batch, reliability, gates),
            names=self.names,
            reliability=torch.where(left, reliability, 0),
            gates=gates,
            support=support,
            conflict=conflict,
            present=left,
            logits=shift + START,
            touched=touched if self.training else None,
            auxiliary_loss=loss,
            complete=complete,
            decision=decision,
        )

    def auxiliary_loss(self) -> Tensor:
        """Return the auxiliary loss of the last training forward, to be added to the task's loss; 0 in evaluation.

        Raises:
            ConcordError: in training mode before any forward.
        """
        if not self.training:
            return next(self.buffers()).new_zeros(())
        if self._last_loss is None:
            raise ConcordError("auxiliary_loss() has nothing to return: call the calibrator on a batch first")
        return self._last_loss

    def _check_training(self, batch: ModalityBatch, labels: Tensor | None, touched: Tensor | None) -> None:
        """Refuse labels and `touched` that would broadcast into nonsense, and batches of other modalities."""
        if batch.names != self.names:
            raise UsageError(f"the batch was gathered for {list(batch.names)}; the modalities are {list(self.names)}")
        if labels is not None and (labels.is_floating_point() or tuple(labels.shape) != (batch.size,)):
            raise UsageError(
                f"labels must be class indices, integers of shape ({batch.size},); "
                f"found {labels.dtype} {tuple(labels.shape)}"
            )
        if touched is not None and (touched.dtype != torch.bool or touched.shape != batch.present.shape):
            raise UsageError(
                f"touched must be a bool tensor of shape {tuple(batch.present.shape)}; "
                f"found {touched.dtype} {tuple(touched.shape)}"
            )

    def _finite(self, batch: ModalityBatch) -> ModalityBatch:
        """Raise on NaN or infinity in a present modality, or take the modality as absent there."""
        columns = []
        for index, name in enumerate(batch.names):
            here = batch.present[:, index]
            if name in batch.features:
                flat = to_positions(batch.features[name].detach(), batch.layouts[name])
                if not batch.complete:
                    flat = torch.where(valid_positions(here, batch.masks.get(name)).unsqueeze(-1), flat, 0)
                here = here & torch.isfinite(flat).flatten(1).all(1)
            columns.append(here)
        finite = torch.stack(columns, 1)
        # An exported graph cannot raise: what it cannot use is absent to it.
        if self.nonfinite == "absent" or torch.compiler.is_exporting():
            return replace(batch, present=finite, complete=False)
        return replace(batch, present=require_finite(finite, batch.present, batch.names))

    def _summaries(self, batch: ModalityBatch, touched: Tensor | None) -> Summaries:
        """Pool and standardise every modality; in training learn the running statistics on the way."""
        vectors, energies = {}, {}
        reference = next(iter(batch.features.values()))
        for index, name in enumerate(self.names):
            here, spread = batch.present[:, index], self.spread[name]
            if name in batch.features:
                flat = to_positions(batch.features[name], batch.layouts[name])
                valid = None if batch.complete else valid_positions(here, batch.masks.get(name))
                summary = pool(flat, valid, spread=spread)
            else:
                dtype = torch.promote_types(reference.dtype, torch.float32)
                summary = reference.new_zeros(batch.size, self.summary_size(name), dtype=dtype)
            loudness = energy(summary, spread=spread)
            if self.training:
                rows = here if touched is None else here & ~touched[:, index]
                self.standardise[name].update(summary.detach(), rows)  # type: ignore[operator]
                self.standardise_energy[name].update(loudness.detach(), rows)  # type: ignore[operator]
            vectors[name] = self.standardise[name](summary)
            energies[name] = self.standardise_energy[name](loudness)
        return Summaries(vectors, energies, batch.present)

    def _scaled(self, batch: ModalityBatch, reliability: Tensor, gates: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the original features times reliability and gate.

        Padded steps and absent modalities pass as they are, but for NaN and infinity, which become 0.
        """
        scaled = {}
        for name, x in batch.features.items():
            index, layout = self.names.index(name), batch.layouts[name]
            scale = over_features((reliability[:, index, None] * gates[name]).to(x.dtype), layout)
            if batch.complete:
                scaled[name] = x * scale
                continue
            valid = over_positions(valid_positions(batch.present[:, index], batch.masks.get(name)), x, layout)
            rest = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
            scaled[name] = torch.where(valid, torch.where(valid, x, 0) * scale, rest)
        return scaled

    def _auxiliary_loss(
        self, modulation: Modulation, batch: ModalityBatch, touched: Tensor | None, labels: Tensor | None
    ) -> Tensor:
        """Return the weighted sum of the auxiliary losses, a scalar."""
        loss = modulation.shift.new_zeros(())
        if not self.training:
            return loss
        if touched is not None and self.has_reliability and self.intact_weight:
            loss = loss + self.intact_weight * intact_loss(modulation.shift + START, touched, batch.present)
        if modulation.embeddings is not None and self.agreement_weight:
            untouched = batch.present.any(1) if touched is None else ~touched.any(1)
            most = len(untouched) // 2 if self.copies else None
            loss = loss + self.agreement_weight * agreement_loss(
                modulation.embeddings, untouched, batch.present, labels, most=most
            )
        own = self.own_loss(modulation, batch.present, labels)
        return loss if own is None else loss + own

    def __getstate__(self) -> dict[str, Any]:
        # The last loss belongs to a graph, which neither pickles nor deep-copies.
        return {**super().__getstate__(), "_last_loss": None}  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Return the modalities with size and layout, for repr."""
        return ", ".join(f"{name}={size} ({self.layouts[name]})" for name, size in self.sizes.items())
