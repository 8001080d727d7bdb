"""What goes with tapped features: masks, presence, and the batch size of what is folded into the batch.

A source is a function of the model's inputs, or a tap whose output it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

from torch import Tensor

from concordant.attach.arguments import Arguments
from concordant.attach.folding import FOLDED
from concordant.attach.structure import described, tensors_of
from concordant.attach.taps import Tap, read_tap
from concordant.errors import UsageError
from concordant.modalities import AUTO, LAYOUTS

Source = str | Callable[..., Tensor]


def check_sources(argument: str, sources: Mapping[str, Source] | None, names: tuple[str, ...]) -> dict[str, Source]:
    """Return modality -> source.

    Raises:
        UsageError: there is no dictionary, a modality is unknown, or a source is neither a tap nor a function.
    """
    if not isinstance(sources, Mapping | None):
        raise UsageError(
            f"{argument} must be a dictionary from modality to a function of the model's inputs or the name of a "
            f"submodule; found {sources!r}"
        )
    for name, source in (sources or {}).items():
        if name not in names:
            raise UsageError(f"{argument} names {name!r}, which taps does not; the modalities are {', '.join(names)}")
        if not isinstance(source, str) and not callable(source):
            raise UsageError(
                f"{argument}[{name!r}] must be a function of the model's inputs or the name of a submodule; "
                f"found {source!r}"
            )
    return dict(sources or {})


def taps_among(argument: str, sources: Mapping[str, Source]) -> dict[str, Tap]:
    """Return label -> tap of the sources that are taps."""
    return {
        f"{argument}.{name}": read_tap(source, f"{argument}[{name!r}]")
        for name, source in sources.items()
        if isinstance(source, str)
    }


def sourced(source: Source, label: str, found: Mapping[str, Tensor], given: Arguments) -> Tensor:
    """Return what a source says of one batch.

    Raises:
        UsageError: a function returned no tensor.
    """
    if isinstance(source, str):
        return found[label]
    told = source(*given.args, **given.kwargs)
    if not isinstance(told, Tensor):
        raise UsageError(f"the function {label} must return a bool tensor; found {described(told)}")
    return told


def check_batch_size(told: object) -> None:
    """Refuse what is no function.

    Raises:
        UsageError: says what it must be.
    """
    if told is not None and not callable(told):
        raise UsageError(f"batch_size must be a function of the model's inputs that returns B; found {told!r}")


def batch_size(
    features: Mapping[str, Tensor], layouts: Mapping[str, str], told: Callable[..., int] | None, given: Arguments
) -> int:
    """Return B: as told, or that of a feature whose batch is not folded, or of the model's first tensor.

    Raises:
        UsageError: no whole number was told.
    """
    if told is not None:
        rows = told(*given.args, **given.kwargs)
        try:
            return operator.index(rows)
        except TypeError:
            raise UsageError(f"batch_size must return B, a whole number; found {rows!r}") from None
    for name, x in features.items():
        if layouts[name] not in FOLDED and x.dim():
            axis = 0 if layouts[name] == AUTO else LAYOUTS[layouts[name]].batch
            return int(x.shape[min(axis, x.dim() - 1)])
    first = next((x for x in tensors_of((given.args, given.kwargs)) if x.dim()), None)
    return 0 if first is None else int(first.shape[0])
