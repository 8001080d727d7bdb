"""The validation score, by which states are kept and training stops; several processes share the work.

Counts and sums are joined exactly: an instance is counted in one process and in one alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from concordant import seeding
from concordant.calibration import Perturbation
from concordant.data.split import LabelKind
from concordant.training.batches import AnyTensors, Piece, Tensors, share_of, slices, split_batch

if TYPE_CHECKING:
    from concordant.calibration.distributed import Ranks
    from concordant.training.model import MultimodalModel
    from concordant.training.prefetch import Clock

VALIDATION_COPIES = 2  # perturbed copies of the validation part: one alone is a noisy judge
_EVALUATION_BATCH = 512


def validation_score(
    model: MultimodalModel,
    valid: AnyTensors,
    settings: Perturbation | None,
    seed: int,
    *,
    kind: LabelKind = "class",
    ranks: Ranks | None = None,
    clock: Clock | None = None,
) -> tuple[float, float]:
    """Return the validation score, the higher the better, and its standard error.

    The score is accuracy, in [0, 1], or for real labels minus the mean absolute error: untouched, or the mean of
    untouched and perturbed copies. The perturbations are the same at every call with the same seed.

    Args:
        model: in evaluation mode.
        valid: the validation part, whole.
        settings: of the perturbed copies; None = none.
        seed: of the run.
        kind: of the labels.
        ranks: the processes that share the work, each of which gets the same score; None = this one alone.
        clock: runs while data are waited for.
    """
    names = ("validation",) if ranks is None or ranks.whole else ("validation", ranks.rank)
    draws = seeding.generator(seed, *names, device=valid.labels.device)
    copies = VALIDATION_COPIES if settings is not None else 1
    clean = hurt = squares = 0.0
    with torch.no_grad():
        for _ in range(copies):
            for batch, counted in _shared(model, valid, ranks, clock):
                logits = model(batch.inputs, batch.masks, batch.present, perturbation=settings, generator=draws).logits
                labels = batch.labels.repeat(len(logits) // len(batch))
                if kind == "class":
                    values = (logits.argmax(1) == labels).float()
                else:
                    values = -(logits[:, 0].float() - labels).abs()
                if counted:
                    clean += float(values[: len(batch)].sum())
                    hurt += float(values[len(batch) :].sum())
                    squares += float((values**2).sum()) / (len(logits) // len(batch))
    if ranks is not None:
        clean, hurt, squares = ranks.total(clean, hurt, squares)
    count = copies * len(valid)
    clean, hurt = clean / count, hurt / count
    score = clean if settings is None else (clean + hurt) / 2
    # Copies of an instance are no further evidence, so the error is that of the instances alone.
    spread = score * (1 - score) if kind == "class" else max(0.0, squares / count - score**2)
    return score, math.sqrt(spread / len(valid))


def _shared(
    model: MultimodalModel, valid: AnyTensors, ranks: Ranks | None, clock: Clock | None
) -> Iterator[tuple[Tensors, bool]]:
    """Yield a process's rows of each chunk of the part, and whether they count here.

    Fewer instances than processes, which a last chunk may have, go through all processes and count in the first.
    """
    chunks = list(slices(len(valid), min(_EVALUATION_BATCH, valid.most)))
    pieces = [_piece(chunk, ranks) for chunk in chunks]
    rows = [
        slice(chunk.start + one.rows.start, chunk.start + one.rows.stop)
        for chunk, one in zip(chunks, pieces, strict=True)
    ]
    for batch, piece in zip(valid.batches(rows, clock), pieces, strict=True):
        split = ranks is not None and len(piece.counts) > 1
        if ranks is not None:
            ranks.rows = piece.counts
        model.calibrator.ranks = ranks if split else None
        yield batch, ranks is None or split or ranks.rank == 0
    model.calibrator.ranks = None


def _piece(chunk: slice, ranks: Ranks | None) -> Piece:
    count = chunk.stop - chunk.start
    if ranks is None or count < ranks.size:
        return Piece(share_of(count, 0, 1), (count,), 1.0)
    return split_batch(count, rank=ranks.rank, size=ranks.size)[0]
