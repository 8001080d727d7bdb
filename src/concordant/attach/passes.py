"""One forward pass of a tapped model with calibrated features.

Features are calibrated together once the last tap is reached. Most models do not use a feature before. For these one
pass suffices: an earlier tap returns a placeholder, which is filled with its calibrated feature at the last tap.

An argument of forward may be tapped too; it is reached before any submodule is called.

A model that uses a feature before the last tap runs in two passes. The first pass runs forward until every tap is
reached, keeps the output of every submodule call, and abandons forward there. In the second pass a kept call returns
its output without running, a tap returns its calibrated feature, and everything after the last tap runs as usual. A
call whose inputs derive from a tapped feature before the last tap runs in both passes, in the first without leaving a
trace. Operations of forward itself between submodules run twice as well. What the model holds ends as after one pass.

Which way a model needs shows in its first pass, which is undone if it does not suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from concordant.attach.containers import Path, at_path, map_tensors, packed_at, replaced, tensors_of
from concordant.attach.hooks import Run, check_checkpointing, cuda_devices, interceptable, intercepted
from concordant.attach.state import ModelState, RandomState
from concordant.attach.taps import Tap, find_module
from concordant.attach.tensors import Ancestry, Placeholder, Tainted, changed_since, reachable, taint, version_of
from concordant.errors import ConcordantError, UsageError

Call = tuple[str, int]  # a submodule's name and the number of its call
Calibrate = Callable[[dict[str, Any]], Mapping[str, Tensor]]


@dataclass
class _Kept:
    """A call of the first pass."""

    output: Any  # copied before later in-place changes; an input that it returned is an `_Input`
    repeat: Callable[[], None]  # what the call changed in the modules
    changed: dict[int, tuple[Tensor, Tensor, int | Tensor]]  # number of an input -> new value, the input, its version
    random: RandomState  # after the call


@dataclass
class _Input:
    """A placeholder for the input of this number."""

    number: int


class _Abandon(BaseException):
    """Raised to end a pass; a model's `except Exception` does not catch it."""


@dataclass
class Known:
    """What earlier passes of a model have shown.

    Args:
        tainted: calls that derive from a tap although their inputs show no taint. A later pass may have no autograd
            graph to show it.
        passes: training mode -> passes needed.
    """

    tainted: set[Call] = field(default_factory=set)
    passes: dict[bool, int] = field(default_factory=dict)


