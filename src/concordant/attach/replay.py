"""One forward pass with taps, as two: the first up to the last tap, the second with calibrated features.

A model may use the first modality's feature before the second's exists. So the model's forward is begun, and every
submodule's call kept with what it returned, until all taps have been reached; then it is left. The features are
calibrated together, and forward begins again: a call that was kept returns what it returned, without running, a tap
returns its calibrated feature, and everything behind runs as ever. What is computed from a tapped feature before the
last tap is reached is computed in both passes, in the first without a trace; what forward itself computes between
submodules likewise. Random numbers, plain attributes and buffers of forward itself are those of one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from concordant.attach.draws import Draws, devices_of, put_back, remember
from concordant.attach.interception import Run, calls_of, intercepted
from concordant.attach.repeating import State, check_checkpointing
from concordant.attach.structure import Path, differs, map_tensors, mark_of, replaced, tensors_of
from concordant.attach.tainted import Ancestry, is_tainted, taint
from concordant.attach.taps import Tap, find_module
from concordant.errors import ConcordantError, UsageError

Key = tuple[str, int]  # a submodule's name and the number of its call


class _Left(BaseException):
    """Leaves the first pass; no model's `except Exception` holds it."""


@dataclass
class _Kept:
    """A call that need not run again.

    Args:
        output: what it returned, copied before anybody changed it in place; an input that it returned is its number.
        changed: number of an input that the call changed in place -> what it became, itself, and its mark then.
        draws: the states of the random generators after it.
    """

    output: Any
    changed: dict[int, tuple[Tensor, Tensor, int | Tensor]]
    draws: Draws


@dataclass
class _Same:
    """Stands for the input of this number."""

    number: int


@dataclass
class Memory:
    """What one forward learns for the next.

    Args:
        tainted: calls that the graph of autograd shows to come from a tap, where no taint shows it.
    """

    tainted: set[Key] = field(default_factory=set)


