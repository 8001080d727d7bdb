"""The frame that every calibrator shares: checks, training perturbations, summaries, scaling, auxiliary loss.

A subclass turns summaries into reliability and gates. The original features are scaled, in their own layout; nothing
is resampled or fused.
Shapes: reliability (B, M); gates (B, D) per modality; support and conflict (B, M, M).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast, get_args

import torch
from torch import Tensor, nn

from concordant.calibration import ops
from concordant.calibration.distributed import Ranks, whole_batch
from concordant.calibration.fill import WEIGHT, blend, fill_loss, in_feature_units, misfit
from concordant.calibration.modulation import START, Tolerant, reliability_from_shift
from concordant.calibration.nonfinite import exporting, finite_where_present, require_finite
from concordant.calibration.objective import FEWEST_CLASSES, agreement_loss, clean_loss
from concordant.calibration.perturbation import Perturbation, as_settings, perturb
from concordant.calibration.result import Calibration, Modulation, Summaries
from concordant.calibration.summary import RunningStandardiser, energy, learn, standardise, summarise
from concordant.errors import ConcordantError, UsageError, checks, shown
from concordant.modalities import LayoutName, ModalityBatch, as_tensor, check_sizes, gather, over, values_are_known

Nonfinite = Literal["raise", "absent"]


class SharedOptions(TypedDict, total=False):
    """Keyword arguments of every calibrator; `ContextualCalibrator` describes them."""

    layouts: LayoutName | Mapping[str, str]
    nonfinite: Nonfinite
    perturbation: Perturbation | bool | None
    dropout: float


class Options(SharedOptions, total=False):
    """Keyword arguments of the calibrators that have the contextual calibrator's losses."""

    clean_weight: float
    agreement_weight: float


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Call a linear layer in the precision of its parameters, and return the input's.

    The layer is called, not its weight read: it may be pruned, parametrised, quantised, adapted or hooked.
    """
    parameter = next(layer.parameters(), None)
    # Quantised layers, without parameters or with integers, take single precision.
    dtype = parameter.dtype if parameter is not None and parameter.is_floating_point() else torch.float32
    if dtype == x.dtype:
        return cast(Tensor, layer(x))
    most = torch.finfo(dtype).max  # half precision overflows soon, and the difference of two infinities is NaN
    return cast(Tensor, layer(x.clamp(-most, most).to(dtype))).clamp(-most, most).to(x.dtype)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer that gives zeros until it is trained."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Calibrator(Tolerant):
    """Base of the contextual calibrator and of its rivals; see `ContextualCalibrator` for the arguments.

    A subclass implements `modulate`, and may set the attributes below and implement `own_loss`.
    """

    has_reliability = True  # False where reliability is constant and detection makes no sense
    classes: int | None = None  # of the task, where a subclass needs them
    needs_classes = False  # True where the loss needs labels, however few classes there are
    fewest = 2  # modalities
    reads_summaries = True  # False: `modulate` gets presence alone, and no statistics are learnt
    scales_features = True  # False: features pass as they are
    fills = False  # True: `expect` gives the features that scaled ones are blended with
    absent = "keep"  # "fill": an absent modality's features become the expected ones

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: LayoutName | Mapping[str, str] = "auto",
        nonfinite: Nonfinite = "raise",
        perturbation: Perturbation | bool | None = True,
        clean_weight: float = 0.5,
        agreement_weight: float = 0.2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.sizes, self.layouts = check_sizes(sizes, layouts, fewest=self.fewest)
        self.names = tuple(self.sizes)
        with checks() as check:
            check.choice("nonfinite", nonfinite, get_args(Nonfinite))
            self.clean_weight = check.number("clean_weight", clean_weight)
            self.agreement_weight = check.number("agreement_weight", agreement_weight)
            self.dropout = check.number("dropout", dropout, 0, 1)
        self.nonfinite = nonfinite
        self.perturbation = as_settings(perturbation)
        # A vector has no spread; "auto" is ready for sequences and maps, which have.
        self.spread = {name: layout != "bd" for name, layout in self.layouts.items()}
        self.standardise = nn.ModuleDict({name: RunningStandardiser(self.summary_size(name)) for name in sizes})
        self.standardise_energy = nn.ModuleDict({name: RunningStandardiser(self.energy_count(name)) for name in sizes})
        #: The processes that share every batch, set by a training loop over several; None = each batch is whole.
        self.ranks: Ranks | None = None
        self._last_loss: Tensor | None = None

    def summary_size(self, name: str) -> int:
        """Return S, the length of a modality's summary."""
        return self.sizes[name] * (2 if self.spread[name] else 1)

    def energy_count(self, name: str) -> int:
        """Return E, the number of energies of a modality: 2 where its summary has a spread, else 1."""
        return 2 if self.spread[name] else 1

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return reliability shifts and gates; every subclass implements it."""
        raise NotImplementedError

    def expect(self, modulation: Modulation, trust: Tensor) -> dict[str, Tensor]:
        """Return the features that the others let one expect, (B, D) each, in standardised units; needed if it `fills`.

        Args:
            modulation: what `modulate` returned.
            trust: (B, M), in [0, 1], the reliability before any tolerance; 0 where absent.
        """
        raise NotImplementedError

    def own_loss(
        self, modulation: Modulation, present: Tensor, labels: Tensor | None, perturbed: Tensor | None = None
    ) -> Tensor | None:
        """Return a subclass's further loss of a training pass, a scalar, or None.

        Args:
            modulation: what `modulate` returned.
            present: bool (B, M).
            labels: class indices (B,), or None.
            perturbed: bool (B, M), or None.
        """
        return None

    def gather(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> ModalityBatch:
        """Check features, masks and presence; what `forward` does first (see `concordant.modalities.gather`).

        NaN and infinity are dealt with here too: copies made of the batch do not spread them.
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
            features: modality -> features in its layout; or a batch from `gather` or `with_copies`.
            masks: modality -> bool, True at valid steps.
            present: modality -> bool (B,), True where the instance has the modality.
            labels: class indices (B,), a tensor or array of any integers, only used in training, where three or more
                classes make better positives for the contrastive loss. With two classes or a regression leave them out.
            perturbed: bool (B, M): what the caller has perturbed already; the calibrator then perturbs nothing itself.
            generator: the source of the perturbations' draws; None = the global one.

        Raises:
            UsageError: features, masks, presence, labels or `perturbed` have a wrong name, type or shape.
            ConcordantError: a present modality holds NaN or infinity, with nonfinite="raise".
        """
        if not isinstance(features, ModalityBatch):
            features = gather(features, sizes=self.sizes, layouts=self.layouts, masks=masks, present=present)
        elif masks or present:
            raise UsageError("a batch of `gather` has masks and presence already; give them to `gather`")
        labels, perturbed = self._check_training(features, labels, perturbed)
        device = features.present.device.type
        # An exported graph must not hold the switch, which its formats lack.
        autocast = torch.is_autocast_enabled(device) and not exporting()
        with torch.autocast(device, enabled=False) if autocast else nullcontext():
            batch = self._finite(features)
            if self.training and perturbed is None and self.perturbation is not None:
                made = perturb(batch, self.perturbation, generator=generator)
                batch, perturbed = made.batch, made.perturbed
            summaries = self._summaries(batch, perturbed)
            modulation = self.modulate(summaries)
            here, kept = batch.present, modulation.kept
            shift, gates = modulation.shift, modulation.gates
            if not batch.all_present or len(self.names) == 1:
                alone = here.sum(1, keepdim=True) <= 1  # nothing to compare with: passes as it is
                shift = torch.where(alone, 0, shift)
                gates = {name: torch.where(alone, 1, gate) for name, gate in gates.items()}
            expected: dict[str, Tensor] = {}
            if self.fills:
                trust = torch.where(here, reliability_from_shift(shift).clamp(max=1), 0)
                standardised = self.expect(modulation, trust)
                for name, b in standardised.items():
                    expected[name] = in_feature_units(b, cast(RunningStandardiser, self.standardise[name]))
                if self.training:
                    modulation = replace(modulation, misfit=misfit(standardised, summaries.vectors))
            loss = self._auxiliary_loss(modulation, batch.present, perturbed, labels)
        reliability = reliability_from_shift(shift if self.training else self.tolerated(shift))  # (B, M)
        if kept is not None:
            here = here & kept
        if kept is not None or not batch.all_present:
            reliability = torch.where(here, reliability, 0)
        cosines = modulation.agreement
        if cosines is None:
            cosines = reliability.new_zeros(batch.size, len(self.names), len(self.names))
        if self.training:
            self._last_loss = loss
        return Calibration(
            features=self._scaled(batch, reliability, gates, expected),
            names=self.names,
            reliability=reliability,
            gates=gates,
            support=cosines.clamp(0, 1),  # rounding may carry a cosine beyond 1
            conflict=(-cosines).clamp(0, 1),
            present=here,
            logits=shift + START,
            perturbed=perturbed if self.training else None,
            auxiliary_loss=loss,
            all_present=batch.all_present and kept is None,
            decision=modulation.decision,
            expected=expected,
        )

    if TYPE_CHECKING:  # that of `torch.nn.Module` takes and returns anything

        def __call__(  # noqa: D102 - `forward` has it
            self,
            features: Mapping[str, Tensor] | ModalityBatch,
            masks: Mapping[str, Tensor] | None = None,
            present: Mapping[str, Tensor] | None = None,
            *,
            labels: Tensor | None = None,
            perturbed: Tensor | None = None,
            generator: torch.Generator | None = None,
        ) -> Calibration: ...

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

    def _check_training(
        self, batch: ModalityBatch, labels: Tensor | None, perturbed: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return labels and `perturbed` as tensors; refuse what would broadcast into nonsense, or other modalities."""
        if batch.names != self.names:
            raise UsageError(f"the batch was gathered for {list(batch.names)}; the modalities are {list(self.names)}")
        given: list[Tensor | None] = []
        for name, what, value, shape in (
            ("labels", "class indices, integers", labels, batch.present.shape[:1]),
            ("perturbed", "a bool tensor", perturbed, batch.present.shape),
        ):
            if value is not None:
                value = value if isinstance(value, Tensor) else as_tensor(value)
                kind = isinstance(value, Tensor) and (value.dtype == torch.bool) == (name == "perturbed")
                if not kind or value.is_floating_point() or value.is_complex() or value.shape != shape:
                    found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
                    raise UsageError(f"{name} must be {what} of shape {tuple(shape)}; found {found}")
                value = value.to(batch.present.device, value.dtype if name == "perturbed" else torch.long)
            given.append(value)
        labels, perturbed = given
        if labels is not None and self.classes is not None and self.training and values_are_known():
            most = self.classes - 1
            if not torch.equal(labels, labels.clamp(0, most)):  # one look at the device, before it fails there
                found = f"found {int(labels.min())} to {int(labels.max())}"
                raise UsageError(f"labels must lie in 0 to {most}, as classes={self.classes} says; {found}")
        return labels, perturbed

    def _finite(self, batch: ModalityBatch) -> ModalityBatch:
        """Raise on NaN or infinity in a present modality, or take the modality as absent there."""
        finite, present = finite_where_present(batch), batch.present
        if self.ranks is None and finite is present:
            return batch
        # An exported graph cannot raise: what it cannot use is absent.
        if self.nonfinite == "absent" or exporting():
            return replace(batch, present=finite, all_present=False)
        if self.ranks is not None:  # all processes raise, or none does: the others would wait for ever
            everywhere = self.ranks.gather(finite, present)
            require_finite(everywhere[0], everywhere[1], batch.names)
            return batch
        return replace(batch, present=require_finite(finite, present, batch.names))

    def _summaries(self, batch: ModalityBatch, perturbed: Tensor | None) -> Summaries:
        """Pool and standardise every modality; in training learn the running statistics on the way."""
        vectors: dict[str, Tensor] = {}
        energies: dict[str, Tensor] = {}
        like = next(iter(batch.features.values()))
        for index, name in enumerate(self.names if self.reads_summaries else ()):
            spread = self.spread[name]
            if name in batch.features:
                summary = summarise(batch.positions(name), batch.valid(name), spread=spread)
            else:
                dtype = torch.promote_types(like.dtype, torch.float32)
                summary = like.new_zeros(batch.size, self.summary_size(name), dtype=dtype)
            both = torch.cat([summary, energy(summary, spread=spread)], 1)  # (B, S + E)
            standardisers = [
                cast(RunningStandardiser, one[name]) for one in (self.standardise, self.standardise_energy)
            ]
            if self.training:
                rows = batch.present[:, index]
                learnt = [both.detach(), rows if perturbed is None else rows & ~perturbed[:, index]]
                learn(standardisers, *(learnt if self.ranks is None else self.ranks.gather(*learnt)))
            vectors[name], energies[name] = standardise(standardisers, both).tensor_split([summary.shape[1]], 1)
        return Summaries(vectors, energies, batch.present)

    def _scaled(
        self,
        batch: ModalityBatch,
        reliability: Tensor,
        gates: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the original features times reliability and gate, blended with the expected ones if there are any.

        Padded steps and, unless they are filled, absent modalities pass as they are, but for NaN and infinity, which
        become 0.
        """
        found = {}
        for name, x in batch.features.items():
            layout, valid = batch.layouts[name], batch.valid(name)
            keep = None if valid is None else over(valid.unsqueeze(2), x, layout)
            if self.scales_features:
                w = reliability[:, self.names.index(name), None]  # (B, 1)
                factor = (w * gates[name]).unsqueeze(1)  # (B, 1, D)
                x = ops.scale(x, over(factor.to(x.dtype), x, layout), keep, axis=layout.batch)
                if name in expected:
                    b = over(expected[name].unsqueeze(1), x, layout)
                    filled = blend(x, over(w.unsqueeze(1), x, layout), b, training=self.training)
                    if self.absent == "fill":  # w is 0 there
                        keep = over(batch.masks[name].unsqueeze(2), x, layout) if name in batch.masks else None
                        absent = over(~batch.column(name)[:, None, None], x, layout)
                        most = torch.finfo(x.dtype).max
                        filled = torch.where(absent, b.clamp(-most, most).to(x.dtype), filled)
                    x = filled if keep is None else torch.where(keep, filled, x)
            elif keep is not None:
                x = ops.clear(x, keep)
            found[name] = x
        return found

    def _auxiliary_loss(
        self, modulation: Modulation, present: Tensor, perturbed: Tensor | None, labels: Tensor | None
    ) -> Tensor:
        """Return the weighted sum of the auxiliary losses, a scalar."""
        total = modulation.shift.new_zeros(())
        if not self.training:
            return total
        if self.ranks is not None and self.ranks.whole:
            modulation, present, perturbed, labels = whole_batch(self.ranks, modulation, present, perturbed, labels)
        if perturbed is not None and self.has_reliability and self.clean_weight:
            total = total + self.clean_weight * clean_loss(modulation.shift + START, perturbed, present)
        if modulation.embeddings is not None and self.agreement_weight:
            clean = present.any(1) if perturbed is None else ~perturbed.any(1)
            few = self.classes is not None and self.classes < FEWEST_CLASSES
            contrast = agreement_loss(modulation.embeddings, clean, present, None if few else labels)
            total = total + self.agreement_weight * contrast
        if modulation.misfit is not None:
            counted = present if perturbed is None else present & ~perturbed
            total = total + WEIGHT * fill_loss(modulation.misfit, counted)
        own = self.own_loss(modulation, present, labels, perturbed)
        return total if own is None else total + own

    def __getstate__(self) -> dict[str, Any]:
        # The last loss belongs to a graph, and ranks to running processes: neither pickles nor deep-copies.
        return {**super().__getstate__(), "_last_loss": None, "ranks": None}  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Return the modalities with size and layout, for repr."""
        return ", ".join(f"{name}={size} ({self.layouts[name]})" for name, size in self.sizes.items())
