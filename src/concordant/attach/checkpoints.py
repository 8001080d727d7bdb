"""Checkpoints of attached models and of the models alone: each loads into the other.

The keys of an attached model are the names of its parameters, "model." and "calibrator." before them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

_MODEL, _CALIBRATOR = "model.", "calibrator."  # the wrapper's own prefixes


def without_calibrator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of an attached model without the calibrator, as the original model loads it.

    The attached model may be part of another module, for example of DistributedDataParallel.

    >>> without_calibrator({"model.head.weight": 0, "calibrator.heads.audio.gate.bias": 1})
    {'head.weight': 0}
    """
    places: list[str] = []  # where attached models are: prefixes that have both parts, the outermost first
    for place in sorted({key[: f".{key}".find(f".{_CALIBRATOR}")] for key in state if f".{_CALIBRATOR}" in f".{key}"}):
        inside = any(place.startswith(known + _MODEL) for known in places)
        if not inside and any(key.startswith(place + _MODEL) for key in state):
            places.append(place)

    def renamed(key: str) -> str | None:
        for place in places:
            if key.startswith(place + _CALIBRATOR):
                return None
            if key.startswith(place + _MODEL):
                return place + key[len(place + _MODEL) :]
        return key

    kept = OrderedDict((new, value) for key, value in state.items() if (new := renamed(key)) is not None)
    metadata = getattr(state, "_metadata", None)  # the versions of modules, by prefixes without a dot
    if metadata is None:
        return dict(kept)
    names = ((renamed(f"{key}." if key else key), value) for key, value in metadata.items())
    kept._metadata = OrderedDict((name.rstrip("."), value) for name, value in names if name is not None)  # type: ignore[attr-defined]
    return kept


def before_loading(attached: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
    """Take a checkpoint of the model alone for one of the wrapper, and refuse a calibrator that has no place yet."""
    model = cast(nn.Module, attached.model)
    names = {name for name, _ in (*model.named_parameters(remove_duplicate=False), *model.named_buffers())}
    keys = [key[len(prefix) :] for key in state if key.startswith(prefix)]
    own = sum(key.startswith(_MODEL) and key[len(_MODEL) :] in names for key in keys)
    alone = sum(key in names for key in keys) > own
    metadata = getattr(state, "_metadata", None) if alone else None  # present only on the outermost dictionary
    before = None if metadata is None else dict(metadata)
    if metadata is not None:
        metadata.update({f"{prefix}{_MODEL}{key[len(prefix) :]}".rstrip("."): v for key, v in metadata.items()})
    if alone:
        items = list(state.items())
        state.clear()
        state.update({f"{prefix}{_MODEL}{k[len(prefix) :]}" if k.startswith(prefix) else k: v for k, v in items})
    given = any(key.startswith(prefix + _CALIBRATOR) for key in state)
    attached._loading = (prefix, given, metadata, before)  # type: ignore[assignment]
    if given and getattr(attached, "calibrator", None) is None:
        rest[-1].append(
            "the calibrator of this checkpoint has no place yet: call the attached model on one batch first, or give "
            "attach `sizes` or `example`"
        )


def after_loading(attached: nn.Module, found: Any) -> None:  # noqa: ANN401 - torch's record of missing and unexpected keys
    """Leave a calibrator that was not in the checkpoint out of the missing keys."""
    prefix, given, metadata, before = attached._loading  # type: ignore[misc]
    del attached._loading
    if metadata is not None:  # the caller's dictionary stays unchanged
        metadata.clear()
        metadata.update(before)
    if not given:
        found.missing_keys[:] = [key for key in found.missing_keys if not key.startswith(prefix + _CALIBRATOR)]
