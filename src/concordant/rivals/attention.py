"""Attention over modalities: each is weighed by the relation of its summary to the mean of all summaries.

Hori et al., "Attention-Based Multimodal Fusion for Video Description", ICCV 2017: modalities are attended to like
positions, by additive attention (Bahdanau et al., ICLR 2015), before they are added. Here the query is the mean of all
summaries in a common space. A fusion of any kind follows, so the weights scale the original features, relative to the
highest weight, which is 1 before training. The rest is as in the contextual calibrator: standardised summaries and
energies, perturbations and both auxiliary losses. Weights are instance-wise, as in attention; there are no gates.
Shapes: summaries (B, S_m) -> keys (B, M, K), query (B, K) -> scores (B, M) -> reliability (B, M) in (0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import nn

from concordant import seeding
from concordant.calibration.base import Calibrator, Options, linear, zero_linear
from concordant.calibration.comparison import agreement, normalise
from concordant.calibration.modulation import shift_from_reliability
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import checks
from concordant.rivals.base import register, relative_weights, summary_of, ungated


@register(
    "attention",
    "attention over modalities: weights from each summary beside the mean of all",
    "Hori et al., ICCV 2017",
)
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
        self, sizes: Mapping[str, int], *, hidden: int = 32, seed: int | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(sizes, **options)
        with checks() as check:
            self.hidden = hidden = check.integer("hidden", hidden, 2)
        base = seeding.chosen(seed)
        self.keys, self.attend, self.score = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for name in self.names:
            with seeding.scope(base, "calibrator", "attention", name):
                self.keys[name] = nn.Linear(self.summary_size(name), hidden)
                self.attend[name] = nn.Linear(2 * hidden + self.energy_count(name), 2 * hidden)
                self.score[name] = zero_linear(2 * hidden, 1)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return relative attention weights as shifts."""
        raw = [linear(self.keys[name], summary_of(self, summaries, name)) for name in self.names]
        embeddings = normalise(torch.stack(raw, 1))  # (B, M, K), unit length
        keys = embeddings * self.hidden**0.5
        here = summaries.present.unsqueeze(2)
        count = here.sum(1).clamp(min=1)
        query = torch.where(here, keys, 0).sum(1) / count  # (B, K)
        scores = []
        for index, name in enumerate(self.names):
            inputs = torch.cat([keys[:, index], query, summaries.energies[name]], 1)
            hidden = F.gelu(linear(self.attend[name], inputs))
            scores.append(linear(self.score[name], hidden).squeeze(1))
        shift = shift_from_reliability(relative_weights(torch.stack(scores, 1), summaries.present))
        found = agreement(embeddings, summaries.present)
        return ungated(shift, self.sizes, agreement=found, embeddings=embeddings)
