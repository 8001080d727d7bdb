"""Run any model over a split and collect predictions and reliabilities.

A model is a module of `concordant run` or any callable. It is called as `model(features)`, or as
`model(audio=..., video=...)` where its signature has the modalities' names, with `masks=` and `present=` where it has
those. A model without `present` gets zeros for absent modalities, the mean of standardised features. An attached model
is called as the model inside. `FromFeatures` and `features_of` cut a model of `concordant run` at its calibrator.
Axis letters: N instances, B of a batch, M modalities, C classes.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from concordant.attach.taps import core_of, wrapped
from concordant.attach.wrapper import Attached
from concordant.data.split import AnySplit, Floats, Split
from concordant.errors import UsageError
from concordant.training.batches import Tensors, open_tensors, slices, to_tensors
from concordant.training.model import MultimodalModel, Output
from concordant.training.validation import KEPT_BYTES

BATCH = 512  # rows of a call at most
BATCH_BYTES = 16 << 20  # of inputs of a call at most, but for a single row; LSTMs are fastest there, too
LARGE = 8 << 20  # bytes of inputs above which freed memory is worth a call to the C library
Model = Callable[..., Any]
Record = TypeVar("Record", bound=Any)  # a dataclass


@dataclass(frozen=True)
class Predictions:
    """A model's output on some instances; every M axis has the order of the split's modalities.

    Args:
        logits: (N, C), or (N, 1) where it predicts a number.
        reliability: (N, M), 0 where absent; None for a model without reliabilities.
        present: bool (N, M).
        clean: the calibrator's own probability that a modality is clean (N, M); None for a model without one.
    """

    logits: Floats
    reliability: Floats | None
    present: NDArray[np.bool_]
    clean: Floats | None = None

    def predictions(self, *, real: bool = False) -> NDArray[Any]:
        """Return class indices (N,), or the predicted numbers (N,)."""
        return self.logits[:, 0] if real else self.logits.argmax(1)


def predict(model: Model, split: AnySplit, *, batch: int | None = None) -> Predictions:
    """Return a model's output on a split; one that is too large for memory is read in chunks.

    Args:
        model: a module, put into evaluation mode for the call, or any callable.
        split: the instances.
        batch: instances per call; None = up to 512, of 16 MiB together.

    Raises:
        UsageError: the model returns no logits of shape (B, C).
    """
    found: list[Predictions] = []
    with evaluating(model):
        for chunk in split.chunks():
            found += _batches(model, chunk, _fitting(chunk) if batch is None else batch)
            _free_heap(chunk)
    return joined(found)


def joined(records: Sequence[Record]) -> Record:
    """Return the records of several chunks as one; every field is an array (N, ...), or None in all of them."""
    columns = {name: [getattr(one, name) for one in records] for name in records[0].__dataclass_fields__}
    return replace(records[0], **{k: np.concatenate(x) for k, x in columns.items() if x[0] is not None})


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and each of its submodules back into its own mode afterwards."""
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for one, training in modes:
            one.training = training


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put a module into evaluation mode without gradients, and each submodule back into its own mode afterwards."""
    with evaluation_mode(model) if isinstance(model, nn.Module) else nullcontext(), torch.no_grad():
        yield


def device_of(model: Model) -> torch.device:
    """Return the device of a module's parameters; the CPU for a plain callable."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")


def call(model: Model, batch: Tensors) -> Any:  # noqa: ANN401 - a model may return anything
    """Return a model's output on a batch; masks and presence go with it where it takes them by name."""
    takes, rest = _parameters(model)
    known = {"masks": batch.masks, "present": batch.present}
    more = {name: value for name, value in known.items() if name in takes and value}
    by_name = set(batch.inputs) & set(takes) if rest else set(batch.inputs) <= set(takes)
    if batch.inputs and by_name:
        return model(**batch.inputs, **more)
    return model(batch.inputs, **more)


def parameters_of(model: Model) -> list[str]:
    """Return the names of a model's arguments, in order; for an attached or wrapped model, of the one inside."""
    return _parameters(model)[0]


