"""What goes into a calibration and what comes out of it, as plain records.

Shapes: summaries (B, S), energies (B, E), reliability (B, M), gates (B, D), cues (B, M, M).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Calibration:
    """What a calibrator returns: the calibrated features, and why they are what they are.

    Args:
        features: modality -> the original features times reliability and gate; same shape, dtype, device.
        names: the modalities in the declared order, the order of every M axis here.
        reliability: (B, M), in (0, 1.05); 1 = taken as it is, near 0 = suppressed; 0 where absent.
        gates: modality -> (B, D), in (0.5, 1.5).
        support: (B, M, M), in [0, 1]: the positive part of the agreement of two modalities.
        conflict: (B, M, M), in [0, 1]: its negative part.
        present: bool (B, M), what the calibrator took as present.
        logits: (B, M); sigmoid(logits) reads as the probability that the modality is intact.
        perturbed: bool (B, M) in training, True where a perturbation hit; None in evaluation.
        auxiliary_loss: a scalar to add to the task's loss; 0 in evaluation.
        all_present: True when no mask and no presence was given or made, so that every position counts.
        decision: logits (B, C) of a method that decides itself and stands in for the fusion; None otherwise.
        fused: (B, H), what the vector before the fusion's head is multiplied by, of a method that calibrates there
            instead of before the fusion; None otherwise.
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


@dataclass(frozen=True)
class Modulation:
    """What a subclass makes of the summaries.

    Args:
        shift: (B, M), added to the starting logit of 3.
        gates: modality -> (B, D).
        agreement: cosines (B, M, M), or None where modalities are not compared.
        embeddings: unit vectors (B, M, K) for the contrastive loss, or None.
        unimodal: (B, M, C), what each modality says of the classes by itself, or None.
        kept: bool (B, M), False where a method that leaves modalities out in training does so, or None.
        stacked: the gates of all modalities, (M, B, D), where these are of one size; saves work.
    """

    shift: Tensor
    gates: dict[str, Tensor]
    agreement: Tensor | None = None
    embeddings: Tensor | None = None
    unimodal: Tensor | None = None
    kept: Tensor | None = None
    stacked: Tensor | None = None


@dataclass(frozen=True)
class Summaries:
    """Standardised summaries (B, S) and energies (B, E) by modality, and presence (B, M).

    Args:
        vectors: modality -> summary.
        energies: modality -> energies.
        present: of the batch.
        stacked: the same of all modalities, (M, B, S) and (M, B, E), where these are of one size; saves work.
        everywhere: presence is known to be True throughout.
    """

    vectors: dict[str, Tensor]
    energies: dict[str, Tensor]
    present: Tensor
    stacked: tuple[Tensor, Tensor] | None = None
    everywhere: bool = False
