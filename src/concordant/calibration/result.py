"""What goes into a calibration and what comes out of it, as plain records.

Shapes: summaries (B, S), energies (B, E), reliability (B, M), gates (B, D), agreement (B, M, M).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Calibration:
    """What a calibrator returns: the calibrated features, and why they are what they are.

    Args:
        features: modality -> the original features times reliability and gate, blended with the expected ones where
            the calibrator fills; same shape, dtype, device.
        names: the modalities in the declared order, the order of every M axis here.
        reliability: (B, M), in (0, 1.05); 1 = taken as it is, near 0 = suppressed; 0 where absent.
        gates: modality -> (B, D), in (0.5, 1.5).
        support: (B, M, M), in [0, 1]: the positive part of the agreement of two modalities.
        conflict: (B, M, M), in [0, 1]: its negative part.
        present: bool (B, M), the modalities that were taken as present.
        logits: (B, M); sigmoid(logits) reads as the probability that the modality is clean.
        perturbed: bool (B, M) in training, True where a modality was perturbed; None in evaluation.
        auxiliary_loss: a scalar to add to the task's loss; 0 in evaluation.
        all_present: True when every instance is known to have every modality at every position; a fusion then needs
            neither masks nor presence.
        decision: logits (B, C) of a method that decides itself and stands in for the fusion; None otherwise.
        fused: (B, H), the factor of the vector before the fusion's head, of a method that calibrates there instead of
            before the fusion; None otherwise.
        expected: modality -> (B, D), the features that the other modalities let one expect, of every declared modality;
            empty where the calibrator does not fill.
    """

    features: dict[str, Tensor]
    names: tuple[str, ...]
    reliability: Tensor
    gates: dict[str, Tensor]
    support: Tensor
    conflict: Tensor
    present: Tensor
    logits: Tensor
    perturbed: Tensor | None
    auxiliary_loss: Tensor
    all_present: bool = False
    decision: Tensor | None = None
    fused: Tensor | None = None
    expected: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Summaries:
    """Standardised summaries and energies, and presence.

    Args:
        vectors: modality -> (B, S).
        energies: modality -> (B, E).
        present: bool (B, M).
    """

    vectors: dict[str, Tensor]
    energies: dict[str, Tensor]
    present: Tensor


@dataclass(frozen=True)
class Modulation:
    """What a calibrator makes of the summaries.

    Args:
        shift: (B, M), added to the starting logit of 3.
        gates: modality -> (B, D).
        agreement: cosines (B, M, M), or None where modalities are not compared.
        embeddings: unit vectors (B, M, K) for the contrastive loss, or None.
        unimodal: (B, M, C), logarithms of the probabilities that each modality gives the classes by itself, or None.
        kept: bool (B, M), False where a method leaves a modality out in training, or None.
        decision: logits (B, C) that stand in for the fusion's, or None.
        misfit: (B, M), how far the expected features are from the actual ones, in standardised units, or None.
    """

    shift: Tensor
    gates: dict[str, Tensor]
    agreement: Tensor | None = None
    embeddings: Tensor | None = None
    unimodal: Tensor | None = None
    kept: Tensor | None = None
    decision: Tensor | None = None
    misfit: Tensor | None = None
