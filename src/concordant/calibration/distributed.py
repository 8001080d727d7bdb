"""Processes that train one model together, each on its own rows of every batch.

A process of rank r holds its rows of a batch; joined in the order of the ranks they are the whole batch. What depends
on a batch as a whole (perturbations, running statistics, the mean of a loss, the contrastive loss) is computed from
gathered rows, with one sequence of draws for all: the split of a batch changes nothing.
Axis letters: b rows of one process, B of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from concordant.calibration.perturbation import Perturbation, Perturbed, beside, perturb, vary, with_copies
from concordant.calibration.result import Modulation
from concordant.errors import UsageError
from concordant.modalities import LAYOUTS, ModalityBatch, from_positions

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Ranks:
    """The processes of a training run, as one of them sees them.

    Give it to a calibrator (`calibrator.ranks = Ranks()`) that is trained in several processes, for instance under
    DistributedDataParallel: its running statistics are then those of the whole batch, equal in every process.
    Each process must call the calibrator equally often.

    Args:
        whole: auxiliary losses, and perturbations by `copies_across`, look at the whole batch; False = at a process's
            own rows alone. In the first case every process has the loss of the whole batch, and gradients for its own
            rows only: the gradients are the whole batch's when they are *summed* over the processes. Multiply the loss
            by `size` where they are averaged, as in DistributedDataParallel.

    Raises:
        UsageError: `torch.distributed` has no process group yet.
    """

    def __init__(self, *, whole: bool = True) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise UsageError(
                "Ranks needs processes that know of each other; call torch.distributed.init_process_group first, "
                "or train in one process without Ranks"
            )
        self.whole = whole
        self.size, self.rank = dist.get_world_size(), dist.get_rank()
        # The rows of each process, where they are known: they need not be exchanged, and copies keep their order.
        self.rows: tuple[int, ...] | None = None
        # A group of its own: these calls and those of a wrapper's backward pass may then come in any order.
        self._group: ProcessGroup | None = dist.new_group()

    def close(self) -> None:
        """Give the connections up; every process must call it."""
        dist.destroy_process_group(self._group)

    def gather(self, *tensors: Tensor, through: bool = False) -> list[Tensor]:
        """Return the rows of all processes, (b, ...) -> (B, ...) per tensor, in the order of the ranks.

        Rows that stand several times, as clean and perturbed copies do, come as one process would have them:
        the first copy of all, then the second.

        Args:
            tensors: equal in number, types and shapes but for b in every process.
            through: let gradients reach the other processes' rows as well; otherwise only a process's own rows
                have any, which saves a message backwards.
        """
        mine = len(tensors[0])
        rows = self.rows
        if rows is None:
            rows = tuple(found[0] for found in self.exchange([mine], tensors[0].device))
        copies = max(1, mine // max(1, rows[self.rank]))
        found: list[Tensor] = [*tensors]
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):  # one order in all processes
            places = [index for index, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([tensors[index].reshape(mine, -1) for index in places], 1)  # (b, F)
            joined = self._join(flat, rows, copies, through=through)
            widths = [tensors[index][:1].numel() for index in places]
            for index, columns in zip(places, torch.split(joined, widths, 1), strict=True):
                found[index] = columns.reshape(len(joined), *tensors[index].shape[1:])
        return found

    def own(self, whole: Tensor) -> Tensor:
        """Return a process's own rows of (B, ...), whose rows are known."""
        rows = self.rows or ()
        start = sum(rows[: self.rank])
        return whole[start : start + rows[self.rank]]

    def total(self, *values: Tensor | float) -> list[float]:
        """Return the sums over all processes, in double precision."""
        device = next((value.device for value in values if isinstance(value, Tensor)), None)
        if device is None:
            nccl = dist.get_backend(self._group) == "nccl"
            device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
        summed = torch.stack([torch.as_tensor(value, device=device).double() for value in values])
        dist.all_reduce(summed, group=self._group)
        return [float(value) for value in summed]

    def copy_first(self, *tensors: Tensor) -> None:
        """Overwrite tensors with those of the first process."""
        for tensor in tensors:
            dist.broadcast(tensor, 0, group=self._group)

    def exchange(self, numbers: list[int], device: torch.device) -> list[list[int]]:
        """Return the numbers of every process, by rank."""
        mine = torch.tensor(numbers, device=device)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(every, mine, group=self._group)
        return [[int(number) for number in one.tolist()] for one in every]

    def _join(self, flat: Tensor, rows: tuple[int, ...], copies: int, *, through: bool) -> Tensor:
        """Return (copies * b, F) of all processes as (copies * B, F)."""
        # Processes may have different rows, but all_gather takes equal shapes.
        padded = F.pad(flat, (0, 0, 0, copies * max(rows) - len(flat)))
        sent = (padded.to(torch.uint8) if flat.dtype == torch.bool else padded).contiguous()
        if through:
            from torch.distributed.nn.functional import all_gather

            every = list(all_gather(sent, group=self._group))  # type: ignore[no-untyped-call]
        else:
            every = self._receive(sent.detach())
        pieces = [piece.to(flat.dtype)[: copies * count] for piece, count in zip(every, rows, strict=True)]
        if not through:
            pieces[self.rank] = flat
        chunks = [piece.unflatten(0, (copies, count)) for piece, count in zip(pieces, rows, strict=True)]
        return torch.cat(chunks, 1).flatten(0, 1)

    def _receive(self, sent: Tensor) -> list[Tensor]:
        every = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(every, sent, group=self._group)
        return every


