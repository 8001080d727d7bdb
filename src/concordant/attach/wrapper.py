"""The module that `concordant.attach` returns: a model with a calibrator between its encoders and its fusion.

Features keep their layouts; with copies they have 2B rows. The state dictionary's keys are the names of parameters and
buffers, "model." and "calibrator." before them; checkpoints of the model alone load into it too.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache, wraps
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from concordant import seeding
from concordant.attach.arguments import Arguments, call_at, parameters_of
from concordant.attach.axes import resolve_layouts
from concordant.attach.checkpoints import after_loading, before_loading
from concordant.attach.containers import Path, packed_at, tensors_of
from concordant.attach.features import FeatureReader
from concordant.attach.harm import Guarantee
from concordant.attach.hooks import Interception, Run, failing_module, intercepted
from concordant.attach.passes import Known, Passes
from concordant.attach.settings import Settings
from concordant.attach.taps import Tap, core_of, find_module, is_compiled, is_sharded_alone
from concordant.calibration.base import Calibrator
from concordant.calibration.perturbation import Perturbation, perturb, repeat_targets, with_copies
from concordant.calibration.result import Calibration
from concordant.errors import ConcordantError, UsageError
from concordant.modalities import AUTO, as_tensor

_MIXED = (
    "copies=True gives the rest of the model 2B rows, and this model joins them with something of B rows, such as "
    "masks or positions built from the batch, or makes its output without them; use copies=False, a tap nearer to its "
    "head, or fit_plugin with learn='reliability', which does not run what lies behind the taps"
)


class _Calibrated(BaseException):
    """Raised to end a forward pass once the features are calibrated; `except Exception` does not catch it."""


class Attached(nn.Module):
    """A model with a calibrator; made by `attach`, called like the model.

    Public attributes, properties and methods of the model are read through it, and those that the model has are set on
    the model; its own (below, and those of `torch.nn.Module`) come first. Inside a method of the model that is called
    through it, such as `attached.generate(...)`, every call of forward is calibrated. A call of `attached.model` or of
    one of its methods is the original model's, without calibration.

    Calls from several threads take turns.

    Attributes:
        calibration: the `Calibration` of the last forward pass, of whichever thread; None if it did not reach the
            calibrator.
        guarantee: the `Guarantee` of `fit_plugin` with validation rows; None otherwise.
        labels: class indices (B,) for the calibrator's loss in the next training pass; None = unknown.

    Args:
        model: the original model.
        calibrator: the calibrator; None = built in the first forward pass, which shows the feature sizes.
        settings: the arguments of `attach`.
    """

    calibrator: Calibrator | None

    def __init__(self, model: nn.Module, calibrator: Calibrator | None, settings: Settings) -> None:
        nn.Module.__init__(self)  # not that of a subclass from `class_for`
        self.model = model
        self.calibrator = calibrator
        self.settings = settings
        self.calibration: Calibration | None = None
        self.labels: Tensor | None = None
        self._streams: dict[torch.device, seeding.Stream] = {}  # of the calibrator's draws in training, by device
        self._known = Known()
        self._reader = FeatureReader()
        self._perturbing: torch.Generator | None = None
        self._labels_may_differ = False  # from the rows of the features; they are then left out
        self._stop = False  # once the features are calibrated
        self._within: int | None = None  # the thread that is in the calibrated method
        self._warned = False
        self._lock = threading.RLock()
        self._attached = True
        modes = [(m, m.training) for m in model.modules()]
        self._before = (modes, [(p, p.requires_grad) for p in model.parameters()])
        # Without `train`, which would change submodules of the model that have a mode of their own.
        self.training = model.training
        if calibrator is not None:
            calibrator.train(model.training)
        if settings.freeze == "backbone":
            model.requires_grad_(False).eval()
        self.register_load_state_dict_pre_hook(before_loading)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(after_loading)  # type: ignore[no-untyped-call]
        self._sign()

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the model's
        """Return the model's output with calibrated features; arguments are the model's.

        Raises:
            UsageError: a tap does not fire, fires twice, depends on another, or gives what no calibrator takes.
        """
        return self._forward(args, kwargs, compiling=torch.compiler.is_compiling())

    # torch.compiler.disable, but imported at the first call: intercepted calls cannot be compiled.
    @_disable_dynamo
    def _forward(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, compiling: bool = False) -> Any:  # noqa: ANN401
        if compiling and getattr(torch.compiler, "is_exporting", bool)():
            raise UsageError(
                "torch.export cannot follow a calibrator among intercepted calls; export the parts one by one"
            )
        if compiling and not self._warned:
            self._warned = True
            warnings.warn(
                "torch.compile breaks the graph around an attached model and compiles nothing in it, since its calls "
                f"are intercepted; attached.compile() compiles its {len(self._compilable())} submodules around the "
                "calibrator",
                stacklevel=2,
            )
        return self._calibrated(self._original, args, kwargs, direct=self.settings.method is not None)

    def _calibrated(self, call: Run, args: tuple[Any, ...], kwargs: dict[str, Any], *, direct: bool) -> Any:  # noqa: ANN401
        """Call the model, or with `direct` its own method, with calibrated features."""
        if not self._attached or self._within == threading.get_ident():
            return call(*args, **kwargs)
        with self._lock:
            self.calibration = None  # not that of an earlier pass, if this one fails
            self._within = threading.get_ident()
            try:
                out = self._call(call, args, kwargs, direct=direct)
            except ConcordantError as error:
                ruined = next((name for name, x in self.model.named_parameters() if not x.isfinite().all()), None)
                if ruined is None or isinstance(error, UsageError):
                    raise
                raise ConcordantError(
                    f"the model's weights hold NaN or infinity, in {ruined!r} for one, as after an update by a loss "
                    f"that was not finite; start from sound weights, and check the loss before an update ({error})"
                ) from error
            except Exception as error:
                if not self._doubles or self.calibration is None:
                    raise
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                where = failing_module(error, self.model)
                raise UsageError(f"{_MIXED} ({where}: {type(error).__name__}: {error})") from error
            finally:
                self._within = None
        if self.training and self.calibration is not None and is_sharded_alone(self.model):
            raise ConcordantError(
                "FSDP shards the model and not its calibrator, whose gradients no process would average; call "
                "fully_shard on what attach returned too"
            )
        first = next((x for x in tensors_of(out) if x.dim()), None)
        if self._doubles and self.calibration is not None and first is not None:
            rows = len(self.calibration.reliability)
            if rows not in first.shape:
                raise UsageError(f"{_MIXED} (its output has shape {tuple(first.shape)}; {rows} rows were expected)")
        return out

    def _call(self, call: Run, args: tuple[Any, ...], kwargs: dict[str, Any], *, direct: bool) -> Any:  # noqa: ANN401
        """Call the model with the features at the taps, at a submodule's arguments or at the inputs calibrated."""
        core, at, modules = core_of(self.model), self.settings.at, self.settings.modules
        given = Arguments(args, kwargs, parameters_of(core, self._method))
        if at == "":
            changed = self._calibrate_arguments(given, "the model", given)
            return call(*changed.args, **changed.kwargs)
        if isinstance(at, Tap):
            change = lambda call, of: self._calibrate_arguments(call, of, given)  # noqa: E731
            with self._eager():
                return call_at(core, at, change, lambda: call(*args, **kwargs))
        if self.calibrator is None and AUTO in self.settings.layouts.values():
            layouts = resolve_layouts(core, modules, self.settings.layouts, (args, kwargs), self._method)
            self.settings = replace(self.settings, layouts=layouts)

        def twice(_: nn.Module, run: Run, a: tuple[Any, ...], k: dict[str, Any]) -> Any:  # noqa: ANN401
            now = Arguments(a, k, given.parameters)
            addresses = {name: tap for name, tap in self.settings.taps.items() if not isinstance(tap, Tap)}
            paths = {name: now.find(address, name, "the model")[1] for name, address in addresses.items()}
            passes = Passes(core, modules, self.settings.watched, paths, self._known, doubled=self._doubles)
            return passes(run, a, k, lambda found: self._calibrate_features(found, now))

        if direct:
            return twice(core, call, args, kwargs)
        with self._eager(), intercepted([core], twice, whole=False):
            return call(*args, **kwargs)

    def _eager(self) -> AbstractContextManager[Any]:
        """Run a model that is compiled as a whole uncompiled while a block runs."""
        return torch.compiler.set_stance("force_eager") if is_compiled(self.model) else nullcontext()

    # Other ways in

    @property
    def _original(self) -> Callable[..., Any]:
        """The model's own call, without calibration: the model, or the method that `attach` was given."""
        return self.model if self.settings.method is None else getattr(core_of(self.model), self.settings.method)

    @property
    def _method(self) -> str:
        return self.settings.method or "forward"

    def _through(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Call another method of the model, with every call of forward in it calibrated.

        Raises:
            UsageError: the method calls a tap outside forward.
        """
        if not self._attached or self._within == threading.get_ident():
            return run(*args, **kwargs)
        if run.__name__ == self.settings.method:
            return self._calibrated(run, args, kwargs, direct=True)
        core = core_of(self.model)
        modules = {tap.name: find_module(core, tap.name, "taps") for tap in self.settings.modules.values()}
        names = {id(module): name for name, module in modules.items()}

        def within(_: nn.Module, forward: Run, a: tuple[Any, ...], k: dict[str, Any]) -> Any:  # noqa: ANN401
            return self._calibrated(forward, a, k, direct=True)

        def outside(module: nn.Module, call: Run, a: tuple[Any, ...], k: dict[str, Any]) -> Any:  # noqa: ANN401
            if self._within == threading.get_ident():
                return call(*a, **k)
            raise UsageError(
                f"{run.__name__} calls {names[id(module)]!r} outside {self._method}, where nothing is calibrated; give "
                f"attach method={run.__name__!r}, if it calls all taps, or call it of attached.model, uncalibrated"
            )

        inside = intercepted([core], within, whole=False, method=self._method)
        with self._lock, inside, intercepted(modules.values(), outside):
            return run(*args, **kwargs)

    _kind: type | None = None  # the LightningModule that the class is too; its private attributes are read as well

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as in nn.Module
        try:
            return super().__getattr__(name)
        except AttributeError:
            model = self.__dict__.get("_modules", {}).get("model")
            if model is None or name.startswith("__") or (name.startswith("_") and self._kind is None):
                raise
        core = core_of(model)
        try:
            value = getattr(model, name)
        except AttributeError:
            value = getattr(core, name)
        if isinstance(value, MethodType) and (value.__self__ is model or value.__self__ is core):
            return MethodType(Interception(value, Attached._through), self)  # type: ignore[arg-type]
        return value

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as in nn.Module
        own = self.__dict__
        model = own.get("_modules", {}).get("model")
        elsewhere = model is None or name.startswith("_") or name in _OWN or name in own or hasattr(type(self), name)
        if not elsewhere and hasattr(core_of(model), name):
            setattr(core_of(model), name, value)
        else:
            super().__setattr__(name, value)

    def _sign(self) -> None:
        """Give forward the signature of the model's, by which trainers choose the columns of their data."""

        def forward(attached: Attached, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return attached._forward(args, kwargs, compiling=torch.compiler.is_compiling())

        run = getattr(core_of(self.model), self._method)
        with suppress(TypeError, ValueError):  # without a signature
            forward.__signature__ = Interception(run, Attached._through).__signature__  # type: ignore[attr-defined, arg-type]
        forward.__doc__ = Attached.forward.__doc__
        self.__dict__["forward"] = MethodType(forward, self)

    def compile(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Compile the model's submodules around the calibrator, each on its own; arguments are `torch.compile`'s.

        What runs between them stays uncompiled. `torch.compile(attached)` compiles none of them, and warns.
        """
        for module in self._compilable():
            module.compile(*args, **kwargs)

    def _compilable(self) -> list[nn.Module]:
        """Return the largest submodules whose inner calls need no interception."""
        core = core_of(self.model)
        if self.settings.at == "":
            return [core]
        closed = [find_module(core, tap.name, "taps") for tap in self.settings.modules.values()]
        found: dict[int, nn.Module] = {}

        def visit(module: nn.Module) -> None:
            for child in module.children():
                inside = any(child is one for one in closed)
                opened = not inside and any(one is m for m in child.modules() for one in closed)
                if opened or isinstance(child, (nn.ModuleList, nn.ModuleDict)):
                    visit(child)
                elif any(True for _ in child.parameters()):
                    found[id(child)] = child

        visit(core)
        return list(found.values())

    def auxiliary_loss(self) -> Tensor:
        """Return the calibrator's loss of the last training pass, to add to the task's loss; 0 in evaluation.

        Raises:
            ConcordantError: in training before any forward pass.
        """
        if self.calibrator is None:
            raise ConcordantError("auxiliary_loss() has nothing to return: call the model on a batch first")
        return self.calibrator.auxiliary_loss()

    @property
    def guarantee(self) -> Guarantee | None:
        """The bound on harm that `fit_plugin` has shown on validation rows, part of the state; None = none."""
        promise = None if self.calibrator is None else self.calibrator.promise
        return None if promise is None else Guarantee.of(promise)

    @guarantee.setter
    def guarantee(self, found: Guarantee) -> None:
        if self.calibrator is not None:
            self.calibrator.promise = found.promise().to(next(self.calibrator.buffers()).device)

    def detach(self) -> nn.Module:
        """Return the original model; parameters' `requires_grad` is restored, and the modes of a frozen model."""
        modes, flags = self._before
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        if self.settings.freeze == "backbone":
            for module, mode in modes:
                module.training = mode
        self._attached = False
        self.calibration = None
        return self.model

    def train(self, mode: bool = True) -> Attached:
        """Set training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.settings.freeze == "backbone" and self._attached:
            self.model.eval()
        return self

    def calibrate(self, *args: Any, **kwargs: Any) -> Calibration:  # noqa: ANN401 - as the model's
        """Return the calibration of a batch; the model's forward stops there, and its head does not run.

        Arguments are the model's, errors those of `forward`.

        Raises:
            ConcordantError: the calibrator is detached, or forward did not reach it.
        """
        if not self._attached:
            raise ConcordantError("the calibrator is detached; nothing was calibrated")
        with self._lock:
            self._stop = True
            try:
                self(*args, **kwargs)
            except _Calibrated:
                pass
            finally:
                self._stop = False
            found = self.calibration
        if found is None:
            raise ConcordantError("the model's forward did not reach the calibrator; nothing was calibrated")
        return found

    @contextmanager
    def perturbed(self, generator: torch.Generator) -> Iterator[None]:
        """Perturb every instance in evaluation mode while a block runs, for validation; draw from `generator`."""
        self._perturbing = generator
        try:
            yield
        finally:
            self._perturbing = None

    def model_state_dict(self) -> dict[str, Tensor]:
        """Return the state of the model alone, with its own keys, as the original loads it."""
        return self.model.state_dict()

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as in nn.Module
        """Return an iterator over names and parameters, as every module does.

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
    def taps(self) -> dict[str, Any]:
        """Modality -> the tap where its feature is calibrated, as `attach` takes it."""
        return {name: tap.written if isinstance(tap, Tap) else tap for name, tap in self.settings.taps.items()}

    def extra_repr(self) -> str:
        """Return the taps, for the representation of the module."""
        at = self.settings.at.written if isinstance(self.settings.at, Tap) else self.settings.at
        return f"taps={self.taps}" + ("" if at is None else f", at={at!r}")

    @property
    def _doubles(self) -> bool:
        return self.settings.copies and self.training

    def _calibrate_arguments(self, call: Arguments, of: str, given: Arguments) -> Arguments:
        """Return a call's arguments with the features among them calibrated; raise UsageError if two are one."""
        found = {name: call.find(address, name, of) for name, address in self.settings.taps.items()}  # type: ignore[arg-type]
        owner: dict[Path, str] = {}
        for name, (_, path) in found.items():
            if owner.setdefault(path, name) != name:
                raise UsageError(
                    f"taps[{owner[path]!r}] and taps[{name!r}] are the same argument in the call of {of}; "
                    "each modality needs an argument of its own"
                )
        packed = {f"packed.{name}": packed_at((call.args, call.kwargs), path) for name, (_, path) in found.items()}
        calibrated = self._calibrate_features({name: x for name, (x, _) in found.items()} | packed, given)
        for name, (_, path) in found.items():
            call = call.replace(path, calibrated[name])
        return call

    def _calibrate_features(self, found: dict[str, Any], given: Arguments) -> dict[str, Tensor]:
        """Return modality -> calibrated feature, in its original layout."""
        build = self._build if self.calibrator is None else None
        doubled = self._doubles and not self._stop
        tapped = self._reader(self.settings, found, given, doubled=doubled, build=build)
        calibrator = cast(Calibrator, self.calibrator)
        training, inflicted = calibrator.training, calibrator.perturbation or Perturbation()
        labels, self.labels = as_tensor(self.labels), None
        device = next(iter(tapped.features.values())).device
        with self._stream(device) if training else nullcontext():
            batch = calibrator.gather(tapped.features, tapped.masks, tapped.present)
            if self._labels_may_differ and labels is not None and len(labels) != batch.size:
                labels = None
            if self._doubles:
                copies = with_copies(batch, inflicted)
                twice = None if labels is None else repeat_targets(labels)
                out = calibrator(copies.batch, labels=twice, perturbed=copies.perturbed)
            else:
                if self._perturbing is not None and not training:
                    batch = perturb(batch, inflicted, probability=1.0, generator=self._perturbing).batch
                out = calibrator(batch, labels=labels if training else None)
        if out.decision is not None or out.fused is not None:
            name = type(calibrator).__name__
            raise UsageError(
                f"{name} works at the fusion's head and leaves features as they are; give one that scales them"
            )
        self.calibration = out
        if self._stop:
            raise _Calibrated
        return tapped.restored(out.features)

    def _stream(self, device: torch.device) -> seeding.Stream:
        if device not in self._streams:
            self._streams[device] = seeding.Stream(self.settings.seed, "attached", "draws", _rank(), device=device)
        return self._streams[device]

    def _build(self, sizes: dict[str, int], device: torch.device) -> None:
        with torch.inference_mode(mode=False):  # its statistics are updated in training
            self.calibrator = self.settings.build(sizes).to(device).train(self.training)

    def __getstate__(self) -> dict[str, Any]:
        # Locks do not pickle, and the last calibration belongs to a graph.
        state = {**super().__getstate__(), "_lock": None, "calibration": None, "labels": None}  # type: ignore[no-untyped-call]
        return {key: value for key, value in state.items() if key != "forward"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._lock = threading.RLock()
        self._sign()

    def __reduce_ex__(self, protocol: Any) -> Any:  # noqa: ANN401
        if self._kind is None:
            return super().__reduce_ex__(protocol)
        return _bare, (self._kind,), self.__getstate__()  # pickle does not find the class by its name


_OWN = {"model", "calibrator", "settings", "calibration", "labels", "training", "forward"}


def class_for(model: nn.Module) -> type[Attached]:
    """Return the class of an attached model: `Attached`, for a LightningModule a class that is both.

    Lightning's Trainer takes LightningModules alone, and runs their methods with what it was given as `self`: its
    optimisers have the calibrator's parameters, and training_step has `self.auxiliary_loss()`.
    """
    kind = type(core_of(model))
    return _both(cast(Any, kind)) if any(base.__name__ == "LightningModule" for base in kind.__mro__) else Attached


@cache
def _both(kind: type) -> type[Attached]:
    def step(original: Run) -> Run:
        @wraps(original)
        def call(self: Attached, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return self._through(MethodType(original, self), args, kwargs)

        return call

    names = ("training_step", "validation_step", "test_step", "predict_step")
    steps = {name: step(getattr(kind, name)) for name in names}
    return type(f"Attached{kind.__name__}", (Attached, kind), {"_kind": kind, **steps})


def _bare(kind: type) -> Attached:
    """Return an attached LightningModule without contents, which pickle and deepcopy fill."""
    return _both(kind).__new__(_both(kind))


def _rank() -> int:
    """Return the number of this process among those that train together."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if there else 0
