"""The frame that every calibrator shares: checks, training perturbations, scaling, auxiliary loss.

A subclass only says how reliability and gates come from the summaries. What is scaled are the original
features, in their own layout; nothing is resampled or fused.
Shapes: reliability (B, M); gates (B, D) a modality; support and conflict (B, M, M).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.calibration.across import whole_batch
from concordant.calibration.comparison import support_and_conflict
from concordant.calibration.finite import require_finite, surely_finite
from concordant.calibration.fused import fused
from concordant.calibration.modulation import START, reliability_from_shift
from concordant.calibration.objective import FEWEST_CLASSES, agreement_loss, clean_loss
from concordant.calibration.perturbation import Perturbation, as_settings, perturb
from concordant.calibration.perturbation_vectors import side_by_side
from concordant.calibration.ranks import Ranks
from concordant.calibration.result import Calibration, Modulation, Summaries
from concordant.calibration.scaling import scaled
from concordant.calibration.summary import (
    RunningStandardiser,
    emptied,
    energy,
    pool,
    pool_and_judge,
    standardise_together,
    valid_positions,
)
from concordant.calibration.tolerance import Tolerant
from concordant.calibration.tracing import exporting, values_are_known
from concordant.errors import ConcordantError, UsageError
from concordant.modalities import ModalityBatch, check_sizes, gather, to_positions

Pooled = dict[str, Tensor] | Tensor  # by modality (B, S), or of vectors of one size side by side (M, B, S)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer in the input's precision, whatever the dtype of its parameters."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def promoted(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors in one dtype, that of the most precise."""
    if len({tensor.dtype for tensor in tensors}) == 1:
        return list(tensors)
    dtype = max((tensor.dtype for tensor in tensors), key=lambda dtype: dtype.itemsize)
    return [tensor.to(dtype) for tensor in tensors]


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer that gives zeros until it is trained."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _full_precision(device: str) -> AbstractContextManager[object]:
    """Switch autocast off where it is on; an exported graph has none, and its formats know none."""
    if exporting() or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device_type=device, enabled=False)


def _positions(batch: ModalityBatch, index: int) -> tuple[Tensor, Tensor | None]:
    """Return a modality's features as (B, L, D), and bool (B, L) or (B, 1), which of them count; None = all."""
    name = batch.names[index]
    flat = to_positions(batch.features[name], batch.layouts[name])
    return flat, None if batch.all_present else valid_positions(batch.present[:, index], batch.masks.get(name))


