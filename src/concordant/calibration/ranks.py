"""Processes that train one model together, each on its own rows of every batch, and what they tell each other.

A process of rank r holds its rows of a batch; joined in the order of the ranks they are the whole batch. What
depends on a batch as a whole (running statistics, the mean of a loss, the contrastive loss) is computed from rows
that were gathered, so that it is what one process would compute from the whole batch.
Axis letters: b rows of one process, B of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from concordant.errors import UsageError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Ranks:
    """The processes of a training run, as one of them sees them.

    Give it to a calibrator (`calibrator.ranks = Ranks()`) that is trained in several processes, for instance under
    DistributedDataParallel: its running statistics are then those of the whole batch, the same in every process.
    Each process must call the calibrator equally often.

    Args:
        whole: auxiliary losses and perturbations made by `concordant.calibration.across` look at the whole batch; False
            = at a process's own rows alone. In the first case every process has the loss of the whole batch, and
            gradients for its own rows only: the gradients are the whole batch's when they are *summed* over the
            processes, so multiply the loss by `size` where they are averaged, as DistributedDataParallel does.

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
        # The rows of each process, where they are known: nobody has to be asked then, and copies keep their order.
        self.rows: tuple[int, ...] | None = None
        # Of its own, so that these calls and those of a wrapper's backward pass may come in any order.
        self._group: ProcessGroup | None = dist.new_group()

    def close(self) -> None:
        """Give the connections up; every process must call it."""
        dist.destroy_process_group(self._group)

    def gather(self, *tensors: Tensor, through: bool = False) -> list[Tensor]:
        """Return the rows of all processes, (b, ...) -> (B, ...) a tensor, in the order of the ranks.

        Rows that stand several times, as untouched and perturbed copies do, come as one process would have them:
        the first copy of all, then the second.

        Args:
            tensors: the same number, types and shapes but for b in every process.
            through: let gradients reach the other processes' rows as well; otherwise only a process's own rows
                have any, which saves a message backwards.
        """
        mine = len(tensors[0])
        rows = self.rows if self.rows is not None else self._ask(mine, tensors[0].device)
        copies = max(1, mine // max(1, rows[self.rank]))
        found: list[Tensor] = [*tensors]
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):  # in the same order everywhere
            places = [index for index, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([tensors[index].reshape(mine, -1) for index in places], 1)  # (b, F)
            joined = self._join(flat, rows, copies, through=through)
            widths = [tensors[index][:1].numel() for index in places]
            for index, part in zip(places, torch.split(joined, widths, 1), strict=True):
                found[index] = part.reshape(len(joined), *tensors[index].shape[1:])
        return found

    def own(self, whole: Tensor) -> Tensor:
        """Return a process's own rows of (B, ...), whose rows are known."""
        rows = self.rows or ()
        start = sum(rows[: self.rank])
        return whole[start : start + rows[self.rank]]

    def total(self, *values: Tensor | float) -> list[float]:
        """Return the sums over all processes, in double precision."""
        device = next((value.device for value in values if isinstance(value, Tensor)), self._device())
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

    def _ask(self, rows: int, device: torch.device) -> tuple[int, ...]:
        return tuple(found[0] for found in self.exchange([rows], device))

    def _join(self, flat: Tensor, rows: tuple[int, ...], copies: int, *, through: bool) -> Tensor:
        """Return (copies * b, F) of all processes as (copies * B, F)."""
        padded = flat.new_zeros(copies * max(rows), flat.shape[1])
        padded = torch.cat([flat, padded[len(flat) :]])
        sent = padded.to(torch.uint8) if flat.dtype == torch.bool else padded
        if through:
            every = list(_Gather.apply(sent, self._group, self.size))  # type: ignore[no-untyped-call]
        else:
            every = self._receive(sent.detach())
        parts = [part.to(flat.dtype)[: copies * count] for part, count in zip(every, rows, strict=True)]
        if not through:
            parts[self.rank] = flat
        pieces = [part.unflatten(0, (copies, count)) for part, count in zip(parts, rows, strict=True)]
        return torch.cat(pieces, 1).flatten(0, 1)

    def _receive(self, sent: Tensor) -> list[Tensor]:
        every = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(every, sent.contiguous(), group=self._group)
        return every

    def _device(self) -> torch.device:
        backend = dist.get_backend(self._group)
        return torch.device("cuda", torch.cuda.current_device()) if backend == "nccl" else torch.device("cpu")


@contextmanager
def connected(size: int, *, whole: bool = True) -> Iterator[Ranks | None]:
    """Have `Ranks` for the length of a block; None for one process alone."""
    ranks = Ranks(whole=whole) if size > 1 else None
    try:
        yield ranks
    finally:
        if ranks is not None:
            ranks.close()


class _Gather(torch.autograd.Function):
    """Gathers equal shapes; backwards each process gets the sum of what all of them have for its part."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor, group: ProcessGroup, size: int) -> tuple[Tensor, ...]:  # noqa: ANN401
        ctx.group, ctx.rank = group, dist.get_rank(group)
        every = [torch.empty_like(sent) for _ in range(size)]
        dist.all_gather(every, sent.contiguous(), group=group)
        return tuple(every)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        summed = torch.stack([gradient.contiguous() for gradient in gradients])
        dist.all_reduce(summed, group=ctx.group)
        return summed[ctx.rank], None, None
