"""Index tensors that depend on the number and the order of modalities alone, made once where values are known."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from concordant.calibration.tracing import values_are_known


def index_of(choose: Callable[..., list[int]], *arguments: Any, device: torch.device) -> Tensor:  # noqa: ANN401
    """Return what a function chooses as an index; in a graph it becomes one of its constants.

    Args:
        choose: from the arguments to places.
        arguments: of it, hashable.
        device: of the index.
    """
    if values_are_known():
        return _kept(choose, arguments, device)
    return torch.tensor(choose(*arguments), device=device)


@lru_cache(maxsize=256)
def _kept(choose: Callable[..., list[int]], arguments: tuple[Any, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # what is made there can never be used in training
        return torch.tensor(choose(*arguments), device=device)
