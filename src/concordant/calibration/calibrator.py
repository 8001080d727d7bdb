"""ContextualCalibrator: every modality compared with the others, then scaled, before fusion.

After arXiv 2606.02679, "Before Fusion, Ask What to Keep"; the equations are in docs/method.md. The parts are in this
folder: summary, comparison, unimodal predictions, modulation, perturbation, objective; here they are joined.
Shapes: summaries (B, S) -> embeddings (B, M, K), unimodal predictions (B, M, C) -> cues (B, Q) -> context (B, K) ->
shift (B, M), gates (B, D).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.calibration.base import Calibrator, Nonfinite, Options, linear
from concordant.calibration.comparison import agreement, cue_count, cues, normalise
from concordant.calibration.fill import Absent, Fill, evidence_of_others, predictor
from concordant.calibration.modulation import gate_from_activation
from concordant.calibration.perturbation import Perturbation
from concordant.calibration.result import Modulation, Summaries
from concordant.calibration.unimodal import CUE_SIZE, certainty, overlap
from concordant.errors import checks
from concordant.modalities import LayoutName

EVIDENCE = 16  # width of a modality's own evidence


class ContextualOptions(Options, total=False):
    """Keyword arguments of `ContextualCalibrator`, for classes that are made of it."""

    comparison_size: int
    classes: int | None
    unimodal_weight: float
    fill: Fill
    absent: Absent
    seed: int | None


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


def _unimodal_head(summary: int, classes: int) -> nn.Linear:
    """Return the layer that predicts the classes from one modality, with a tenth of the usual initial weights.

    Not with zeros: the gradients of balanced classes would be rounding errors, which Adam turns into whole steps. Nor
    with the usual weights: random predictions would have to be unlearnt, at the encoders' cost in the first steps.
    """
    head = nn.Linear(summary, classes)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(0.1)
    return head


class ContextualCalibrator(Calibrator):
    """Scale each modality's features by what the other modalities support and contradict.

    Put it between encoders and fusion. Before training its output equals its input bit for bit. In training it perturbs
    some of the features itself, from which it learns to recognise unreliable ones, and has an auxiliary loss to add to
    the task's; in evaluation it does neither.

    Args:
        sizes: modality -> feature size D; two modalities or more.
        layouts: the layout of every modality, or modality -> layout: "bd", "btd", "bdt", "tbd", "bchw",
            "bhwc", "bcthw", "bthwc", or "auto" (from the number of axes: 2 "bd", 3 "btd", 4 "bchw", 5 "bcthw"). Give
            "bd" for vectors: the comparison then needs half as many parameters.
        comparison_size: K, the dimensions of the space in which modalities are compared.
        nonfinite: what to do with NaN or infinity in a present modality's features: "raise", or take the
            modality as "absent" in that instance.
        perturbation: what training inflicts; True = the defaults of `Perturbation`, False = nothing (the
            calibrator then learns no reliability).
        clean_weight: weight of the cross-entropy that teaches which modality is clean; 0.5.
        agreement_weight: weight of the contrastive loss over modality pairs; 0.2.
        classes: C, 2 or more, where the task has classes and training passes their labels on. Every modality then
            predicts the classes by itself; how certain its prediction is, and how far it overlaps with the others', are
            further cues, by which a conflict with a modality that carries little information counts for less. None =
            no unimodal predictions.
        unimodal_weight: weight of the cross-entropy of the unimodal predictions, which teaches the encoders as well;
            0.5, or 0.2 for features that were extracted beforehand, as in `concordant run` and the estimators.
        dropout: on the standardised summaries, in training; 0.1, or 0.5 with some hundred instances.
        fill: what a feature is blended with as its reliability w falls, x' = w g x + (1 - w) b. "none": nothing, it is
            scaled towards zero, which suits a fusion that is trained with the calibrator. "mean": its running mean.
            "context": what the other modalities let one expect of it, which suits a model that is trained already
            (see `fit_plugin`). `Calibration.expected` has b.
        absent: "keep": the features of an absent modality pass as they are. "fill": they become b, for a model that
            does not handle absence; padded steps and modalities that are left out of the call do not.
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
        layouts: LayoutName | Mapping[str, str] = "auto",
        comparison_size: int = 32,
        nonfinite: Nonfinite = "raise",
        perturbation: Perturbation | bool | None = True,
        clean_weight: float = 0.5,
        agreement_weight: float = 0.2,
        classes: int | None = None,
        unimodal_weight: float = 0.5,
        dropout: float = 0.1,
        fill: Fill = "none",
        absent: Absent = "keep",
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
        with checks() as check:
            self.comparison_size = check.integer("comparison_size", comparison_size, 2)
            self.classes = None if classes is None else check.integer("classes", classes, 2, also=", or None")
            self.unimodal_weight = check.number("unimodal_weight", unimodal_weight)
            check.choice("fill", fill, get_args(Fill))
            check.choice("absent", absent, get_args(Absent))
            needs = "absent='fill' needs features to fill with; set fill='context' or fill='mean'"
            check.require(absent != "fill" or fill != "none", needs)
            after = f"{type(self).__name__} does not scale the features, which fill={fill!r} needs; use fill='none'"
            check.require(self.scales_features or fill == "none", after)
        self.fill, self.fills, self.absent = fill, fill != "none", absent
        self.needs_classes = classes is not None
        base = seeding.chosen(seed)
        counts = [self.energy_count(name) for name in self.names]
        self._order = sorted(range(len(self.names)), key=self.names.__getitem__)
        self.heads = nn.ModuleDict()
        self.unimodal = nn.ModuleDict()
        self.predictors = nn.ModuleDict()
        for index, name in enumerate(self.names):
            with seeding.scope(base, "calibrator", "context", name):
                queries = cue_count(index, counts)
                if self.classes is not None:
                    queries += cue_count(index, [1] * len(counts))
                self.heads[name] = ModalityHead(
                    self.summary_size(name), counts[index], queries, self.sizes[name], self.comparison_size
                )
            if self.classes is not None:
                # The name of the stream is older than the attribute's; with it a seed keeps its initial weights.
                with seeding.scope(base, "calibrator", "opinion", name):
                    self.unimodal[name] = _unimodal_head(self.summary_size(name), self.classes)
            if fill == "context":
                with seeding.scope(base, "calibrator", "fill", name):
                    self.predictors[name] = predictor(len(counts) - 1, self.comparison_size, self.sizes[name])

    def modulate(self, summaries: Summaries) -> Modulation:
        """Compare the summaries and turn the cues into reliability shifts and gates; the steps are docs/method.md's."""
        present, k = summaries.present, self.comparison_size
        heads = [cast(ModalityHead, self.heads[name]) for name in self.names]
        u = [F.dropout(summaries.vectors[name], self.dropout, self.training) for name in self.names]  # (B, S) each
        e = [summaries.energies[name] for name in self.names]  # (B, E) each
        z = normalise(torch.stack([linear(head.compare, x) for head, x in zip(heads, u, strict=True)], 1))  # (B, M, K)
        cosines = agreement(z, present)  # (B, M, M)
        queries = cues(self._order, self.shown_cues("agreement", cosines), e, present, k)  # (B, Q) each
        log_p = None
        if self.classes is not None:
            unimodal = [linear(self.unimodal[n], x) for n, x in zip(self.names, u, strict=True)]
            log_p = torch.stack(unimodal, 1).log_softmax(2)  # (B, M, C)
            p = log_p.detach()  # the cues do not teach the unimodal heads
            shared = self.shown_cues("overlap", overlap(p, present))  # (B, M, M)
            sure = self.shown_cues("certainty", certainty(p, present))  # (B, M)
            further = cues(self._order, shared, torch.split(sure, 1, 1), present, CUE_SIZE)
            queries = [torch.cat(both, 1) for both in zip(queries, further, strict=True)]
        shifts, gates = [], {}
        for m, (name, head) in enumerate(zip(self.names, heads, strict=True)):
            h = F.gelu(linear(head.context, queries[m]))  # (B, K)
            t = F.gelu(linear(head.evidence, torch.cat([z[:, m] * k**0.5, e[m]], 1)))  # (B, 16)
            shifts.append(linear(head.reliability, torch.cat([h, t], 1)))  # (B, 1)
            gates[name] = gate_from_activation(linear(head.gate, h))  # (B, D)
        return Modulation(torch.cat(shifts, 1), gates, cosines, z, log_p)

    def expect(self, modulation: Modulation, trust: Tensor) -> dict[str, Tensor]:
        """Return what the embeddings of the other modalities predict, or the mean, which is 0 in standardised units."""
        if self.fill == "mean" or modulation.embeddings is None:
            return {name: trust.new_zeros(len(trust), size) for name, size in self.sizes.items()}
        inputs = evidence_of_others(self._order, modulation.embeddings, trust)
        return {name: linear(self.predictors[name], x) for name, x in zip(self.names, inputs, strict=True)}

    def shown_cues(self, kind: str, values: Tensor) -> Tensor:
        """Return the values from which cues are taken: all of them, unless a subclass hides some.

        Args:
            kind: "agreement", "overlap" (both (B, M, M)) or "certainty" (B, M).
            values: of that kind.
        """
        return values

    def own_loss(
        self, modulation: Modulation, present: Tensor, labels: Tensor | None, perturbed: Tensor | None = None
    ) -> Tensor | None:
        """Return the loss of the unimodal predictions of clean modalities; None without classes or labels."""
        if self.classes is None or modulation.unimodal is None or labels is None or not self.unimodal_weight:
            return None
        counted = present if perturbed is None else present & ~perturbed
        right = labels.view(-1, 1, 1).expand(-1, counted.shape[1], 1)
        likelihoods = modulation.unimodal.gather(2, right).squeeze(2)  # logarithms, (B, M)
        weights = counted.to(likelihoods.dtype)
        return self.unimodal_weight * -(likelihoods * weights).sum() / weights.sum().clamp(min=1)
