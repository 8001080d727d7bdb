"""The validation score, which selects checkpoints and stops training; several processes share the work.

Each instance is counted in one process alone, so the score does not depend on their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from concordant import seeding
from concordant.calibration import Perturbation
from concordant.data.split import LabelKind
from concordant.training.batches import AnyTensors, Clock, Tensors, slices, split_batch

if TYPE_CHECKING:
    from concordant.calibration.distributed import Ranks
    from concordant.modalities import ModalityBatch
    from concordant.training.model import MultimodalModel

VALIDATION_COPIES = 2  # perturbed copies of the validation split: the score of one alone is noisy
KEPT_BYTES = 256 << 20  # of features that are kept to be used again
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
    """Return the validation score, higher is better, and its standard error.

    The score is accuracy, in [0, 1], or for real labels minus the mean absolute error: of clean features, or the mean
    over clean and perturbed ones. The perturbations depend on the seed alone.

    Args:
        model: in evaluation mode.
        valid: the whole validation split.
        settings: of the perturbed copies; None = none.
        seed: of the run.
        kind: of the labels.
        ranks: the processes that share the work, each of which gets the score; None = one process.
        clock: measures the time spent waiting for data.
    """
    names = ("validation",) if ranks is None or ranks.whole else ("validation", ranks.rank)
    draws = seeding.generator(seed, *names, device=valid.labels.device)
    copies = VALIDATION_COPIES if settings is not None else 1
    kept: list[ModalityBatch] = []  # features of all chunks, which all copies share
    clean = perturbed = squares = 0.0
    with torch.no_grad():
        for copy in range(copies):
            for number, (batch, counted) in enumerate(_shared(model, valid, ranks, clock)):
                if number < len(kept):
                    features = kept[number]
                else:
                    features = model.encode(batch.inputs, batch.masks, batch.present)
                    size = sum(x.nbytes for x in features.features.values()) / len(batch)
                    if copy == 0 and copies > 1 and size * len(valid) <= KEPT_BYTES:
                        kept.append(features)
                logits = model.calibrate_and_fuse(features, perturbation=settings, generator=draws).logits
                labels = batch.labels.repeat(len(logits) // len(batch))
                if kind == "class":
                    values = (logits.argmax(1) == labels).float()
                else:
                    values = -(logits[:, 0].float() - labels).abs()
                if counted:
                    clean += float(values[: len(batch)].sum())
                    perturbed += float(values[len(batch) :].sum())
                    squares += float((values**2).sum()) / (len(logits) // len(batch))
    if ranks is not None:
        clean, perturbed, squares = ranks.total(clean, perturbed, squares)
    count = copies * len(valid)
    clean, perturbed = clean / count, perturbed / count
    score = clean if settings is None else (clean + perturbed) / 2
    # Copies of an instance are no further evidence, so the error is that of the instances alone.
    variance = score * (1 - score) if kind == "class" else max(0.0, squares / count - score**2)
    return score, math.sqrt(variance / len(valid))


def _shared(
    model: MultimodalModel, valid: AnyTensors, ranks: Ranks | None, clock: Clock | None
) -> Iterator[tuple[Tensors, bool]]:
    """Yield a process's rows of each chunk of the split, and whether they count in this process.

    A chunk with fewer instances than processes goes through all processes and counts in the first.
    """
    rows, counts = [], []
    for chunk in slices(len(valid), min(_EVALUATION_BATCH, valid.most)):
        length = chunk.stop - chunk.start
        several = ranks is not None and length >= ranks.size
        own = split_batch(length, rank=ranks.rank, size=ranks.size) if ranks and several else split_batch(length)
        rows.append(slice(chunk.start + own[0].rows.start, chunk.start + own[0].rows.stop))
        counts.append(own[0].counts)
    for batch, shared in zip(valid.batches(rows, clock), counts, strict=True):
        if ranks is not None:
            ranks.rows = shared
        model.calibrator.ranks = ranks if len(shared) > 1 else None
        yield batch, ranks is None or len(shared) > 1 or ranks.rank == 0
    model.calibrator.ranks = None
