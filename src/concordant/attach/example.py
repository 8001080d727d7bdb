"""Examples of inputs: how a model is called with one, and what a run shows about taps, without a trace in the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from concordant.attach.axes import resolve_layouts
from concordant.attach.containers import elements_of, replaced, tensors_of
from concordant.attach.taps import Tap, core_of, find_module
from concordant.attach.tracing import Inputs, untouched
from concordant.attach.wrapper import Attached
from concordant.calibration.result import Calibration
from concordant.errors import UsageError


class UnusedTapError(UsageError):
    """The model's output does not depend on the tapped feature of one modality, whatever the other taps are."""

    modality = ""


def call_with(model: Callable[..., Any], inputs: Any) -> Any:  # noqa: ANN401 - as the model's
    """Call a model or its method with a batch: a tuple by position, a dictionary by name, else as the only argument."""
    args, kwargs = as_inputs(inputs)
    return model(*args, **kwargs)


def as_inputs(example: Any) -> Inputs:  # noqa: ANN401
    """Return positional and keyword arguments of an example."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, (tuple, list)) else ((example,), {})


def try_example(attached: Attached, example: Any) -> None:  # noqa: ANN401
    """Build the calibrator for the features of one batch, and check what is attached with it.

    Raises:
        UsageError: the model's output does not depend on a tapped feature; the message names the elements that matter.
            Or a layout has its instances on another axis than the feature.
    """
    with untouched(attached) as used:
        settings = used.settings
        if used.calibrator is None and settings.at is None:
            core, method = core_of(used.model), settings.method or "forward"
            layouts = resolve_layouts(core, settings.modules, settings.layouts, as_inputs(example), method)
            used.settings = dataclasses.replace(settings, layouts=layouts)
        run_and_check(used, example)
        settings, built, known = used.settings, used.calibrator, used._known
    attached.settings, attached._known = settings, known
    if built is not None and attached.calibrator is None:
        attached.calibrator = built.train(attached.training)


def run_and_check(used: Attached, example: Any) -> None:  # noqa: ANN401
    """Run a model that may change, and raise UsageError if its output does not depend on a tapped feature."""
    with torch.no_grad():
        call_with(used, example)
    if used.calibrator is not None:
        _check_used(used, example)


def _check_used(used: Attached, example: Any) -> None:  # noqa: ANN401
    """Raise UsageError if the model's output does not change with a calibrated feature, nor has a gradient for it."""
    leaves: dict[str, Tensor] = {}

    def run(change: Callable[[str, Tensor], Tensor]) -> list[Tensor]:
        def put(_: nn.Module, __: object, out: Calibration) -> Calibration:
            return dataclasses.replace(out, features={name: change(name, x) for name, x in out.features.items()})

        handle = used.calibrator.register_forward_hook(put)  # type: ignore[union-attr]
        try:
            return tensors_of(call_with(used, example))
        finally:
            handle.remove()

    def leaf(name: str, x: Tensor) -> Tensor:
        leaves[name] = x.detach().clone().requires_grad_()
        return leaves[name]

    with torch.enable_grad():
        before = run(leaf)
        reached = _reached(before, leaves)
    for name in leaves:
        if name in reached or not before:
            continue
        with torch.no_grad():
            after = run(lambda one, x, name=name: x * 0.5 + 0.5 if one == name else x)  # type: ignore[misc]
        if all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(before, after, strict=False)):
            tap = used.settings.taps[name]
            matter = _elements_that_matter(used.model, tap, example) if isinstance(tap, Tap) else []
            written = repr(tap.written) if isinstance(tap, Tap) else f"the argument {tap!r}"
            error = UnusedTapError(
                f"the model's output does not depend on the feature of {name!r} at {written}, so its calibration would "
                f"change nothing; tap {' or '.join(map(repr, matter)) or 'another submodule'}"
                + (", which it depends on" if matter else "")
            )
            error.modality = name
            raise error


def _elements_that_matter(model: nn.Module, tap: Tap, example: Any) -> list[str]:  # noqa: ANN401
    """Return taps of the elements of a submodule's output which the model's output depends on."""
    leaves: dict[str, Tensor] = {}
    calls = 0

    def put(_: nn.Module, __: object, out: Any) -> Any:  # noqa: ANN401
        nonlocal calls
        calls += 1
        if calls == (tap.call or 1):
            for path, x in list(elements_of(out)):
                if x.is_floating_point():
                    written = tap.written.split("[")[0] + "".join(f"[{key}]" for key in path)
                    leaves[written] = x.detach().clone().requires_grad_()
                    out = replaced(out, path, leaves[written])
        return out

    handle = find_module(core_of(model), tap.name, "tap").register_forward_hook(put)
    try:
        with torch.enable_grad():
            return _reached(tensors_of(call_with(model, example)), leaves)
    except RuntimeError:  # of a model that changes such an element in place
        return []
    finally:
        handle.remove()


def _reached(outputs: list[Tensor], leaves: dict[str, Tensor]) -> list[str]:
    """Return the names of the leaves that the outputs have a gradient for."""
    total = [x.float().sum() for x in outputs if x.requires_grad and x.is_floating_point()]
    if not total or not leaves:
        return []
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return [name for name, grad in zip(leaves, grads, strict=True) if grad is not None]


@contextmanager
def suggesting(model: nn.Module, example: Any) -> Iterator[None]:  # noqa: ANN401
    """Add what `find_taps` finds with the example to an error of taps that is raised in a block."""
    try:
        yield
    except UsageError as error:
        if example is None:
            raise
        from concordant.attach.find import best_taps

        try:
            best = best_taps(model, example)
        except UsageError:
            raise error from None
        at = "" if best.at is None else f", at={best.at!r}"
        raise UsageError(f"{error}; find_taps suggests taps={best.taps}{at}, layout={best.layout}") from error
