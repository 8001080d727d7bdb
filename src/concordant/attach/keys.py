"""State dictionaries of an attached model: the model's own keys, and the calibrator's under a name of their own.

A checkpoint of the original loads into the attached model as it is (the calibrator then stays as it was). One of the
attached model loads into the original with strict=False, or after `without_calibrator`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

PREFIX = "concordant_calibrator."
_MODEL, _CALIBRATOR = "model.", "calibrator."


def without_calibrator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of an attached model without the calibrator: what the original model loads.

    The attached model may be a part of another (of DistributedDataParallel, for instance).

    >>> without_calibrator({"head.weight": 0, "concordant_calibrator.heads.audio.gate.bias": 1})
    {'head.weight': 0}
    """
    kept = {key: value for key, value in state.items() if f".{PREFIX}" not in f".{key}"}
    metadata = getattr(state, "_metadata", None)  # the versions of modules, which an attribute holds
    if metadata is None:
        return kept
    versioned = OrderedDict(kept)
    versioned._metadata = metadata  # type: ignore[attr-defined]
    return versioned


def keep_keys(attached: nn.Module) -> None:
    """Give a wrapper with the parts `model` and `calibrator` the keys of the model."""
    attached.register_state_dict_post_hook(_saved)  # type: ignore[no-untyped-call]
    attached.register_load_state_dict_pre_hook(_loading)  # type: ignore[no-untyped-call]
    attached.register_load_state_dict_post_hook(_loaded)  # type: ignore[no-untyped-call]


def _saved(_: nn.Module, state: dict[str, Any], prefix: str, __: object) -> None:
    """Rename what the wrapper saved."""
    _rename(state, {prefix + _MODEL: prefix, prefix + _CALIBRATOR: prefix + PREFIX})
    metadata = getattr(state, "_metadata", None)
    if metadata is not None:
        # Beside the wrapper's names, by which a wrapper that is a part of another model finds them again.
        metadata.update(_moved(metadata, prefix + _MODEL, prefix))


def _loading(attached: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
    """Rename what is loaded as the wrapper has it, and remember whether the calibrator is part of it."""
    given = any(key.startswith(prefix + PREFIX) for key in state)
    metadata = getattr(state, "_metadata", None)  # the whole is known where loading begins
    before = None if metadata is None else dict(metadata)
    if metadata is not None:
        metadata.update(_moved(metadata, prefix, prefix + _MODEL))
    attached._loading = (prefix, given, metadata, before)  # type: ignore[assignment]
    if given and getattr(attached, "calibrator", None) is None:
        rest[-1].append(
            "the calibrator of this checkpoint has no place yet: call the attached model on one batch first, or give "
            "attach `sizes` or `example`"
        )
    _rename(state, {prefix + PREFIX: prefix + _CALIBRATOR, prefix: prefix + _MODEL})


def _loaded(attached: nn.Module, found: Any) -> None:  # noqa: ANN401 - torch's record of missing and unexpected keys
    """Say which keys are missing by the model's names; a calibrator that was not in the file is not missed."""
    prefix, given, metadata, before = attached._loading  # type: ignore[misc]
    del attached._loading
    if metadata is not None:  # it belongs to what was loaded
        metadata.clear()
        metadata.update(before)
    for keys in (found.missing_keys, found.unexpected_keys):
        old = list(keys)
        keys.clear()
        for key in old:
            if key.startswith(prefix + _CALIBRATOR):
                if given:
                    keys.append(prefix + PREFIX + key[len(prefix + _CALIBRATOR) :])
            else:
                keys.append(prefix + key[len(prefix + _MODEL) :] if key.startswith(prefix + _MODEL) else key)


def _moved(metadata: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return what is said of modules under one prefix, under another."""
    inside = {key: value for key, value in metadata.items() if f"{key}.".startswith(old)}
    return {(new + key[len(old) :]).rstrip("."): value for key, value in inside.items()}


def _rename(state: dict[str, Any], prefixes: Mapping[str, str]) -> None:
    """Give keys other prefixes, in place and in order; the first prefix that fits counts."""
    items = list(state.items())
    state.clear()
    for key, value in items:
        old = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        state[prefixes.get(old, "") + key[len(old) :] if old in prefixes else key] = value
