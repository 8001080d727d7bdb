"""What goes with tapped features: masks, presence, and the batch size of what is folded into the batch.

A source is a function of the model's inputs, or a tap whose output it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from concord.calibration.attaching.arguments import Arguments
from concord.calibration.attaching.folding import FOLDED
from concord.calibration.attaching.structure import tensors_of
from concord.calibration.attaching.taps import Tap, read_tap
from concord.errors import UsageError
from concord.modalities import AUTO, LAYOUTS

Source = str | Callable[..., Tensor]


def check_sources(argument: str, sources: Mapping[str, Source] | None, names: tuple[str, ...]) -> dict[str, Source]:
    """Return modality -> source.

    Raises:
        UsageError: a modality is unknown, or a source is neither a tap nor a function.
    """
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
        f"{argument}.{name}": read_tap(source, f"{argument}.{name}")
        for name, source in sources.items()
        if isinstance(source, str)
    }


def sourced(source: Source, label: str, found: Mapping[str, Tensor], given: Arguments) -> Tensor:
    """Return what a source says of one batch."""
    return found[label] if isinstance(source, str) else source(*given.args, **given.kwargs)


def batch_size(
    features: Mapping[str, Tensor], layouts: Mapping[str, str], told: Callable[..., int] | None, given: Arguments
) -> int:
    """Return B: as told, or that of a feature whose batch is not folded, or of the model's first tensor."""
    if told is not None:
        return int(told(*given.args, **given.kwargs))
    for name, x in features.items():
        if layouts[name] not in FOLDED and x.dim():
            axis = 0 if layouts[name] == AUTO else LAYOUTS[layouts[name]].batch
            return int(x.shape[min(axis, x.dim() - 1)])
    first = next((x for x in tensors_of((given.args, given.kwargs)) if x.dim()), None)
    return 0 if first is None else int(first.shape[0])