class Calibrator(Tolerant):
    """Base of the contextual calibrator and of its rivals; see `ContextualCalibrator` for the arguments."""

    has_reliability = True  # False where reliability is constant and detection makes no sense
    classes: int | None = None  # of the task, where a subclass is told
    needs_classes = False  # True where the loss needs labels, however few classes there are
    fewest = 2  # modalities

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        clean_weight: float = 0.5,
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
        for name, value in (("clean_weight", clean_weight), ("agreement_weight", agreement_weight)):
            if not value >= 0:
                faults.append(f"{name} must not be negative; found {value}")
        if not 0 <= dropout < 1:
            faults.append(f"dropout must lie in [0, 1); found {dropout}")
        if faults:
            raise UsageError("; ".join(faults))
        self.nonfinite = nonfinite
        self.perturbation = as_settings(perturbation)
        self.clean_weight = clean_weight
        self.agreement_weight = agreement_weight
        self.dropout = dropout
        # A vector has no spread; "auto" is ready for sequences and maps, which have.
        self.spread = {name: layout != "bd" for name, layout in self.layouts.items()}
        self.standardise = nn.ModuleDict({name: RunningStandardiser(self.summary_size(name)) for name in sizes})
        self.standardise_energy = nn.ModuleDict({name: RunningStandardiser(self.energy_count(name)) for name in sizes})
        # Of one size: what is done to each can be done to all at once.
        self._alike = len({(sizes[name], self.spread[name]) for name in sizes}) == 1
        #: The processes that share every batch; None = each batch is whole. Whoever trains in several sets it.
        self.ranks: Ranks | None = None
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

    def own_loss(
        self, modulation: Modulation, present: Tensor, labels: Tensor | None, perturbed: Tensor | None = None
    ) -> Tensor | None:
        """Return a subclass's further loss of a training pass, a scalar, or None.

        Args:
            modulation: what `modulate` returned.
            present: bool (B, M).
            labels: class indices (B,), or None.
            perturbed: bool (B, M), what was perturbed, or None.
        """
        return None

    def gather(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> ModalityBatch:
        """Check features, masks and presence; what `forward` does first (see `concordant.modalities.gather`).

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
        perturbed: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Calibration:
        """Calibrate one batch.

        Args:
            features: modality -> features in its layout; or a batch that `gather` or `with_copies` made.
            masks: modality -> bool, True at valid steps.
            present: modality -> bool (B,), True where the instance has the modality.
            labels: class indices (B,), only used in training, where three or more classes make better
                positives for the contrastive loss. With two classes or a regression leave them out.
            perturbed: bool (B, M): what was perturbed already, by the caller; the calibrator then inflicts
                nothing itself.
            generator: the source of the perturbations' draws; None = the global one.

        Raises:
            UsageError: features, masks, presence, labels or `perturbed` have a wrong name, type or shape.
            ConcordantError: a present modality holds NaN or infinity, with nonfinite="raise".
        """
        if isinstance(features, ModalityBatch):
            batch = features
        else:
            batch = gather(features, sizes=self.sizes, layouts=self.layouts, masks=masks, present=present)
        self._check_training(batch, labels, perturbed)
        finite = None
        if self.training and perturbed is None and self.perturbation is not None:
            hurt = perturb(self._finite(batch), self.perturbation, generator=generator)
            batch, perturbed = hurt.batch, hurt.perturbed
            with _full_precision(batch.present.device.type):
                pooled = self._pooled(batch)
        else:
            with _full_precision(batch.present.device.type):
                batch, pooled, finite = self._finite_and_pooled(batch)
            if finite is not None and self.training:  # what is learnt must not come of what is refused
                require_finite(finite, batch.present, self.names)
                finite = None
        with _full_precision(batch.present.device.type):
            summaries = self._summaries(batch, perturbed, pooled)
            modulation = self.modulate(summaries)
            everywhere = summaries.everywhere or batch.everywhere
            loss = self._auxiliary_loss(modulation, batch, perturbed, labels, everywhere=everywhere)
        decision = self.decide(modulation, batch.present)
        left, complete = batch.present, batch.all_present
        if finite is not None:
            left = require_finite(finite, left, self.names)
        if modulation.kept is not None:
            left, complete = left & modulation.kept, False
        shift, gates, stacked = modulation.shift, modulation.gates, modulation.stacked
        known = batch.everywhere and modulation.kept is None
        alone = self._alone(batch)
        if alone is not None:
            shift = torch.where(alone, 0, shift)
            gates, stacked = {name: torch.where(alone, 1, gate) for name, gate in gates.items()}, None
        reliability = reliability_from_shift(self.tolerated(shift))
        cosines = modulation.agreement
        if cosines is None:
            support = conflict = reliability.new_zeros(batch.size, len(self.names), len(self.names))
        else:
            support, conflict = support_and_conflict(cosines)
        if self.training:
            self._last_loss = loss
        return Calibration(
            features=self._scaled(batch, reliability, gates, stacked, pooled),
            names=self.names,
            reliability=reliability if known else torch.where(left, reliability, 0),
            gates=gates,
            support=support,
            conflict=conflict,
            present=left,
            logits=shift + START,
            perturbed=perturbed if self.training else None,
            auxiliary_loss=loss,
            all_present=complete,
            decision=decision,
        )

    def auxiliary_loss(self) -> Tensor:
        """Return the auxiliary loss of the last training forward, to be added to the task's loss; 0 in evaluation.

        Raises:
            ConcordantError: in training mode before any forward.
        """
        if not self.training:
            return next(self.buffers()).new_zeros(())
        if self._last_loss is None:
            raise ConcordantError("auxiliary_loss() has nothing to return: call the calibrator on a batch first")
        return self._last_loss

    def _alone(self, batch: ModalityBatch) -> Tensor | None:
        """Return bool (B, 1), True where an instance has one modality or none; None if that is known to be nowhere."""
        if batch.everywhere and len(self.names) > 1:
            return None
        alone = batch.present.sum(1, keepdim=True) <= 1
        return None if values_are_known() and not bool(alone.any()) else alone

    def _check_training(self, batch: ModalityBatch, labels: Tensor | None, perturbed: Tensor | None) -> None:
        """Refuse labels and `perturbed` that would broadcast into nonsense, and batches of other modalities."""
        if batch.names != self.names:
            raise UsageError(f"the batch was gathered for {list(batch.names)}; the modalities are {list(self.names)}")
        if labels is not None and (labels.is_floating_point() or tuple(labels.shape) != (batch.size,)):
            raise UsageError(
                f"labels must be class indices, integers of shape ({batch.size},); "
                f"found {labels.dtype} {tuple(labels.shape)}"
            )
        if perturbed is not None and (perturbed.dtype != torch.bool or perturbed.shape != batch.present.shape):
            raise UsageError(
                f"perturbed must be a bool tensor of shape {tuple(batch.present.shape)}; "
                f"found {perturbed.dtype} {tuple(perturbed.shape)}"
            )

    def _finite(self, batch: ModalityBatch) -> ModalityBatch:
        """Raise on NaN or infinity in a present modality, or take the modality as absent there."""
        alone = self.ranks is None  # several processes must all come to the check
        if alone and values_are_known() and all(surely_finite(x) for x in batch.features.values()):
            return batch
        columns = []
        for index, name in enumerate(batch.names):
            here = batch.present[:, index]
            if name in batch.features:
                flat, valid = _positions(batch, index)
                if valid is not None:
                    flat = torch.where(valid.unsqueeze(-1), flat.detach(), 0)
                here = here & torch.isfinite(flat.detach()).flatten(1).all(1)
            columns.append(here)
        finite = torch.stack(columns, 1)
        # An exported graph cannot raise: what it cannot use is absent to it.
        if self.nonfinite == "absent" or exporting():
            return replace(batch, present=finite, all_present=False)
        present = batch.present
        if self.ranks is not None:  # all processes raise, or none does: the others would wait for ever
            finite, present = self.ranks.gather(finite, present)
        checked = require_finite(finite, present, batch.names)
        return replace(batch, present=checked if self.ranks is None else batch.present)

    def _finite_and_pooled(self, batch: ModalityBatch) -> tuple[ModalityBatch, Pooled, Tensor | None]:
        """Do the same, and return the summaries (B, S) too, which tell where values are known.

        A mean is finite only if all that went into it is, so that features need not be read for this alone.

        Returns:
            The batch, its summaries, and bool (B, M), what is finite, where that is still to be required: a GPU is
            asked at the end, so that it need not wait for the answer before it goes on.
        """
        if self.ranks is None and any(self.spread[n] and fused(x) for n, x in batch.features.items()):
            return self._judged(batch)
        if values_are_known() and self.ranks is None:
            pooled = self._pooled(batch)
            every = [pooled] if isinstance(pooled, Tensor) else [*pooled.values()]
            whole = isinstance(pooled, Tensor) or all(name in pooled for name in batch.features)
            if whole and all(surely_finite(x) for x in every):
                return batch, pooled, None
        checked = self._finite(batch)
        return checked, self._pooled(checked), None

    def _judged(self, batch: ModalityBatch) -> tuple[ModalityBatch, Pooled, Tensor | None]:
        """Do the same with kernels, which tell summaries and what is finite from one read."""
        pooled, columns = {}, []
        for index, name in enumerate(self.names):
            here = batch.present[:, index]
            if name in batch.features:
                pooled[name], finite = pool_and_judge(*_positions(batch, index), spread=self.spread[name])
                here = here & finite
            columns.append(here)
        finite = torch.stack(columns, 1)
        if self.nonfinite == "raise":
            return batch, pooled, finite
        empty = {n: emptied(x, finite[:, self.names.index(n)], spread=self.spread[n]) for n, x in pooled.items()}
        return replace(batch, present=finite, all_present=False), empty, None

    def _pooled(self, batch: ModalityBatch) -> Pooled:
        """Return modality -> its summary (B, S) before it is standardised; none where no features are.

        Vectors of one size are their own summaries: they are returned side by side, (M, B, S).
        """
        if self._alike and not any(self.spread.values()) and self.ranks is None and not torch.compiler.is_compiling():
            vectors = side_by_side(batch)
            if vectors is not None:
                return vectors
        return {
            name: pool(*_positions(batch, index), spread=self.spread[name])
            for index, name in enumerate(self.names)
            if name in batch.features
        }

    def _summaries(self, batch: ModalityBatch, perturbed: Tensor | None, pooled: Pooled | None = None) -> Summaries:
        """Standardise every modality's summary; in training learn the running statistics on the way."""
        pooled = self._pooled(batch) if pooled is None else pooled
        if isinstance(pooled, Tensor):
            dtype = torch.promote_types(pooled.dtype, torch.float32)
            return self._stacked_summaries(batch, perturbed, pooled.to(dtype))
        together = self._alike and self.ranks is None and not torch.compiler.is_compiling()
        if together and len(pooled) == len(self.names):
            raw = torch.stack(promoted([pooled[name] for name in self.names]))
            return self._stacked_summaries(batch, perturbed, raw)
        vectors, energies = {}, {}
        reference = next(iter(batch.features.values()))
        for index, name in enumerate(self.names):
            here, spread = batch.present[:, index], self.spread[name]
            if name in pooled:
                summary = pooled[name]
            else:
                dtype = torch.promote_types(reference.dtype, torch.float32)
                summary = reference.new_zeros(batch.size, self.summary_size(name), dtype=dtype)
            loudness = energy(summary, spread=spread)
            if self.training:
                rows = here if perturbed is None else here & ~perturbed[:, index]
                learnt = [summary.detach(), loudness.detach(), rows]
                if self.ranks is not None:
                    learnt = self.ranks.gather(*learnt)
                self.standardise[name].update(learnt[0], learnt[2])  # type: ignore[operator]
                self.standardise_energy[name].update(learnt[1], learnt[2])  # type: ignore[operator]
            vectors[name] = self.standardise[name](summary)
            energies[name] = self.standardise_energy[name](loudness)
        return Summaries(vectors, energies, batch.present)

    def _stacked_summaries(self, batch: ModalityBatch, perturbed: Tensor | None, raw: Tensor) -> Summaries:
        """Do the same with all modalities at once, which are of one size: from (M, B, S)."""
        values = torch.cat([raw, energy(raw, spread=self.spread[self.names[0]])], 2)
        rows = None
        if self.training:
            rows = (batch.present if perturbed is None else batch.present & ~perturbed).T
        parts = [(self.standardise[name], self.standardise_energy[name]) for name in self.names]
        both = standardise_together(parts, values, rows)  # type: ignore[arg-type]
        vectors, energies = torch.split(both, [raw.shape[2], both.shape[2] - raw.shape[2]], 2)
        return Summaries(
            dict(zip(self.names, vectors.unbind(), strict=True)),
            dict(zip(self.names, energies.unbind(), strict=True)),
            batch.present,
            stacked=(vectors, energies),
            everywhere=batch.everywhere or (values_are_known() and bool(batch.present.all())),
        )

    def _scaled(
        self,
        batch: ModalityBatch,
        reliability: Tensor,
        gates: Mapping[str, Tensor],
        stacked: Tensor | None = None,
        pooled: Pooled | None = None,
    ) -> dict[str, Tensor]:
        """Return the original features times reliability and gate.

        Padded steps and absent modalities pass as they are, but for NaN and infinity, which become 0.
        """
        if stacked is not None and isinstance(pooled, Tensor):
            scale = (reliability.T.unsqueeze(2) * stacked).to(pooled.dtype)
            found = dict(zip(self.names, (pooled * scale).unbind(), strict=True))
            return {name: found[name] for name in batch.features}
        if stacked is not None:
            scales = (reliability.T.unsqueeze(2) * stacked).unbind()
        else:
            scales = tuple(reliability[:, index, None] * gates[name] for index, name in enumerate(self.names))
        result = {}
        for index, name in enumerate(self.names):
            if name in batch.features:
                x = batch.features[name]
                valid = None if batch.all_present else valid_positions(batch.present[:, index], batch.masks.get(name))
                result[name] = scaled(x, scales[index].to(x.dtype), batch.layouts[name], valid)
        return {name: result[name] for name in batch.features}

    def _auxiliary_loss(
        self,
        modulation: Modulation,
        batch: ModalityBatch,
        perturbed: Tensor | None,
        labels: Tensor | None,
        *,
        everywhere: bool,
    ) -> Tensor:
        """Return the weighted sum of the auxiliary losses, a scalar; `everywhere`: presence is known to be True."""
        if not self.training:
            return modulation.shift.new_zeros(())
        present, copies = batch.present, batch.copies
        everywhere = everywhere and batch.size > 0 and len(self.names) > 1
        if self.ranks is not None and self.ranks.whole:
            modulation, present, perturbed, labels = whole_batch(self.ranks, modulation, present, perturbed, labels)
            everywhere = copies = False
        losses = []
        if perturbed is not None and self.has_reliability and self.clean_weight:
            asked = clean_loss(modulation.shift + START, perturbed, present, everywhere=everywhere)
            losses.append(self.clean_weight * asked)
        if modulation.embeddings is not None and self.agreement_weight:
            untouched = present.any(1) if perturbed is None else ~perturbed.any(1)
            few = self.classes is not None and self.classes < FEWEST_CLASSES
            found = agreement_loss(
                modulation.embeddings,
                untouched,
                present,
                None if few else labels,
                most=len(untouched) // 2 if copies else None,
                everywhere=everywhere,
            )
            losses.append(self.agreement_weight * found)
        own = self.own_loss(modulation, present, labels, perturbed)
        if own is not None:
            losses.append(own)
        return sum(losses[1:], losses[0]) if losses else modulation.shift.new_zeros(())

    def __getstate__(self) -> dict[str, Any]:
        # The last loss belongs to a graph, and ranks to running processes: neither pickles nor deep-copies.
        return {**super().__getstate__(), "_last_loss": None, "ranks": None}  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Return the modalities with size and layout, for repr."""
        return ", ".join(f"{name}={size} ({self.layouts[name]})" for name, size in self.sizes.items())