class TwoPasses:
    """One forward pass of a model.

    Args:
        core: the model, without wrappers.
        taps: modality -> tap.
        watched: further taps whose outputs are wanted as they are (masks, presence).
        memory: kept from forward to forward.
    """

    def __init__(self, core: nn.Module, taps: Mapping[str, Tap], watched: Mapping[str, Tap], memory: Memory) -> None:
        self.core, self.taps, self.watched, self.memory = core, taps, watched, memory
        self.names = {id(module): name for name, module in core.named_modules()}
        self.at: dict[int, list[tuple[str, Tap]]] = {}
        for label, tap in (*taps.items(), *watched.items()):
            self.at.setdefault(id(find_module(core, tap.name, f"taps[{label!r}]")), []).append((label, tap))
        self.open = {  # ancestors of taps, which are walked through in both passes
            id(module)
            for module in core.modules()
            if id(module) not in self.at and any(id(child) in self.at for child in module.modules())
        }
        self.devices: list[int] = []
        self.depth = 0
        self.counts: dict[int, int] = {}
        self.kept: dict[Key, _Kept] = {}
        self.found: dict[str, tuple[Tensor, Path]] = {}
        self.ancestry = Ancestry()
        self.calibrated: dict[str, Tensor] = {}
        self.reached: set[str] = set()
        self.marks: dict[int, int | Tensor] = {}  # of the model's inputs, as kept calls leave them

    def __call__(
        self,
        forward: Run,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        calibrate: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
    ) -> Any:  # noqa: ANN401 - whatever the model returns
        """Return what the model's `forward` returns with calibrated features.

        Args:
            forward: the model's own.
            args: its arguments.
            kwargs: its keyword arguments.
            calibrate: tapped outputs by label -> calibrated features by modality.

        Raises:
            UsageError: a tap was not reached, was reached twice, or depends on another.
        """
        modules, inputs = calls_of(self.core), tensors_of((args, kwargs))
        self.marks = {id(x): mark_of(x) for x in inputs}
        self.devices = devices_of(self.core, inputs)
        draws, state = remember(self.devices), State([m for m in self.core.modules() if id(m) in self.open])
        first_args, first_kwargs = map_tensors((args, kwargs), lambda x: x)  # forward may take keys out of a dictionary
        try:
            with intercepted(modules, self._first), suppress(_Left):
                forward(*first_args, **first_kwargs)
        finally:
            state.put_back()
        missing = [label for label in (*self.taps, *self.watched) if label not in self.found]
        if missing:
            written = ", ".join(f"{ {**self.taps, **self.watched}[label].written!r} ({label})" for label in missing)
            raise UsageError(
                f"the taps {written} did not fire: forward went through without calling them; tap submodules that "
                "every forward calls, and call them as modules, not through other methods"
            )
        if any(differs(x, self.marks[id(x)]) for x in inputs):
            raise ConcordantError(
                "the model changes its input in place before the taps, which two passes would do twice; give it a copy"
            )
        self.calibrated = dict(calibrate({label: found[0] for label, found in self.found.items()}))
        put_back(draws)
        self.counts = {}
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
        """Answer a call of the first pass: run it and keep what it returned."""
        if self.depth or id(module) in self.open:
            return run(*args, **kwargs)
        if self._done():
            raise _Left  # the model held the first one
        key = self._count(module)
        labels = self._labels(module, key)
        inputs = tensors_of((args, kwargs))
        if self.found and (is_tainted(inputs) or key in self.memory.tainted or self.ancestry.descends(inputs)):
            features = " or ".join(repr(name) for name in self.found if name in self.taps)
            if any(label in self.taps for label in labels):
                raise UsageError(
                    f"the tap {key[0]!r} of {labels[0]!r} depends on the tapped feature of {features}; features are "
                    "calibrated together, so tap them where none has met another"
                )
            if labels:
                raise UsageError(
                    f"the tap {key[0]!r} of {labels[0]} depends on the tapped feature of {features}; what says which "
                    "values count is needed before features are calibrated, so make it a function of the model's inputs"
                )
            self.memory.tainted.add(key)
            return self._rehearse(module, run, args, kwargs)
        before = [mark_of(x) for x in inputs]
        self.depth += 1
        try:
            output = run(*args, **kwargs)
        finally:
            self.depth -= 1
        number_of = {id(x): number for number, x in enumerate(inputs)}
        changed = {
            number: (x.clone(), x, mark_of(x))
            for number, (x, mark) in enumerate(zip(inputs, before, strict=True))
            if differs(x, mark)
        }
        for number in changed:
            self._account(inputs[number], before[number])
        kept = map_tensors(output, lambda x: _Same(number_of[id(x)]) if id(x) in number_of else x.clone())
        self.kept[key] = _Kept(kept, changed, remember(self.devices))
        return self._tapped(module, labels, output) if labels else output

    def _tapped(self, module: nn.Module, labels: list[str], output: Any) -> Any:  # noqa: ANN401
        """Keep a tap's feature, and hand it out with a taint."""
        for label, tap in self.at[id(module)]:
            if label not in labels:
                continue
            feature, path = tap.find(output, label)
            if label in self.taps:
                check_checkpointing(module, tap)
            self.found[label] = (feature.clone(), path)
        if self._done():
            raise _Left
        for label in labels:
            if label in self.taps:
                feature, path = self.taps[label].find(output, label)
                if torch.is_grad_enabled() and not feature.requires_grad and feature.is_floating_point():
                    feature = feature.detach().requires_grad_()  # so that the graph tells what comes of it
                handed = feature.clone()
                self.ancestry.source(handed)
                output = replaced(output, path, taint(handed))
        return output

    def _rehearse(self, module: nn.Module, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run what will run again, leaving no trace of it: no graph, buffers as they were."""
        state = State(list(module.modules()))
        self.depth += 1
        try:
            with torch.no_grad():
                output = run(*args, **kwargs)
        finally:
            # In PyTorch 2.9, weights that autocast has converted here would be taken again where gradients matter.
            torch.clear_autocast_cache()
            self.depth -= 1
            state.put_back()
        return map_tensors(output, taint)

    def _second(self, module: nn.Module, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Answer a call of the second pass: from what was kept, or by running it."""
        if self.depth or id(module) in self.open:
            return run(*args, **kwargs)
        key = self._count(module)
        labels, kept = self._labels(module, key), self.kept.get(key)
        if kept is None:
            self.depth += 1
            try:
                return run(*args, **kwargs)
            finally:
                self.depth -= 1
        inputs = tensors_of((args, kwargs))
        for number, (value, itself, mark) in kept.changed.items():
            if inputs[number] is not itself or differs(itself, mark):  # an input of the model has it already
                inputs[number].copy_(value)
        output = _restored(kept.output, inputs)
        for label in labels:
            if label in self.calibrated:
                output = replaced(output, self.found[label][1], self.calibrated[label])
                self.reached.add(label)
        put_back(kept.draws)
        return output

    def _account(self, changed: Tensor, before: int | Tensor) -> None:
        """Do not hold a change by a kept call, which is made once, against the model."""
        known = self.marks.get(id(changed))
        if isinstance(known, Tensor):
            self.marks[id(changed)] = mark_of(changed)
        elif known is not None and isinstance(before, int):
            self.marks[id(changed)] = known + changed._version - before

    def _count(self, module: nn.Module) -> Key:
        """Return the name of a module and the number of this call."""
        self.counts[id(module)] = self.counts.get(id(module), 0) + 1
        return self.names[id(module)], self.counts[id(module)]

    def _labels(self, module: nn.Module, key: Key) -> list[str]:
        """Return whose tap this call is.

        Raises:
            UsageError: it is the second call of a tap that does not say which.
        """
        labels = []
        for label, tap in self.at.get(id(module), ()):
            if tap.call is None and key[1] > 1:
                raise UsageError(
                    f"the tap {tap.written!r} of {label!r} fires twice in one forward; say which call is meant: "
                    f'"{tap.name}#1" or "{tap.name}#2"'
                )
            if tap.call in (None, key[1]):
                labels.append(label)
        return labels

    def _done(self) -> bool:
        return len(self.found) == len(self.taps) + len(self.watched)


def _restored(output: Any, inputs: Sequence[Tensor]) -> Any:  # noqa: ANN401 - a structure
    """Return a kept output with the present inputs where it returned its inputs."""
    return map_tensors(output, lambda same: inputs[same.number], kind=_Same)
