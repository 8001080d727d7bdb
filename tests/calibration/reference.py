"""The contextual calibrator, equation by equation (docs/method.md), as an independent reference; nothing is fast here.

B batch, L positions (1 for a vector), D_m features of modality m, M modalities, K comparison size, C classes.
A batch is `concordant.modalities.ModalityBatch`; inside, features are (B, L, D_m) and valid is bool (B, L).
"""

import math
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.modalities import from_positions, to_positions

START, TEMPERATURE, FLOOR, CLIP = 3.0, 0.1, 1e-4, 5.0


def summary(x: Tensor, valid: Tensor, spread: bool) -> Tensor:  # (1)
    """Mean over valid positions, with the standard deviation beside it: (B, L, D) -> (B, D) or (B, 2D)."""
    weight, count = valid.unsqueeze(2), valid.sum(1, keepdim=True).clamp(min=1)
    x = torch.where(weight, x, 0).to(torch.promote_types(x.dtype, torch.float32))
    mean = x.sum(1) / count
    deviation = torch.where(weight, x - mean.unsqueeze(1), 0).square().sum(1) / count
    return torch.cat([mean, (deviation + 1e-8).sqrt()], 1) if spread else mean


def energy(s: Tensor, spread: bool) -> Tensor:  # (2)
    """Log root-mean-square of a summary, of each half where it has a deviation: (B, S) -> (B, E)."""
    halves = s.chunk(2, 1) if spread else [s]
    return torch.stack([0.5 * (half.square().mean(1) + 1e-12).log() for half in halves], 1)


