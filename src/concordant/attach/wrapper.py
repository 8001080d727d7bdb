"""The wrapper that `concordant.attach` returns: a model, a calibrator, and how the one's features reach the other.

Its state dictionary has the model's own keys, and the calibrator's beside them under "concordant_calibrator.".
Shapes: features in their layouts; (2B, ...) with copies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from concordant import seeding
from concordant.attach.arguments import Address, Arguments, call_at, parameters_of
from concordant.attach.draws import OwnStream, devices_of
from concordant.attach.folding import feature_size, fold, unfold, unfolded_layout
from concordant.attach.interception import Run, intercepted
from concordant.attach.keys import keep_keys
from concordant.attach.replay import Memory, TwoPasses
from concordant.attach.sources import Source, batch_size, sourced
from concordant.attach.structure import Path, tensors_of
from concordant.attach.taps import Tap, core_of
from concordant.calibration.base import Calibrator
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.calibration.perturbation import Perturbation, perturb, repeat_targets, with_copies
from concordant.calibration.result import Calibration
from concordant.errors import ConcordantError, UsageError


class _Calibrated(BaseException):
    """Leaves a forward once the features are calibrated; no model's `except Exception` holds it."""


@dataclass(frozen=True)
class Settings:
    """How a calibrator is attached; see `attach` for the arguments."""

    taps: Mapping[str, Tap] | Mapping[str, Address]
    at: Tap | None
    inputs: bool
    layouts: Mapping[str, str]
    kind: Callable[..., Calibrator] | None
    masks: Mapping[str, Source]
    present: Mapping[str, Source]
    watched: Mapping[str, Tap]
    batch_size: Callable[..., int] | None
    perturbation: Perturbation | bool
    copies: bool
    freeze: str | None
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities."""
        return tuple(self.taps)

    def build(self, sizes: Mapping[str, int]) -> Calibrator:
        """Return a new calibrator of features of these sizes.

        Raises:
            UsageError: what was given as calibrator builds none.
        """
        layouts = {name: unfolded_layout(self.layouts[name]) for name in self.names}
        ordered = {name: sizes[name] for name in self.names}
        if self.kind is None:
            return ContextualCalibrator(ordered, layouts=layouts, perturbation=self.perturbation, seed=self.seed)
        built = self.kind(ordered, layouts=layouts)
        if not isinstance(built, Calibrator):
            raise UsageError(f"calibrator must return a Calibrator; found {type(built).__name__}")
        return built


class Attached(nn.Module):
    """A model whose features are calibrated on their way; made by `attach`, called like the model.

    Args:
        model: the original, which stays what it is.
        calibrator: what calibrates; None = built at the first forward, when the feature sizes are known.
        settings: the rest.
    """

    calibrator: Calibrator | None

    def __init__(self, model: nn.Module, calibrator: Calibrator | None, settings: Settings) -> None:
        super().__init__()
        self.model = model
        self.calibrator = calibrator
        self.settings = settings
        self.calibration: Calibration | None = None  # of the last forward
        self.labels: Tensor | None = None  # class indices for the next training forward, if they are known
        self._own = OwnStream(seeding.derive_seed(settings.seed, "attached", "draws", _rank()))
        self._memory = Memory()
        self._hurting: torch.Generator | None = None
        self._leave = False  # once the features are calibrated
        self._lock = threading.RLock()
        self._attached = True
        modes = [(m, m.training) for m in model.modules()]
        self._before = (modes, [(p, p.requires_grad) for p in model.parameters()])
        # Not through `train`, which would reach submodules of the model that are in a mode of their own.
        self.training = model.training
        if calibrator is not None:
            calibrator.train(model.training)
        if settings.freeze == "backbone":
            model.requires_grad_(False).eval()
        keep_keys(self)

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the model takes and returns
        """Return what the model returns, with calibrated features; arguments are the model's.

        Raises:
            UsageError: a tap does not fire, fires twice, depends on another, or gives what no calibrator takes.
        """
        return self._forward(args, kwargs)

    @_disable_dynamo  # torch.compiler.disable, but imported at the first call; answered calls cannot be compiled
    def _forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        if not self._attached:
            return self.model(*args, **kwargs)
        with self._lock:
            self.calibration = None  # that of an earlier forward says nothing of this one
            core = core_of(self.model)
            given = Arguments(args, kwargs, parameters_of(core))
            try:
                if self.settings.inputs:
                    changed = self._with_arguments(given, "the model", given)
                    out = self.model(*changed.args, **changed.kwargs)
                elif self.settings.at is not None:
                    out = call_at(
                        core,
                        self.settings.at,
                        lambda call, of: self._with_arguments(call, of, given),
                        lambda: self.model(*args, **kwargs),
                    )
                else:
                    passes = TwoPasses(core, self.settings.taps, self.settings.watched, self._memory)  # type: ignore[arg-type]
                    inner = core.forward

                    def both(_: nn.Module, run: Run, a: tuple[Any, ...], k: dict[str, Any]) -> Any:  # noqa: ANN401
                        return passes(inner, a, k, lambda found: self._calibrate(found, Arguments(a, k, ())))

                    with intercepted([core], both, whole=False):
                        out = self.model(*args, **kwargs)
            except RuntimeError as error:
                if self._doubles and self.calibration is not None and "size" in str(error):
                    raise UsageError(f"{_MIXED} ({error})") from error
                raise
        self._check_rows(out)
        return out

    def auxiliary_loss(self) -> Tensor:
        """Return the calibrator's loss of the last training forward, to be added to the task's; 0 in evaluation.

        Raises:
            ConcordantError: in training before any forward.
        """
        if self.calibrator is None:
            raise ConcordantError("auxiliary_loss() has nothing to return: call the model on a batch first")
        return self.calibrator.auxiliary_loss()

    def detach(self) -> nn.Module:
        """Return the original model as it was: which of its parameters are trained, and its mode if it was frozen."""
        modes, flags = self._before
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        if self.settings.freeze == "backbone":
            for module, mode in modes:
                module.training = mode
        self._attached = False
        self.calibration = None  # of what it no longer does
        return self.model

    def train(self, mode: bool = True) -> Attached:
        """Set training or evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self.settings.freeze == "backbone" and self._attached:
            self.model.eval()
        return self

    def calibrate(self, *args: Any, **kwargs: Any) -> Calibration:  # noqa: ANN401 - as for the model
        """Return the calibration of a batch; the model's forward stops there, and its head does not run.

        Arguments are the model's, errors those of `forward`.

        Raises:
            ConcordantError: the calibrator is detached, or forward did not reach it.
        """
        if not self._attached:
            raise ConcordantError("the calibrator is detached; nothing was calibrated")
        with self._lock:
            self._leave = True
            try:
                self(*args, **kwargs)
            except _Calibrated:
                pass
            finally:
                self._leave = False
            found = self.calibration
        if found is None:
            raise ConcordantError("the model's forward did not reach the calibrator; nothing was calibrated")
        return found

    @contextmanager
    def perturbed(self, generator: torch.Generator) -> Iterator[None]:
        """Perturb every instance in evaluation, while a block runs: what validation looks at.

        Args:
            generator: the source of the perturbations' draws.
        """
        self._hurting = generator
        try:
            yield
        finally:
            self._hurting = None

    def model_state_dict(self) -> dict[str, Tensor]:
        """Return the state of the model alone, under its own keys, as the original loads it."""
        return self.model.state_dict()

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as in nn.Module
        """Yield names and parameters, as every module does.

        Raises:
            ConcordantError: the calibrator is not built yet.
        """
        if self.calibrator is None:
            raise ConcordantError(
                "the calibrator has no parameters yet, because the feature sizes are unknown: call the model on one "
                "batch first, or give attach `sizes` or `example`"
            )
        return super().named_parameters(*args, **kwargs)

    @property
    def _doubles(self) -> bool:
        return self.settings.copies and self.training

    def _with_arguments(self, call: Arguments, of: str, given: Arguments) -> Arguments:
        """Return a call's arguments with the features among them calibrated.

        Raises:
            UsageError: an address leads nowhere, or two lead to the same argument.
        """
        found = {name: call.find(address, name, of) for name, address in self.settings.taps.items()}  # type: ignore[arg-type]
        there: dict[Path, str] = {}
        for name, (_, path) in found.items():
            if path in there:
                raise UsageError(
                    f"taps[{there[path]!r}] and taps[{name!r}] are the same argument in the call of {of}; "
                    "each modality needs an argument of its own"
                )
            there[path] = name
        calibrated = self._calibrate({name: x for name, (x, _) in found.items()}, given)
        for name, (_, path) in found.items():
            call = call.replace(path, calibrated[name])
        return call

    def _calibrate(self, found: dict[str, Tensor], given: Arguments) -> dict[str, Tensor]:
        """Return modality -> calibrated feature, in the layout in which it was found."""
        settings, layouts = self.settings, self.settings.layouts
        raw = {name: found[name] for name in settings.names}
        if self.calibrator is None:
            sizes = {name: feature_size(x, layouts[name], name) for name, x in raw.items()}
            fresh = settings.build(sizes)
            self.calibrator = fresh.to(next(iter(raw.values())).device).train(self.training)
        rows = batch_size(raw, layouts, settings.batch_size, given)
        features = {name: unfold(x, layouts[name], rows, name) for name, x in raw.items()}
        masks = {name: sourced(source, f"masks.{name}", found, given) for name, source in settings.masks.items()}
        present = {name: sourced(source, f"present.{name}", found, given) for name, source in settings.present.items()}
        training = self.calibrator.training
        labels, self.labels = self.labels, None
        with self._own(devices_of(self.calibrator, raw.values())) if training else nullcontext():
            known = self.calibrator.gather(features, masks or None, present or None)
            if self._doubles:
                hurt = with_copies(known, self.calibrator.perturbation or Perturbation())
                twice = None if labels is None else repeat_targets(labels)
                out = self.calibrator(hurt.batch, labels=twice, perturbed=hurt.perturbed)
            else:
                if self._hurting is not None and not training:
                    settings_of = self.calibrator.perturbation or Perturbation()
                    known = perturb(known, settings_of, probability=1.0, generator=self._hurting).batch
                out = self.calibrator(known, labels=labels if training else None)
        self.calibration = out
        if self._leave:
            raise _Calibrated
        # Copies: the model may change them in place, which views of what was calibrated together do not bear.
        return {name: fold(x.clone(), layouts[name]) for name, x in out.features.items()}

    def _check_rows(self, out: object) -> None:
        """Refuse outputs that are not of both copies.

        Raises:
            UsageError: the first output has another number of rows.
        """
        first = next((x for x in tensors_of(out) if x.dim()), None)
        if self._doubles and self.calibration is not None and first is not None:
            rows = len(self.calibration.reliability)
            if rows not in first.shape:
                raise UsageError(f"{_MIXED} (its output has shape {tuple(first.shape)}; {rows} rows were expected)")

    def __getstate__(self) -> dict[str, Any]:
        # Locks do not pickle, and the last calibration belongs to a graph.
        return {**super().__getstate__(), "_lock": None, "calibration": None, "labels": None}  # type: ignore[no-untyped-call]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._lock = threading.RLock()


_MIXED = (
    "copies=True gives the rest of the model 2B rows, and this model joins them with something of B rows, or makes its "
    "output without them; use copies=False"
)


def _rank() -> int:
    """Return the number of this process among those that train together."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if there else 0