def _parameters(model: Model) -> tuple[list[str], bool]:
    """Return the names of a model's arguments, and whether it takes any other by name."""
    while isinstance(model, nn.Module):
        inner = model.model if isinstance(model, Attached) else wrapped(model)
        if inner is None:
            break
        model = inner
    called = model.forward if isinstance(model, nn.Module) else model
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature
        return [], False
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    rest = any(one.kind == inspect.Parameter.VAR_KEYWORD for one in parameters)
    return [one.name for one in parameters if one.kind in named], rest


def calibration_of(model: Model, out: Any) -> Any:  # noqa: ANN401 - a model may return anything
    """Return the calibration in a model's output; else the last one that the model itself keeps; else the output."""
    found = getattr(out, "calibration", None)
    if found is None and not isinstance(getattr(out, "reliability", None), Tensor):
        found = getattr(core_of(model) if isinstance(model, nn.Module) else model, "calibration", None)
    return out if found is None else found


class FromFeatures(nn.Module):
    """The calibrator and the fusion of a trained model: features in, predictions out."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self.model = model
        self.calibrator = model.calibrator

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Output:
        """Calibrate features and fuse them."""
        return self.model.calibrate_and_fuse(self.model.calibrator.gather(features, masks, present))


def feature_layouts(model: MultimodalModel) -> dict[str, str]:
    """Return modality -> the layout in which its features arrive at the calibrator."""
    return {name: model.fusion.meeting[name].layout.name for name in model.calibrator.names}


def features_of(model: MultimodalModel, split: AnySplit) -> Split:
    """Return a split whose inputs are the features that arrive at the calibrator, held in memory; 0 where absent."""
    found: dict[str, dict[str, list[Tensor]]] = {"inputs": {}, "masks": {}, "present": {}}
    with evaluating(model):
        for some in open_tensors(split).to(device_of(model)).chunks(BATCH):
            batch = model.encode(some.inputs, some.masks, some.present)
            for name, x in batch.features.items():
                here = batch.column(name)
                values = torch.where(here.view(-1, *(1 for _ in x.shape[1:])), x, 0).float()
                for field, one in (("inputs", values), ("masks", batch.masks.get(name)), ("present", here)):
                    if one is not None:
                        found[field].setdefault(name, []).append(one.cpu())
    arrays = {field: {name: torch.cat(x).numpy() for name, x in columns.items()} for field, columns in found.items()}
    return Split(labels=np.asarray(split.labels), ids=split.ids, groups=split.groups, **arrays)


def _free_heap(split: Split) -> None:
    """Return free pages inside the heap to the system after a large split, if the C library can do so (glibc).

    glibc keeps freed blocks of up to 32 MiB in its heap, where small blocks that stay keep the next large one from
    fitting in: evaluating a model several hundred times took 16 GB instead of one.
    """
    if sum(x.nbytes for x in split.inputs.values()) >= LARGE and (trim := _trim()) is not None:
        trim(0)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; on Windows, none by that name
        return None
    return found


def predictor(model: Model, split: Split, *, conditions: int) -> Callable[[Split], Predictions]:
    """Return `predict` for changed copies of a split in memory, which runs encoders on what has changed alone.

    Of a model of `concordant run`, in evaluation mode, features of the split are kept if they take at most 256 MiB.
    Where a modality of a copy is present and differs, its rows are encoded again; encoders look at each row by itself
    in evaluation. `conditions` is the number of copies.
    """
    if not isinstance(model, MultimodalModel) or conditions < 2 or not len(split):
        return partial(predict, model)
    one = _encoded(model, split, slice(1))[0]
    if sum(x.nbytes for x in one.values()) * len(split) > KEPT_BYTES:
        return partial(predict, model)
    known = _encoded(model, split, slice(None))
    _free_heap(split)  # of training, too
    return partial(_predict_changed, model, split, known)


def _encoded(model: MultimodalModel, split: Split, rows: slice | NDArray[np.int64]) -> tuple[dict[str, Tensor], ...]:
    """Return features, masks and presence of some rows, as if none were absent but those without a valid step."""
    found: tuple[dict[str, list[Tensor]], ...] = ({}, {}, {})
    places, size = np.arange(len(split))[rows], _fitting(split)
    for start in range(0, len(places), size):
        batch = to_tensors(split.take(places[start : start + size])).to(device_of(model))
        for kept, part in zip(found, model.encode_some(batch.inputs, batch.masks), strict=True):
            for name, x in part.items():
                kept.setdefault(name, []).append(x)
    return tuple({name: torch.cat(parts) for name, parts in kept.items()} for kept in found)


def _predict_changed(
    model: MultimodalModel, split: Split, known: tuple[dict[str, Tensor], ...], changed: Split
) -> Predictions:
    features, masks, has = (dict(one) for one in known)
    for name, x in changed.inputs.items():
        here = changed.present.get(name, np.True_)
        if x is split.inputs[name] or not here.any():
            continue
        rows = np.flatnonzero((x != split.inputs[name]).reshape(len(x), -1).any(1) & here)
        if len(rows):
            new = _encoded(model, changed.only((name,)), rows)[0][name]
            features[name] = features[name].index_copy(0, torch.from_numpy(rows).to(new.device), new)
    _free_heap(changed)
    present = {name: torch.from_numpy(x).to(device_of(model)) for name, x in changed.present.items()}
    known_here = {
        name: present[name] & has[name] if name in present and name in has else one
        for name, one in (has | present).items()
    }
    found = []
    for some in slices(len(changed), BATCH):
        batch = model.calibrator.gather(
            *({name: x[some] for name, x in part.items()} for part in (features, masks, known_here))
        )
        found.append(
            _predictions(model, model.calibrate_and_fuse(batch), len(batch.present), {}, tuple(changed.inputs))
        )
    return joined(found)


def _fitting(split: Split) -> int:
    """Return how many rows a call takes."""
    row = sum(x.nbytes for x in split.inputs.values()) // max(1, len(split))
    return max(1, min(BATCH, BATCH_BYTES // max(1, row)))


def _batches(model: Model, split: Split, batch: int) -> Iterator[Predictions]:
    device = device_of(model)
    for some in to_tensors(split).chunks(batch):
        some = some.to(device)
        yield _predictions(model, call(model, some), len(some), some.present, tuple(split.inputs))


def _predictions(model: Model, out: Any, count: int, known: Mapping[str, Tensor], names: Sequence[str]) -> Predictions:  # noqa: ANN401
    """Return a model's output on `count` instances; `known` is their presence, for outputs without it."""
    reliability, present = _reliability(model, out)
    clean = getattr(getattr(out, "calibration", None), "logits", None)
    declared = getattr(calibration_of(model, out), "names", ())  # the order of the calibrator's columns
    if isinstance(declared, (tuple, list)) and set(declared) == set(names):
        order = [declared.index(name) for name in names]
        reliability, present, clean = (None if x is None else x[:, order] for x in (reliability, present, clean))
    if present is None:
        always = torch.ones(count, dtype=torch.bool)
        present = torch.stack([known.get(name, always).cpu() for name in names], 1)
    return Predictions(
        logits=_array(_logits(out, count)),
        reliability=None if reliability is None else _array(reliability),
        present=present.cpu().numpy(),
        clean=None if clean is None else _array(clean.sigmoid()),
    )


