"""Attention over modalities: what is joined is weighed by how each summary stands to the mean of all.

Hori et al., "Attention-Based Multimodal Fusion for Video Description", ICCV 2017: modalities are attended to like
positions, by additive attention (Bahdanau et al., ICLR 2015), before they are added up. Here the query is the mean of
all summaries in a common space; the fusion behind stays whose it is, so the weights scale the original features, each
relative to the highest, so that untrained all pass as they are. Everything that the contextual calibrator has beside
its cues is here too: the standardised summaries and energies, the perturbations and both auxiliary losses; the weight
of a modality is instance-wise, as attention's is, and there are no gates.
Shapes: summaries (B, S_m) -> keys (B, M, K), query (B, K) -> scores (B, M) -> reliability (B, M) in (0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from concordant import seeding
from concordant.calibration.base import Calibrator, linear, zero_linear
from concordant.calibration.comparison import agreement, normalise
from concordant.calibration.modulation import shift_from_reliability
from concordant.calibration.perturbation import Perturbation
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import UsageError
from concordant.rivals.uncertainty import relative_weights


class ModalityAttention(Calibrator):
    """Weigh modalities by additive attention over their summaries.

    Args: as for `ContextualCalibrator`, with
        hidden: dimensions of the common space, 32 as the comparison size; the attention network has twice as many.

    >>> attend = ModalityAttention({"text": 4, "audio": 3}).eval()
    >>> text = torch.randn(2, 4)
    >>> torch.equal(attend({"text": text, "audio": torch.randn(2, 3)}).features["text"], text)
    True
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        hidden: int = 32,
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        clean_weight: float = 0.5,
        agreement_weight: float = 0.2,
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
        if hidden < 2:
            raise UsageError(f"hidden must be 2 or more; found {hidden}")
        self.hidden = hidden
        base = int(torch.randint(2**62, ()).item()) if seed is None else seed
        self.keys, self.attend, self.score = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for name in self.names:
            with seeding.scope(base, "calibrator", "attention", name):
                self.keys[name] = nn.Linear(self.summary_size(name), hidden)
                self.attend[name] = nn.Linear(2 * hidden + self.energy_count(name), 2 * hidden)
                self.score[name] = zero_linear(2 * hidden, 1)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return relative attention weights as shifts."""
        raw = [
            linear(self.keys[name], F.dropout(summaries.vectors[name], self.dropout, self.training))  # type: ignore[arg-type]
            for name in self.names
        ]
        embeddings = normalise(torch.stack(raw, 1))  # (B, M, K), unit length
        keys = embeddings * self.hidden**0.5
        here = summaries.present.unsqueeze(2)
        count = here.sum(1).clamp(min=1)
        query = torch.where(here, keys, 0).sum(1) / count  # (B, K)
        scores = []
        for index, name in enumerate(self.names):
            asked = torch.cat([keys[:, index], query, summaries.energies[name]], 1)
            hidden = F.gelu(linear(self.attend[name], asked))  # type: ignore[arg-type]
            scores.append(linear(self.score[name], hidden).squeeze(1))  # type: ignore[arg-type]
        shift = shift_from_reliability(relative_weights(torch.stack(scores, 1), summaries.present))
        ones = {name: shift.new_ones(shift.shape[0], size) for name, size in self.sizes.items()}
        return Modulation(shift, ones, agreement(embeddings, summaries.present), embeddings)
