"""ContextualCalibrator: every modality judged by what the others say, then scaled, before fusion.

After arXiv 2606.02679, "Before Fusion, Ask What to Keep". The parts are in this folder: summary,
comparison, opinions, modulation, perturbation, objective; here they are joined.
Shapes: summaries (B, S) -> embeddings (B, M, K), opinions (B, M, C) -> cues (B, Q) -> context (B, K) -> shift (B, M),
gates (B, D).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.calibration.base import Calibrator, linear
from concordant.calibration.comparison import PAIR_LIMIT, agreement, cue_count, cues, normalise, pair_cues
from concordant.calibration.modulation import gate_from_activation
from concordant.calibration.perturbation import Perturbation
from concordant.calibration.result import Modulation, Summaries
from concordant.calibration.stacking import dropout_stacked, linear_stacked, several_stacked
from concordant.calibration.tracing import values_are_known
from concordant.calibration.unimodal import CUE_SIZE, certainty, overlap, unimodal_loss
from concordant.errors import UsageError

EVIDENCE = 16  # width of a modality's own evidence


class ModalityHead(nn.Module):
    """The parameters of one modality: W, V, U, a, b and A of the equations."""

    def __init__(self, summary: int, energies: int, queries: int, size: int, k: int) -> None:
        super().__init__()
        self.compare = nn.Linear(summary, k)  # W
        self.context = nn.Linear(queries, k)  # V
        self.evidence = nn.Linear(k + energies, EVIDENCE)  # U
        self.reliability = nn.Linear(k + EVIDENCE, 1)  # a and b
        self.gate = nn.Linear(k, size)  # A
        for last in (self.reliability, self.gate):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def _opinion(summary: int, classes: int) -> nn.Linear:
    """Return the head of one modality's opinion, which starts with a tenth of the usual weights.

    Not with none: the gradients of balanced classes would be rounding, of which Adam makes whole steps. Nor with all of
    them: what they say by chance would have to be unlearnt, which the encoders pay for in the first steps.
    """
    head = nn.Linear(summary, classes)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(0.1)
    return head


class ContextualCalibrator(Calibrator):
    """Scale each modality's features by what the other modalities support and contradict.

    Put it between encoders and fusion. Before training its output equals its input bit for bit. In
    training it perturbs some of the features itself, so that it learns what unreliable looks like, and
    has an auxiliary loss to add to the task's; in evaluation it does neither.

    Args:
        sizes: modality -> feature size D; two modalities or more.
        layouts: the layout of every modality, or modality -> layout: "bd", "btd", "bdt", "tbd", "bchw",
            "bcthw", or "auto" (from the number of axes: 2 "bd", 3 "btd", 4 "bchw", 5 "bcthw"). Say "bd"
            for vectors: the comparison then needs half as many parameters.
        comparison_size: K, the dimensions of the space in which modalities are compared.
        nonfinite: what to do with NaN or infinity in a present modality's features: "raise", or take the
            modality as "absent" in that instance.
        perturbation: what training inflicts; True = the defaults of `Perturbation`, False = nothing (the
            calibrator then learns no reliability).
        clean_weight: weight of the cross-entropy that says which modality was perturbed.
        agreement_weight: weight of the contrastive loss over modality pairs.
        classes: C, where the task has classes and training passes their labels on: every modality then has an opinion
            of its own, and how certain it is and which other opinions it overlaps with are cues as well, so that a
            conflict with a modality that knows little counts for less. 2 or more; None = no opinions.
        unimodal_weight: weight of the opinions' cross-entropy, which teaches the encoders as well; 0.5, or 0.2 for
            features that were extracted beforehand, as `concordant run` and the estimators do.
        dropout: on the standardised summaries, in training; 0.1, or 0.5 with some hundred instances.
        seed: for the initial weights, which depend on it and on the modalities' names but not on their
            order; None = drawn from PyTorch's global generator.

    Raises:
        UsageError: all faults of the arguments at once.

    >>> calibrate = ContextualCalibrator({"text": 4, "audio": 3}, layouts="bd").eval()
    >>> text, audio = torch.randn(2, 4), torch.randn(2, 3)
    >>> out = calibrate({"text": text, "audio": audio})
    >>> torch.equal(out.features["text"], text), out.reliability.shape, out.gates["audio"].shape
    (True, torch.Size([2, 2]), torch.Size([2, 3]))
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        comparison_size: int = 32,
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        clean_weight: float = 0.5,
        agreement_weight: float = 0.2,
        classes: int | None = None,
        unimodal_weight: float = 0.5,
        dropout: float = 0.1,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            sizes,
            layouts=layouts,
            nonfinite=nonfinite,
            perturbation=perturbation,
            clean_weight=clean_weight,
            agreement_weight=agreement_weight,
            dropout=dropout,
        )
        faults = [] if comparison_size >= 2 else [f"comparison_size must be 2 or more; found {comparison_size}"]
        if classes is not None and classes < 2:
            faults.append(f"classes must be 2 or more, or None; found {classes}")
        if not unimodal_weight >= 0:
            faults.append(f"unimodal_weight must not be negative; found {unimodal_weight}")
        if faults:
            raise UsageError("; ".join(faults))
        self.comparison_size = comparison_size
        self.classes, self.unimodal_weight = classes, unimodal_weight
        self.needs_classes = classes is not None
        base = int(torch.randint(2**62, ()).item()) if seed is None else seed
        counts = [self.energy_count(name) for name in self.names]
        self._ranks = sorted(range(len(self.names)), key=self.names.__getitem__)
        self.heads = nn.ModuleDict()
        self.unimodal = nn.ModuleDict()
        for index, name in enumerate(self.names):
            with seeding.scope(base, "calibrator", "context", name):
                queries = cue_count(index, counts)
                if classes is not None:
                    queries += cue_count(index, [1] * len(counts))
                self.heads[name] = ModalityHead(
                    self.summary_size(name), counts[index], queries, self.sizes[name], comparison_size
                )
            if classes is not None:
                with seeding.scope(base, "calibrator", "opinion", name):
                    self.unimodal[name] = _opinion(self.summary_size(name), classes)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Compare the summaries and turn the cues into reliability shifts and gates."""
        if summaries.stacked is not None and len(self.names) <= PAIR_LIMIT:
            return self._modulate_stacked(*summaries.stacked, summaries.present, everywhere=summaries.everywhere)
        present, k = summaries.present, self.comparison_size
        dropped = {name: F.dropout(summaries.vectors[name], self.dropout, self.training) for name in self.names}
        raw = [linear(cast(ModalityHead, self.heads[name]).compare, dropped[name]) for name in self.names]
        embeddings = normalise(torch.stack(raw, 1))  # (B, M, K), unit length
        cosines = agreement(embeddings, present)
        energies = [summaries.energies[name] for name in self.names]
        layer_normed = embeddings * k**0.5  # a layer-normalised vector has length sqrt(K)
        asked = cues(self._ranks, self.cue_values(cosines), energies, present, k)
        opinions = None
        if self.classes is not None:
            said = [linear(cast(nn.Linear, self.unimodal[name]), dropped[name]) for name in self.names]
            opinions = F.log_softmax(torch.stack(said, 1), 2)  # (B, M, C)
            overlaps, certainties = self._unimodal_cues(opinions, present)
            further = cues(self._ranks, overlaps, torch.split(certainties, 1, 1), present, CUE_SIZE)
            asked = [torch.cat(both, 1) for both in zip(asked, further, strict=True)]
        shifts, gates = [], {}
        for index, name in enumerate(self.names):
            judge = cast(ModalityHead, self.heads[name])
            context = F.gelu(linear(judge.context, asked[index]))  # (B, K)
            own = torch.cat([layer_normed[:, index], energies[index]], 1)
            evidence = F.gelu(linear(judge.evidence, own))  # (B, 16)
            shifts.append(linear(judge.reliability, torch.cat([context, evidence], 1)).squeeze(1))
            gates[name] = gate_from_activation(linear(judge.gate, context))
        return Modulation(torch.stack(shifts, 1), gates, cosines, embeddings, opinions)

    def _modulate_stacked(self, vectors: Tensor, energies: Tensor, present: Tensor, *, everywhere: bool) -> Modulation:
        """Do the same for modalities of one size, all at once: one product for what is a layer of each."""
        judges, k = [cast(ModalityHead, self.heads[name]) for name in self.names], self.comparison_size
        dropped = dropout_stacked(vectors, self.dropout if self.training else 0.0)
        looks = [[judge.compare] for judge in judges]
        heads = [cast(nn.Linear, head) for head in self.unimodal.values()]
        shared = bool(heads) and self.unimodal_weight > 0  # else nothing teaches them: no gradient, not one of zeros
        if shared:
            looks = [[judge.compare, head] for judge, head in zip(judges, heads, strict=True)]
        raw = several_stacked(looks, dropped)  # (M, B, K), or (M, B, K + C)
        normed = normalise(raw[:, :, :k])
        embeddings = normed.transpose(0, 1)  # (B, M, K)
        cosines = agreement(embeddings, present, everywhere=everywhere)
        side_by_side = energies.transpose(0, 1).flatten(1)  # (B, M E)
        counts = (energies.shape[2],) * len(judges)
        seen = self.cue_values(cosines)
        opinions = said = None
        if self.classes is not None:
            logits = raw[:, :, k:] if shared else linear_stacked(heads, dropped)
            opinions = F.log_softmax(logits, 2).transpose(0, 1)  # (B, M, C)
            said = self._unimodal_cues(opinions, present, everywhere=everywhere)
        asked = pair_cues(self._ranks, seen, side_by_side, counts, present, k, opinions=said, everywhere=everywhere)
        context = F.gelu(linear_stacked([judge.context for judge in judges], asked.transpose(0, 1)))  # (M, B, K)
        own = torch.cat([normed * k**0.5, energies], 2)
        evidence = F.gelu(linear_stacked([judge.evidence for judge in judges], own))  # (M, B, 16)
        both = torch.cat([context, evidence], 2)
        shift = linear_stacked([judge.reliability for judge in judges], both).squeeze(2).T  # (B, M)
        gates = gate_from_activation(linear_stacked([judge.gate for judge in judges], context))  # (M, B, D)
        named = dict(zip(self.names, gates.unbind(), strict=True))
        return Modulation(shift, named, cosines, embeddings, opinions, stacked=gates)

    def cue_values(self, cosines: Tensor) -> Tensor:
        """Return what the cues show of the agreement (B, M, M): all of it, unless a subclass hides some."""
        return cosines

    def own_loss(
        self, modulation: Modulation, present: Tensor, labels: Tensor | None, perturbed: Tensor | None = None
    ) -> Tensor | None:
        """Return the loss of the opinions on what nobody perturbed; None without opinions or labels."""
        if self.classes is None or modulation.unimodal is None or labels is None or not self.unimodal_weight:
            return None
        if values_are_known() and not torch.equal(labels, labels.clamp(0, self.classes - 1)):  # one look at the device
            raise UsageError(f"labels must lie in 0 to {self.classes - 1}, as classes={self.classes} says")
        counted = present if perturbed is None else present & ~perturbed
        return self.unimodal_weight * unimodal_loss(modulation.unimodal, labels, counted)

    def _unimodal_cues(self, opinions: Tensor, present: Tensor, *, everywhere: bool = False) -> tuple[Tensor, Tensor]:
        """Return what the cues show of the opinions (B, M, C): overlaps (B, M, M) and certainties (B, M)."""
        known = opinions.detach()
        overlaps = overlap(known, present, everywhere=everywhere)
        return self.cue_values(overlaps), certainty(known, present, everywhere=everywhere)