class Passes:
    """One forward pass of a model.

    Args:
        core: the model, without wrappers.
        taps: modality -> tap.
        watched: label -> tap of masks and presence, whose outputs are not changed.
        arguments: modality -> the path of its feature in (args, kwargs), of modalities without a tap.
        known: what earlier passes have shown; updated here.
        doubled: whether calibrated features have twice the rows.
    """

    def __init__(
        self,
        core: nn.Module,
        taps: Mapping[str, Tap],
        watched: Mapping[str, Tap],
        arguments: Mapping[str, Path],
        known: Known,
        *,
        doubled: bool = False,
    ) -> None:
        self.core, self.taps, self.all, self.known, self.doubled = core, taps, {**taps, **watched}, known, doubled
        self.arguments = arguments
        self.names = {id(module): name for name, module in core.named_modules()}
        self.at: dict[int, list[tuple[str, Tap]]] = {}
        for label, tap in self.all.items():
            self.at.setdefault(id(find_module(core, tap.name, f"taps[{label!r}]")), []).append((label, tap))
        self.open = {  # ancestors of taps, whose own code runs in both passes
            id(module)
            for module in core.modules()
            if id(module) not in self.at and any(id(child) in self.at for child in module.modules())
        }
        self.devices: list[int] = []
        self.grad, self.context = torch.is_grad_enabled(), _context()
        self.depth = 0  # of running calls, whose inner calls are not answered
        self.counts: dict[int, int] = {}
        self.kept: dict[Call, _Kept] = {}
        self.found: dict[str, tuple[Tensor, Path]] = {}
        self.packed: dict[str, PackedSequence | None] = {}  # "packed.LABEL" -> what the feature is the data of
        self.placeholders: dict[str, Placeholder] = {}
        self.used = False  # a placeholder, so that one pass does not suffice
        self.failure: BaseException | None = None  # of the calibrator
        self.ancestry = Ancestry()
        self.calibrated: dict[str, Tensor] = {}
        self.reached: set[str] = set()
        self.versions: dict[int, int | Tensor] = {}  # of the model's inputs, as kept calls leave them

    def __call__(self, forward: Run, args: tuple[Any, ...], kwargs: dict[str, Any], calibrate: Calibrate) -> Any:  # noqa: ANN401
        """Return the output of the model's `forward(*args, **kwargs)` with calibrated features.

        `calibrate` takes label -> tapped output and returns modality -> calibrated feature.

        Raises:
            UsageError: a tap is not reached, is reached twice, or depends on another.
            ConcordantError: the model needs two passes, and changes its input in place or reaches other taps in the
                second.
        """
        self.calibrate, mode = calibrate, self.core.training
        self.devices = cuda_devices(self.core, tensors_of((args, kwargs)))
        needed = self.known.passes.get(mode)
        if needed != 2:
            done, out = self._once(forward, args, kwargs, certain=needed == 1)
            self.known.passes[mode] = 1 if done else 2
            if done:
                return out
        return self._twice(forward, args, kwargs)

    def _once(self, forward: Run, args: tuple[Any, ...], kwargs: dict[str, Any], *, certain: bool) -> tuple[bool, Any]:
        """Run one pass; return whether it sufficed, and the output. Otherwise everything is as it was."""
        modules = self.core.modules() if not certain else (m for m in self.core.modules() if id(m) in self.open)
        start, state = RandomState(self.devices), ModelState(modules)
        given = tensors_of((args, kwargs))
        values = None if certain else [x.clone() for x in given]
        versions = [version_of(x) for x in given]
        first_args, first_kwargs = self._entered((args, kwargs), self._awaited)
        try:
            with intercepted(interceptable(self.core), self._only):
                out = forward(*first_args, **first_kwargs)
            if self.failure is None and not self.used:
                self._require_taps()
                if not any(x.is_meta for x in tensors_of(out)) or any(x.is_meta for x in self.core.parameters()):
                    return True, out
        except _Abandon:
            pass
        except ConcordantError:
            state.restore()
            raise
        except Exception:
            if certain or not self.placeholders:
                raise
        state.restore()
        if self.failure is not None:
            raise self.failure
        start.restore()
        if values is not None:  # the inputs, as far as autograd does not know of the change
            for x, version, value in zip(given, versions, values, strict=True):
                if changed_since(x, version):
                    x.data.copy_(value)
        self.counts, self.found, self.placeholders, self.depth = {}, {}, {}, 0
        return False, None

    def _only(self, module: nn.Module, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Answer a call of a single pass: run it, and take the features of a tap."""
        if self.depth or id(module) in self.open:
            return run(*args, **kwargs)
        if self.used or self.failure is not None:
            raise _Abandon  # the model caught the first one
        _, labels = self._identify(module)
        if not self.calibrated and any(type(x) is Placeholder for x in tensors_of((args, kwargs))):
            self._use()
        with self._inside():
            output = run(*args, **kwargs)
        if self._taken(module, labels, output):
            self._use()
        if labels and self._complete() and not self.calibrated:
            self._calibrate_within()
            with torch.set_grad_enabled(self.grad):  # the encoders may run under no_grad
                filled = [one.fill(self.calibrated[label].clone()) for label, one in self.placeholders.items()]
            if not all(filled):
                self._use()
        return self._with(self.calibrated.__getitem__ if self.calibrated else self._awaited, labels, output)

    def _entered(self, given: Any, change: Callable[[str], Tensor]) -> Any:  # noqa: ANN401
        """Return a copy of (args, kwargs), whose dictionaries forward may change, with new features among them."""
        entered = map_tensors(given, lambda x: x)
        for label, path in self.arguments.items():
            self._keep(label, at_path(given, path), path, given)
            entered = replaced(entered, path, change(label))
        return entered

    def _calibrate_within(self) -> None:
        """Calibrate inside the model's forward, as if outside it; a model must not catch the calibrator's errors."""
        if _context() != self.context:
            self._use()
        state = RandomState(self.devices)
        try:
            with torch.set_grad_enabled(self.grad):
                self.calibrated = dict(self.calibrate(self._features()))
        except BaseException as error:  # the end of `Attached.calibrate` too
            self.failure = error
            raise _Abandon from None
        state.restore()

    def _awaited(self, label: str) -> Placeholder:
        """Return a placeholder of a feature."""
        feature = self.found[label][0]
        with torch.no_grad(), torch.inference_mode(mode=False):
            made = torch.empty_like(feature, device="meta").as_subclass(Placeholder)
        made.pending = (feature, not self.doubled, self._use)
        self.placeholders[label] = made
        return made

    def _use(self) -> None:
        """End a single pass."""
        self.used = True
        raise _Abandon

    def _require_taps(self) -> None:
        """Raise UsageError if forward ended without reaching every tap."""
        missing = [label for label in self.all if label not in self.found]
        if missing:
            written = ", ".join(f"{self.all[label].written!r} ({label})" for label in missing)
            raise UsageError(
                f"the taps {written} did not fire: forward went through without calling them; tap submodules that "
                "every forward calls, and call them as modules, not through other methods; if they are called in "
                "another method of the model than forward, give attach its name as method="
            )

    def _twice(self, forward: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run two passes."""
        for module in self.core.modules():
            if id(module) in self.open and module is not self.core and hasattr(module, "_get_fsdp_state"):
                raise UsageError(
                    f"a tap lies inside {self.names[id(module)]!r}, which FSDP shards by itself and of which a part "
                    "would run twice; call fully_shard on submodules without a tap, or tap the sharded one itself"
                )
        modules, inputs = interceptable(self.core), tensors_of((args, kwargs))
        self.versions = {id(x): version_of(x) for x in inputs}
        start, state = RandomState(self.devices), ModelState(self.core.modules())
        for module in self.core.modules():
            if id(module) in self.open:
                state.use_copies(module)
        first_args, first_kwargs = self._entered((args, kwargs), self._tainted)
        try:
            with intercepted(modules, self._first), suppress(_Abandon):
                forward(*first_args, **first_kwargs)
        finally:
            state.restore()
        self._require_taps()
        if any(changed_since(x, self.versions[id(x)]) for x in inputs):
            raise ConcordantError(
                "the model changes its input in place before the taps, which two passes would do twice; give it a copy"
            )
        if not self.calibrated:  # by a single pass
            self.calibrated = dict(self.calibrate(self._features()))
        start.restore()
        self.counts = {}
        if self.arguments:
            args, kwargs = self._entered((args, kwargs), self.calibrated.__getitem__)
        with intercepted(modules, self._second):
            out = forward(*args, **kwargs)
        unreached = [name for name in self.taps if name not in self.reached]
        if unreached:
            raise ConcordantError(
                f"the taps of {', '.join(unreached)} were reached at first and not again with calibrated features; "
                "a model whose way depends on a tapped feature's values cannot be tapped there"
            )
        return out

    def _first(self, module: nn.Module, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Answer a call of the first pass: run it and keep its output."""
        if self.depth or id(module) in self.open:
            return run(*args, **kwargs)
        if self._complete():
            raise _Abandon  # the model caught the first one
        call, labels = self._identify(module)
        inputs = tensors_of((args, kwargs))
        tainted = call in self.known.tainted or any(isinstance(x, Tainted) for x in reachable((args, kwargs)))
        if self.found and (tainted or self.ancestry.has_descendant(inputs)):
            self._refuse_dependent(call, labels)
            self.known.tainted.add(call)
            return self._rehearse(module, run, args, kwargs)
        before = [version_of(x) for x in inputs]
        state = ModelState([*module.modules(), *(m for m in self.core.modules() if id(m) in self.open)])
        with self._inside():
            output = run(*args, **kwargs)
        changed = {}
        for number, (x, version) in enumerate(zip(inputs, before, strict=True)):
            if changed_since(x, version):
                changed[number] = (x.clone(), x, version_of(x))
                self._excuse(x, version)
        number_of = {id(x): number for number, x in enumerate(inputs)}
        kept = map_tensors(output, lambda x: _Input(number_of[id(x)]) if id(x) in number_of else x.clone())
        self.kept[call] = _Kept(kept, state.changes(), changed, RandomState(self.devices))
        self._taken(module, labels, output)
        if labels and self._complete():
            raise _Abandon
        return self._with(self._tainted, labels, output)

    def _tainted(self, label: str) -> Tensor:
        """Return a copy of a feature that shows what is computed from it."""
        feature = self.found[label][0]
        if torch.is_grad_enabled() and not feature.requires_grad and feature.is_floating_point():
            feature = feature.detach().requires_grad_()  # for the autograd graph to show its descendants
        copied = feature.clone()
        self.ancestry.add(copied)
        return taint(copied)

    def _rehearse(self, module: nn.Module, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run a call that runs again in the second pass: without a graph, and with its buffers restored."""
        state = ModelState(module.modules())
        for each in module.modules():
            state.use_copies(each)
        try:
            # Compiled submodules run uncompiled: the compiler does not know tainted tensors.
            with self._inside(), torch.no_grad(), torch.compiler.set_stance("force_eager"):
                output = run(*args, **kwargs)
        finally:
            # PyTorch 2.9 would reuse weights that autocast has converted here, without their gradients.
            torch.clear_autocast_cache()
            state.restore()
        return map_tensors(output, taint)

    def _second(self, module: nn.Module, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Answer a call of the second pass: return the kept output, or run it."""
        if self.depth or id(module) in self.open:
            return run(*args, **kwargs)
        call, labels = self._identify(module)
        kept = self.kept.get(call)
        if kept is None:
            with self._inside():
                return run(*args, **kwargs)
        inputs = tensors_of((args, kwargs))
        for number, (value, itself, version) in kept.changed.items():
            if inputs[number] is not itself or changed_since(itself, version):  # else it has the new value already
                inputs[number].copy_(value)
        output = map_tensors(kept.output, lambda placeholder: inputs[placeholder.number], kind=_Input)
        output = self._with(self.calibrated.__getitem__, labels, output)
        self.reached.update(labels)
        kept.random.restore()
        kept.repeat()
        return output

    def _refuse_dependent(self, call: Call, labels: list[str]) -> None:
        """Raise UsageError if a call that derives from a tapped feature is a tap itself."""
        if not labels:
            return
        features = " or ".join(repr(name) for name in self.found if name in self.taps or name in self.arguments)
        if any(label in self.taps for label in labels):
            raise UsageError(
                f"the tap {call[0]!r} of {labels[0]!r} depends on the tapped feature of {features}; features are "
                "calibrated together, so tap them where none has met another"
            )
        raise UsageError(
            f"the tap {call[0]!r} of {labels[0]} depends on the tapped feature of {features}; what says which "
            "values count is needed before features are calibrated, so make it a function of the model's inputs"
        )

    def _excuse(self, x: Tensor, before: int | Tensor) -> None:
        """Leave a change of the model's input by a kept call, which is made once, out of the check of forward."""
        version = self.versions.get(id(x))
        if isinstance(version, Tensor):
            self.versions[id(x)] = version_of(x)
        elif version is not None and isinstance(before, int):
            self.versions[id(x)] = version + x._version - before

    def _identify(self, module: nn.Module) -> tuple[Call, list[str]]:
        """Count a call; return its key and the labels of its taps; raise UsageError if a tap's call is ambiguous."""
        number = self.counts[id(module)] = self.counts.get(id(module), 0) + 1
        labels = []
        for label, tap in self.at.get(id(module), ()):
            if tap.call is None and number > 1:
                raise UsageError(
                    f"the tap {tap.written!r} of {label!r} fires twice in one forward; say which call is meant: "
                    f'"{tap.name}#1" or "{tap.name}#2"'
                )
            if tap.call in (None, number):
                labels.append(label)
        return (self.names[id(module)], number), labels

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Let the calls inside a running call through."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def _taken(self, module: nn.Module, labels: list[str], output: Any) -> bool:  # noqa: ANN401
        """Keep the features of the taps of a call; return whether one runs under gradient checkpointing."""
        checkpointed = False
        for label in labels:
            feature, path = self.all[label].find(output, label)
            if label in self.taps and check_checkpointing(module, self.taps[label]):
                checkpointed = True
            self._keep(label, feature, path, output)
        return checkpointed

    def _with(self, new: Callable[[str], Tensor], labels: list[str], output: Any) -> Any:  # noqa: ANN401
        """Return the output of a call with new features at its taps, but for those of masks and presence."""
        for label in labels:
            if label in self.taps:
                output = replaced(output, self.found[label][1], new(label))
        return output

    def _keep(self, label: str, feature: Tensor, path: Path, output: Any) -> None:  # noqa: ANN401
        """Keep a tap's feature, and the packed sequence that it may be the data of."""
        self.found[label] = (feature.clone(), path)
        self.packed[f"packed.{label}"] = packed_at(output, path)

    def _features(self) -> dict[str, Any]:
        return {label: feature for label, (feature, _) in self.found.items()} | self.packed

    def _complete(self) -> bool:
        return len(self.found) == len(self.all) + len(self.arguments)


def _context() -> tuple[Any, ...]:
    """Return the modes, apart from that of autograd, in which operations run now."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    return (torch.is_inference_mode_enabled(), *((kind, torch.get_autocast_dtype(kind)) for kind in kinds))