def _array(x: Tensor) -> Floats:
    found: Floats = x.float().cpu().numpy()
    return found


def _logits(out: Any, count: int) -> Tensor:  # noqa: ANN401 - a model may return anything
    logits = out if isinstance(out, Tensor) else getattr(out, "logits", None)
    if logits is None and isinstance(out, Sequence) and out and isinstance(out[0], Tensor):
        logits = out[0]
    if isinstance(logits, Tensor) and logits.dim() == 1 and len(logits) == count:
        logits = logits.unsqueeze(1)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != count:
        shape = f"of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"{type(out).__name__}"
        raise UsageError(
            f"model must return logits of shape ({count}, C), or an object that has them as `.logits`; found {shape}"
        )
    return logits


def _reliability(model: Model, out: Any) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
    """Return reliability and presence from a model's output; None for each that is not in it."""
    calibration = calibration_of(model, out)
    reliability, present = getattr(calibration, "reliability", None), getattr(calibration, "present", None)
    calibrator = getattr(core_of(model) if isinstance(model, nn.Module) else model, "calibrator", None)
    silent = calibrator is not None and not getattr(calibrator, "has_reliability", True)
    known = isinstance(reliability, Tensor) and reliability.dim() == 2
    return (
        reliability if known and not silent else None,
        present if known and isinstance(present, Tensor) else None,
    )
