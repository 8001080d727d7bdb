"""What a model says of instances, whatever the model is: one of `concordant run`, or any callable.

A callable gets `model(features)`, or `model(audio=..., video=...)` where its signature has the modalities' names,
with `masks=` and `present=` beside it where it has those. One that does not take `present` meets absent modalities as
zeros, which is the mean of standardised features. An attached model is called as the model inside.
Axis letters: N instances, M modalities, C classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from concordant.attach.taps import core_of, wrapped
from concordant.attach.wrapper import Attached
from concordant.data.split import AnySplit, Floats, Split
from concordant.errors import UsageError
from concordant.robustness.heap import give_back
from concordant.training.batches import Tensors, to_tensors

BATCH = 512
LARGE = 8 << 20  # bytes of inputs, from which on it is worth the call to give memory back
Model = Callable[..., Any]
Change = Callable[[Split, int | None], Split]


@dataclass(frozen=True)
class Answer:
    """What a model said of some instances.

    Args:
        logits: (N, C), or (N, 1) where it predicts a number.
        reliability: (N, M), 0 where absent; None where the model gives none.
        present: bool (N, M).
        extra: what else was asked for, by name, one row an instance.
    """

    logits: Floats
    reliability: Floats | None
    present: NDArray[np.bool_]
    extra: dict[str, Floats] = field(default_factory=dict)

    def predictions(self, *, real: bool = False) -> NDArray[Any]:
        """Return class indices (N,), or the predicted numbers (N,)."""
        return self.logits[:, 0] if real else self.logits.argmax(1)


def ask(
    model: Model,
    part: AnySplit,
    *,
    change: Change | None = None,
    more: Callable[[Any], Mapping[str, Tensor]] | None = None,
    batch: int = BATCH,
) -> Answer:
    """Return what a model says of a part.

    A part that is too large for memory is gone through piece by piece.

    Args:
        model: a module, which is put into evaluation mode meanwhile, or any callable.
        part: the instances.
        change: is given each piece and its number (None where the part is one piece), and returns what is asked.
        more: from the model's output to further tensors (B, ...), which become `Answer.extra`.
        batch: instances a call.

    Raises:
        UsageError: the model returns no logits of shape (B, C).
    """
    found: list[Answer] = []
    whole = isinstance(part, Split)
    with evaluating(model):
        for number, piece in enumerate(part.chunks()):
            changed = piece if change is None else change(piece, None if whole else number)
            found += list(_answers(model, changed, more, batch))
            if sum(x.nbytes for x in changed.inputs.values()) >= LARGE:
                give_back()
    return _joined(found)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and each of its parts back into its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put a module into evaluation mode without gradients, and each of its parts back into its own mode afterwards."""
    with evaluation_mode(model) if isinstance(model, nn.Module) else nullcontext(), torch.no_grad():
        yield


def _answers(
    model: Model, part: Split, more: Callable[[Any], Mapping[str, Tensor]] | None, batch: int
) -> Iterator[Answer]:
    device = device_of(model)
    for some in to_tensors(part).chunks(batch):
        here = some.to(device)
        out = call(model, here)
        logits = _logits(out, len(here))
        reliability, present = _reliability(model, out)
        if present is None:
            columns = [here.present.get(name, torch.ones(len(here), dtype=torch.bool)) for name in part.inputs]
            present = torch.stack([column.cpu() for column in columns], 1)
        yield Answer(
            logits=logits.float().cpu().numpy(),
            reliability=None if reliability is None else reliability.float().cpu().numpy(),
            present=present.cpu().numpy(),
            extra={} if more is None else {name: x.float().cpu().numpy() for name, x in more(out).items()},
        )


def device_of(model: Model) -> torch.device:
    """Return where a module's parameters are; the CPU of a plain callable."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")


def call(model: Model, batch: Tensors) -> Any:  # noqa: ANN401 - whatever a model returns
    """Return what a model says of a batch; masks and presence go with it where it takes them by name."""
    takes = parameters_of(model)
    known = {"masks": batch.masks, "present": batch.present}
    more = {name: value for name, value in known.items() if name in takes and value}
    if batch.inputs and set(batch.inputs) <= set(takes):
        return model(**batch.inputs, **more)
    return model(batch.inputs, **more)


def parameters_of(model: Model) -> list[str]:
    """Return the names of what a model takes, in order; of an attached or wrapped model, what the one inside takes."""
    while isinstance(model, nn.Module):
        inner = model.model if isinstance(model, Attached) else wrapped(model)
        if inner is None:
            break
        model = inner
    called = model.forward if isinstance(model, nn.Module) else model
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one.name for one in parameters if one.kind in named]


def calibration_of(model: Model, out: Any) -> Any:  # noqa: ANN401 - whatever a model returns
    """Return the calibration in a model's output; else the last one that the model itself keeps; else the output."""
    found = getattr(out, "calibration", None)
    if found is None and not isinstance(getattr(out, "reliability", None), Tensor):
        found = getattr(core_of(model) if isinstance(model, nn.Module) else model, "calibration", None)
    return out if found is None else found


def _logits(out: Any, count: int) -> Tensor:  # noqa: ANN401 - whatever a model returns
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
    """Return reliability and presence from what came out, where they are there."""
    calibration = calibration_of(model, out)
    reliability, present = getattr(calibration, "reliability", None), getattr(calibration, "present", None)
    calibrator = getattr(core_of(model) if isinstance(model, nn.Module) else model, "calibrator", None)
    silent = calibrator is not None and not getattr(calibrator, "has_reliability", True)
    known = isinstance(reliability, Tensor) and reliability.dim() == 2
    return (
        reliability if known and not silent else None,
        present if known and isinstance(present, Tensor) else None,
    )


def _joined(answers: Sequence[Answer]) -> Answer:
    first = answers[0]
    reliability = None
    if first.reliability is not None:
        reliability = np.concatenate([one.reliability for one in answers if one.reliability is not None])
    return Answer(
        logits=np.concatenate([one.logits for one in answers]),
        reliability=reliability,
        present=np.concatenate([one.present for one in answers]),
        extra={name: np.concatenate([one.extra[name] for one in answers]) for name in first.extra},
    )