class Standardise(nn.Module):  # (2)
    """(s - mean) / std with running statistics of clean, present instances, clipped to +-5."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("updates", torch.zeros(()))

    @torch.no_grad()
    def update(self, s: Tensor, rows: Tensor) -> None:
        weight, count = rows.unsqueeze(1), rows.sum()
        mean = torch.where(weight, s, 0).sum(0) / count.clamp(min=1)
        variance = torch.where(weight, (s - mean).square(), 0).sum(0) / count.clamp(min=1)
        usable = (count > 1) & (mean + variance).isfinite().all()
        self.updates += usable
        step = torch.where(usable, (1 / self.updates.clamp(min=1)).clamp(min=0.05), 0.0)
        self.mean.lerp_(torch.where(usable, mean, self.mean), step)
        self.variance.lerp_(torch.where(usable, variance, self.variance), step)

    def forward(self, s: Tensor) -> Tensor:
        return ((s - self.mean.clone()) / (self.variance.clone() + FLOOR).sqrt()).clamp(-CLIP, CLIP)


def cosines(z: Tensor, present: Tensor) -> Tensor:  # (3)
    """Agreement of every pair of present modalities, 0 on the diagonal: (B, M, K) -> (B, M, M)."""
    both = present.unsqueeze(1) & present.unsqueeze(2) & ~torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    return torch.where(both, z @ z.mT, 0)


def certainty(p: Tensor) -> Tensor:  # (4)
    """1 - 2 H / log C, of log-probabilities (B, M, C)."""
    return 1 + 2 * (p.exp() * p).sum(2) / math.log(p.shape[2])


def overlap(p: Tensor) -> Tensor:  # (4)
    """Twice the Bhattacharyya coefficient less one, of every pair: (B, M, C) -> (B, M, M)."""
    root = (0.5 * p).exp()
    return 2 * root @ root.mT - 1


def cues(c: Tensor, e: list[Tensor], present: Tensor, order: list[int]) -> list[Tensor]:  # (5)
    """The cues of each modality: its agreement with each other, theirs among themselves, energies, presence.

    Beyond six modalities mean, minimum and maximum over the others and over the pairs stand for each.
    """
    here = present.to(c.dtype)
    level = [e[n] * here[:, n, None] for n in range(len(e))]
    found = []
    for m in range(len(e)):
        others = [n for n in order if n != m]
        pairs = list(combinations(others, 2))
        mine, among = c[:, m, others], torch.stack([c[:, a, b] for a, b in pairs] or [c[:, m, m]], 1)[:, : len(pairs)]
        if len(e) <= 6:
            levels = [level[m], *(level[n] for n in others)]
            found.append(torch.cat([mine, among, *levels, here[:, others]], 1))
            continue
        both = torch.stack([present[:, a] & present[:, b] for a, b in pairs], 1)
        groups = [
            (mine, present[:, others] & present[:, m, None]),
            (among, both),
            (torch.stack([e[n][:, 0] for n in others], 1), present[:, others]),
        ]
        spans = [mean_min_max(values, valid) for values, valid in groups]
        found.append(torch.cat([*spans, level[m], here[:, others].mean(1, keepdim=True)], 1))
    return found


def mean_min_max(values: Tensor, valid: Tensor) -> Tensor:
    """(B, N) -> (B, 3), over the valid ones; 0 where there is none."""
    mean = torch.where(valid, values, 0).sum(1) / valid.sum(1).clamp(min=1)
    low, high = torch.where(valid, values, math.inf).amin(1), torch.where(valid, values, -math.inf).amax(1)
    return torch.where(valid.any(1, keepdim=True), torch.stack([mean, low, high], 1), 0)


class Head(nn.Module):
    """The parameters of one modality: W, V, U, (a, b), A."""

    def __init__(self, summary: int, energies: int, queries: int, size: int, k: int) -> None:
        super().__init__()
        self.compare, self.context = nn.Linear(summary, k), nn.Linear(queries, k)  # W, V
        self.evidence = nn.Linear(k + energies, 16)  # U
        self.reliability, self.gate = nn.Linear(k + 16, 1), nn.Linear(k, size)  # a and b, A
        for last in (self.reliability, self.gate):
            nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)


class ContextualCalibrator(nn.Module):
    def __init__(self, sizes, layouts, k=32, classes=None, dropout=0.1, weights=(0.5, 0.2, 0.5)) -> None:
        super().__init__()
        self.sizes, self.layouts, self.k, self.classes, self.dropout, self.weights = (
            sizes,
            layouts,
            k,
            classes,
            dropout,
            weights,
        )
        self.names, M = list(sizes), len(sizes)
        self.spread = {n: layouts[n] != "bd" for n in sizes}
        E = {n: 1 + self.spread[n] for n in sizes}
        S = {n: sizes[n] * E[n] for n in sizes}
        pairs = math.comb(M - 1, 2)
        q = {n: 2 * (M - 1) + pairs + sum(E.values()) if M <= 6 else 10 + E[n] for n in sizes}
        if classes:
            q = {n: q[n] + (2 * (M - 1) + pairs + M if M <= 6 else 11) for n in sizes}
        self.heads = nn.ModuleDict({n: Head(S[n], E[n], q[n], sizes[n], k) for n in sizes})
        self.unimodal = nn.ModuleDict({n: nn.Linear(S[n], classes) for n in sizes} if classes else {})
        self.standardise = nn.ModuleDict({n: Standardise(S[n]) for n in sizes})
        self.standardise_energy = nn.ModuleDict({n: Standardise(E[n]) for n in sizes})
        self.order = sorted(range(M), key=self.names.__getitem__)

    def forward(self, batch, *, labels=None, perturbed=None):
        present = batch.present
        u, e, z, p, scaled = [], [], [], [], {}
        for m, n in enumerate(self.names):
            x = to_positions(batch.features[n], batch.layouts[n])  # (B, L, D)
            valid = present[:, m, None] & batch.masks.get(n, torch.ones_like(x[..., 0], dtype=torch.bool))
            s = summary(x, valid, self.spread[n])  # (B, S)                                           (1)
            level = energy(s, self.spread[n])  # (B, E)                                            (2)
            if self.training:
                rows = present[:, m] & (True if perturbed is None else ~perturbed[:, m])
                self.standardise[n].update(s.detach(), rows)
                self.standardise_energy[n].update(level.detach(), rows)
            u.append(F.dropout(self.standardise[n](s), self.dropout, self.training))
            e.append(self.standardise_energy[n](level))
            z.append(F.layer_norm(self.heads[n].compare(u[m]), (self.k,), eps=1e-12) / self.k**0.5)  # (3)
            if self.classes:
                p.append(self.unimodal[n](u[m]).log_softmax(1))  # (B, C)                              (4)
        z = torch.stack(z, 1)
        c = cosines(z, present)  # (B, M, M)
        queries = cues(c * self.k**0.5 / 2, e, present, self.order)  #                                  (5)
        if self.classes:
            p = torch.stack(p, 1)
            both = present.unsqueeze(1) & present.unsqueeze(2)
            further = cues(
                torch.where(both, overlap(p.detach()), 0), certainty(p.detach()).split(1, 1), present, self.order
            )
            queries = [torch.cat(pair, 1) for pair in zip(queries, further, strict=True)]
        logits, gates = [], {}
        for m, n in enumerate(self.names):
            head = self.heads[n]
            h = F.gelu(head.context(queries[m]))  # (B, K)                                             (6)
            t = F.gelu(head.evidence(torch.cat([z[:, m] * self.k**0.5, e[m]], 1)))  # (B, 16)
            logits.append(START + head.reliability(torch.cat([h, t], 1)))  #                        (7)
            gates[n] = 1 + 0.5 * head.gate(h).tanh()  # (B, D)                                       (8)
        logits = torch.cat(logits, 1)
        alone = present.sum(1, keepdim=True) <= 1
        shift = torch.where(alone, 0, logits - START)
        rest = 1 / (1 + math.exp(START))
        reliability = torch.where(
            present, 1 / (1 + rest * torch.expm1(-shift.clamp(min=-30))), 0
        )  # sigmoid(r)/sigmoid(3)
        for m, n in enumerate(self.names):
            x = to_positions(batch.features[n], batch.layouts[n])
            valid = present[:, m, None] & batch.masks.get(n, torch.ones_like(x[..., 0], dtype=torch.bool))
            scale = (reliability[:, m, None] * torch.where(alone, 1, gates[n])).to(x.dtype).unsqueeze(1)  # (9)
            scaled[n] = from_positions(
                torch.where(valid.unsqueeze(2), x * scale, x), batch.features[n], batch.layouts[n]
            )
        loss = self.loss(logits, z, p, present, perturbed, labels) if self.training else logits.new_zeros(())
        return scaled, reliability, gates, c.clamp(0, 1), (-c).clamp(0, 1), loss

    def loss(self, logits, z, p, present, perturbed, labels):
        perturbed = torch.zeros_like(present) if perturbed is None else perturbed
        losses = [clean_loss(logits, perturbed, present), agreement_loss(z, ~perturbed.any(1), present, labels)]
        if self.classes and labels is not None:
            losses.append(unimodal_loss(p, labels, present & ~perturbed))
        return sum(weight * loss for weight, loss in zip(self.weights, losses, strict=False))


def clean_loss(logits: Tensor, perturbed: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(r) against "this modality is clean"."""
    counted = present & (present.sum(1, keepdim=True) > 1)
    losses = F.binary_cross_entropy_with_logits(logits, (~perturbed).to(logits.dtype), reduction="none")
    return torch.where(counted, losses, 0).sum() / counted.sum().clamp(min=1)


def agreement_loss(z: Tensor, clean: Tensor, present: Tensor, labels: Tensor | None) -> Tensor:
    """Contrast of modality pairs over clean instances, both ways; with 3+ classes, classmates are positives."""
    same = torch.eye(len(z), dtype=torch.bool, device=z.device)
    if labels is not None and len(labels.unique()) >= 3:
        same = labels.unsqueeze(0) == labels.unsqueeze(1)
    total, count = z.new_zeros(()), 0
    for a, b in combinations(range(z.shape[1]), 2):
        rows = (present[:, a] & present[:, b] & clean).nonzero().squeeze(1)
        if len(rows) < 2:
            continue
        near, mine = z[rows, a] @ z[rows, b].T / TEMPERATURE, same[rows][:, rows]
        for side in (near, near.T):
            total = total + (side.logsumexp(1) - side.masked_fill(~mine, -math.inf).logsumexp(1)).sum()
        count += 2 * len(rows)
    return total / max(count, 1)


def unimodal_loss(p: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """Cross-entropy of the unimodal predictions of what is present and clean."""
    right = -p.gather(2, labels.view(-1, 1, 1).expand(-1, p.shape[1], 1)).squeeze(2)
    return (right * counted).sum() / counted.sum().clamp(min=1)