@contextmanager
def connected(size: int, *, whole: bool = True) -> Iterator[Ranks | None]:
    """Yield `Ranks` for the length of a block; None for one process alone."""
    ranks = Ranks(whole=whole) if size > 1 else None
    try:
        yield ranks
    finally:
        if ranks is not None:
            ranks.close()


def copies_across(
    batch: ModalityBatch,
    settings: Perturbation,
    ranks: Ranks | None,
    *,
    generator: torch.Generator | None = None,
) -> Perturbed:
    """Return a process's own rows of what `with_copies` makes of the whole batch: 2b of them.

    A swap takes its features from any instance of the whole batch, and noise is scaled by the statistics of the whole
    batch. Its features travel to every process, and gradients back to where a swap took its features.

    Args:
        batch: the process's own rows; `ranks.rows` must hold the number of rows of every process.
        settings: which kinds, how strongly.
        ranks: the processes; None, or one with whole=False, = `with_copies` of the own rows.
        generator: the source of all draws, in one state in all processes.
    """
    if ranks is None or not ranks.whole:
        return with_copies(batch, settings, generator=generator)
    with torch.autocast(batch.present.device.type, enabled=False):  # which has no torch.cat of some precisions
        whole = vary(_gathered(batch, ranks), settings.variation, generator=generator)
    perturbed = perturb(whole, replace(settings, variation=0.0), probability=1.0, generator=generator)
    clean = batch if settings.variation == 0 else _own(batch, whole, ranks)
    own = _own(batch, perturbed.batch, ranks)
    return beside(clean, Perturbed(own, ranks.own(perturbed.perturbed), ranks.own(perturbed.kind)))


def whole_batch(
    ranks: Ranks, modulation: Modulation, present: Tensor, perturbed: Tensor | None, labels: Tensor | None
) -> tuple[Modulation, Tensor, Tensor | None, Tensor | None]:
    """Return the arguments of the auxiliary losses for the whole batch; gradients reach a process's own rows only."""
    optional = (modulation.embeddings, modulation.unimodal, modulation.kept, modulation.misfit, perturbed, labels)
    there = [index for index, tensor in enumerate(optional) if tensor is not None]
    given = (tensor for tensor in optional if tensor is not None)
    shift, every_present, *joined = ranks.gather(modulation.shift, present, *given)
    found: list[Tensor | None] = [None] * len(optional)
    for index, tensor in zip(there, joined, strict=True):
        found[index] = tensor
    embeddings, unimodal, kept, misfit, every_perturbed, every_label = found
    # Gates, cosines and decisions belong to the own rows, and no loss looks at them.
    whole = Modulation(shift, {}, embeddings=embeddings, unimodal=unimodal, kept=kept, misfit=misfit)
    return whole, every_present, every_perturbed, every_label


def _own(batch: ModalityBatch, whole: ModalityBatch, ranks: Ranks) -> ModalityBatch:
    """Return a process's own rows with the features that the whole batch has for them."""
    features = {}
    for name, x in batch.features.items():
        own = ranks.own(whole.features[name])[:, : batch.positions(name).shape[1]]
        features[name] = from_positions(own, x, batch.layouts[name])
    return replace(batch, features=features)


def _gathered(batch: ModalityBatch, ranks: Ranks) -> ModalityBatch:
    """Return the whole batch with every modality in the layout "btd", as long as its longest process has it."""
    names = list(batch.features)
    flat = {name: batch.positions(name) for name in names}
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
        all_present=all(one[0] for one in found) and not masks,
    )
