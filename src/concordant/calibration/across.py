"""What several processes that share a batch do as one would: perturb it, and take its auxiliary losses.

A swap takes its features from any instance of the whole batch, noise is scaled by the statistics of the whole batch,
and all processes draw the same numbers, so that the split of a batch changes nothing.
Shapes: features in their layouts; inside, (B, L, D) of the whole batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from concordant.calibration.perturbation import Perturbation, Perturbed, beside, perturb, vary, with_copies
from concordant.calibration.ranks import Ranks
from concordant.calibration.result import Modulation
from concordant.modalities import LAYOUTS, ModalityBatch, from_positions, to_positions


def copies_across(
    batch: ModalityBatch,
    settings: Perturbation,
    ranks: Ranks | None,
    *,
    generator: torch.Generator | None = None,
) -> Perturbed:
    """Return what `with_copies` would of the whole batch, for a process's own rows: 2b of them.

    The features of the whole batch travel to every process, and gradients back to where a swap took its features.

    Args:
        batch: the process's own rows, of which `ranks.rows` must say how many every process has.
        settings: which kinds, how strongly.
        ranks: the processes; None, or one with whole=False, = `with_copies` of the own rows.
        generator: the source of all draws, in the same state in every process.
    """
    if ranks is None or not ranks.whole:
        return with_copies(batch, settings, generator=generator)
    whole = vary(_gathered(batch, ranks), settings.variation, generator=generator)
    hurt = perturb(whole, replace(settings, variation=0.0), probability=1.0, generator=generator)
    clean = batch if settings.variation == 0 else _own(batch, whole, ranks)
    own = _own(batch, hurt.batch, ranks)
    return beside(clean, Perturbed(own, ranks.own(hurt.perturbed), ranks.own(hurt.kind)))


def whole_batch(
    ranks: Ranks, modulation: Modulation, present: Tensor, perturbed: Tensor | None, labels: Tensor | None
) -> tuple[Modulation, Tensor, Tensor | None, Tensor | None]:
    """Return what the auxiliary losses look at, of the whole batch; gradients reach a process's own rows only."""
    optional = (modulation.embeddings, modulation.unimodal, modulation.kept, perturbed, labels)
    there = [index for index, tensor in enumerate(optional) if tensor is not None]
    given = (tensor for tensor in optional if tensor is not None)
    shift, everywhere, *joined = ranks.gather(modulation.shift, present, *given)
    found: list[Tensor | None] = [None] * len(optional)
    for index, tensor in zip(there, joined, strict=True):
        found[index] = tensor
    embeddings, opinions, kept, hit, known = found
    # Gates and cosines belong to the own rows, and no loss looks at them.
    whole = replace(
        modulation, shift=shift, gates={}, agreement=None, embeddings=embeddings, unimodal=opinions, kept=kept
    )
    return whole, everywhere, hit, known


def _own(batch: ModalityBatch, whole: ModalityBatch, ranks: Ranks) -> ModalityBatch:
    """Return a process's own rows with the features that the whole batch has for them."""
    features = {}
    for name, x in batch.features.items():
        length = to_positions(x, batch.layouts[name]).shape[1]
        features[name] = from_positions(ranks.own(whole.features[name])[:, :length], x, batch.layouts[name])
    return replace(batch, features=features)


def _gathered(batch: ModalityBatch, ranks: Ranks) -> ModalityBatch:
    """Return the whole batch with every modality in the layout "btd", as long as its longest process has it."""
    names = list(batch.features)
    flat = {name: to_positions(x, batch.layouts[name]) for name, x in batch.features.items()}
    numbers = [int(batch.all_present)]
    for name in names:
        numbers += [flat[name].shape[1], int(name in batch.masks)]
    found = ranks.exchange(numbers, batch.present.device)
    features: list[Tensor] = []
    masks: dict[str, Tensor] = {}
    for place, name in enumerate(names):
        length = flat[name].shape[1]
        longest = max(one[1 + 2 * place] for one in found)
        features.append(F.pad(flat[name], (0, 0, 0, longest - length)))
        if any(one[2 + 2 * place] for one in found) or any(one[1 + 2 * place] != longest for one in found):
            mask = batch.masks.get(name)
            if mask is None:
                mask = torch.ones(batch.size, length, dtype=torch.bool, device=batch.present.device)
            masks[name] = F.pad(mask, (0, longest - length))
    joined = ranks.gather(*features, through=True)
    present, *joined_masks = ranks.gather(batch.present, *masks.values())
    return ModalityBatch(
        names=batch.names,
        features=dict(zip(names, joined, strict=True)),
        masks=dict(zip(masks, joined_masks, strict=True)),
        present=present,
        layouts=dict.fromkeys(names, LAYOUTS["btd"]),
        all_present=all(one[0] for one in found),
    )
