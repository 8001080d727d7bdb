"""The training parts of all seeds in one place, so that a batch of every seed is one look-up a modality.

Seeds may differ in how many instances they train on, and in which; shapes of an instance must be the same.
Axis letters: S seeds, B of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from concordant import seeding
from concordant.training.batches import Tensors, endless_rows


class Bank:
    """All training parts one behind the other, and every seed's own order of batches.

    Args:
        parts: the training parts, all on one device; the batches are there too.
        seeds: the runs' seeds, one a part.
        batch: instances a step; every part has as many, or they are all of one length.
    """

    def __init__(self, parts: Sequence[Tensors], seeds: Sequence[int], batch: int) -> None:
        self._inputs = {name: torch.cat([part.inputs[name] for part in parts]) for name in parts[0].inputs}
        self._labels = torch.cat([part.labels for part in parts])
        self._masks = _joined(parts, lambda part: part.masks)
        self._present = _joined(parts, lambda part: part.present)
        starts = [0]
        for part in parts:
            starts.append(starts[-1] + len(part))
        self._orders = [
            (start, endless_rows(len(part), batch, seeding.generator(seed, "batches")))
            for start, part, seed in zip(starts, parts, seeds, strict=False)
        ]

    def next(self) -> Tensors:
        """Return the next batch of every seed, (S, B, ...) each."""
        rows = torch.stack([next(order) + start for start, order in self._orders])  # (S, B)
        flat = rows.flatten().to(self._labels.device)

        def take(x: Tensor) -> Tensor:
            return x.index_select(0, flat).reshape(*rows.shape, *x.shape[1:])

        return Tensors(
            inputs={name: take(x) for name, x in self._inputs.items()},
            labels=take(self._labels),
            masks={name: take(mask) for name, mask in self._masks.items()},
            present={name: take(here) for name, here in self._present.items()},
        )

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the seeds at these places alone."""
        self._orders = [self._orders[place] for place in places]


def _joined(parts: Sequence[Tensors], of: Callable[[Tensors], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return masks or presence of all parts; True throughout where a part has no entry and another has."""
    found = {}
    for name in sorted({name for part in parts for name in of(part)}):
        shapes = {tuple(of(part)[name].shape[1:]) for part in parts if name in of(part)}
        shape = next(iter(shapes))
        found[name] = torch.cat([of(part).get(name, _everywhere(part, shape)) for part in parts])
    return found


def _everywhere(part: Tensors, shape: tuple[int, ...]) -> Tensor:
    return torch.ones(len(part), *shape, dtype=torch.bool, device=part.labels.device)
