"""Attach a calibrator to any PyTorch model, without a change of its code.

Submodules: taps (where features come from), arguments (features and masks among a call's arguments), hooks and passes
(how a forward pass is intercepted), wrapper (the module that is returned), fit (`fit_plugin`).
In `from concordant import attach` the name means the function; submodules are imported by their full names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from concordant import seeding
from concordant.attach.arguments import Address, Source, check_addresses, check_sources, parameters_of
from concordant.attach.checkpoints import without_calibrator
from concordant.attach.example import call_with, suggesting, try_example
from concordant.attach.ragged import Counts, taps_of
from concordant.attach.settings import Settings
from concordant.attach.taps import (
    Tap,
    WrittenLayout,
    check_taps,
    core_of,
    find_module,
    is_compiled,
    read_layouts,
    read_tap,
    require_in_reach,
)
from concordant.attach.wrapper import Attached, class_for
from concordant.calibration.base import Calibrator
from concordant.calibration.perturbation import Perturbation, as_settings
from concordant.errors import UsageError, checks, shown
from concordant.modalities import AUTO, check_sizes

__all__ = ["Attached", "attach", "call_with", "without_calibrator"]


def attach(
    model: nn.Module,
    taps: Mapping[str, Address] | Literal["auto"],
    *,
    at: str | None = None,
    layout: WrittenLayout | Mapping[str, str] = "auto",
    calibrator: Calibrator | Callable[..., Calibrator] | None = None,
    sizes: Mapping[str, int] | None = None,
    example: Any = None,  # noqa: ANN401 - as the model's
    masks: Mapping[str, Source] | None = None,
    present: Mapping[str, Source] | None = None,
    batch_size: Callable[..., int] | None = None,
    counts: Mapping[str, Counts] | None = None,
    perturbation: Perturbation | bool = True,
    copies: bool = False,
    freeze: Literal["backbone"] | None = None,
    method: str | None = None,
    seed: int | None = None,
) -> Attached:
    """Attach a calibrator between a model's encoders and its fusion.

    The returned module is called like the model. Untrained it gives the model's output bit for bit. In training it
    perturbs some of the features to learn their reliability; add `auxiliary_loss()` to the loss. `calibration` holds
    the result of the last forward pass, `detach()` returns the original model.

    The keys of the state dictionary are the names of parameters and buffers: the model's after "model.", and the
    calibrator's after "calibrator.". A checkpoint of the model alone loads into the attached model; for the other way
    there is `model.load_state_dict(without_calibrator(attached.state_dict()))`. Parameters stay the same objects.

    Without `at`, a model that uses a tapped feature before the last tap runs twice: up to the last tap, then again with
    kept outputs in place of submodules that ran. No submodule up to its tap runs twice then; the code of forward
    itself, and submodules that use a tapped feature before the last tap, do. What the first run changes in the model is
    put back: attributes and containers among them, hooks, parameters, buffers, random numbers. What it changes
    elsewhere, such as in a file or a global variable, stays. The first forward pass in training and the first in
    evaluation find out which models need this, so everything may run twice in them. Under gradient checkpointing tap
    the checkpointed block itself, with use_reentrant=False.

    Args:
        model: any module. It may be wrapped in DistributedDataParallel or DataParallel of one process; wrap the
            attached model instead where you can, for the calibrator's gradients to be averaged too.
        taps: modality -> the submodule whose output is its feature: "net.audio", "net.audio#2" (its second call),
            "net.audio[1]" or "net.audio[last_hidden_state]" (an element of its output; the default of a tuple is the
            first); or an argument of forward that comes in as it is: 0, "audio", or a path such as (0, "audio"). A
            name is a submodule's, if there is one; ("audio",) is the argument. With `at` all are arguments of that
            module. "auto": what `find_taps` finds with the example, one modality per tensor among the arguments; see
            `Attached.taps`.
        at: the module whose arguments are the features, such as a fusion module; "" = the model itself.
        layout: of all features, or modality -> layout: "bd", "btd", "bdt", "tbd", "bchw", "bhwc", "bcthw", "bthwc",
            "auto", or with frames folded into the batch "(b t)d", "(b t)chw" and "(b t)hwc".
        calibrator: a calibrator of these modalities; or a class or function of sizes and `layouts` that returns one;
            None = `ContextualCalibrator`.
        sizes: modality -> feature size; None = found in the first forward pass.
        example: one batch of inputs (a tensor, a tuple, or a dictionary of keyword arguments) to find the sizes with
            now, without training, and to check that the model's output depends on every tapped feature.
        masks: modality -> a function of the model's inputs that returns bool (B, T), True at valid steps; or a tap.
        present: modality -> a function or tap likewise, bool (B,), True where the instance has the modality. What the
            model computes of an absent feature stays its own: one that divides zeros by their norm gives NaN, attached
            or not.
        batch_size: a function of the model's inputs that returns B, needed if all features and the first input have
            frames folded into the batch.
        counts: modality -> the number of rows of each instance, whole numbers (B,), where a tap gives the rows of all
            instances one after another, (N, D) or (N, C, H, W), and instances may have different numbers of them, as
            with pictures or patches: the name, position or path of an argument of the model's forward, a tap, or a
            function of the model's inputs. Without it "(b t)d" means equal parts, of every batch. A
            `PackedSequence` knows its own.
        perturbation: the perturbations of training, as for `ContextualCalibrator`; False = none. No perturbation makes
            a norm of exactly 0.
        copies: in training, give the rest of the model a clean and a perturbed copy of every instance, 2B rows in the
            order of `repeat_targets`. Only what is computed from the features doubles.
        freeze: "backbone" trains the calibrator alone; the model is then kept in evaluation mode.
        method: the method of the model in which features are calibrated, and which the attached model runs when it is
            called; None = forward. For a model that calls its encoders in generate() and not in forward, "generate".
        seed: the seed of the calibrator's weights and perturbations; None = drawn from PyTorch's global generator.

    Raises:
        UsageError: taps, layouts, masks or the calibrator do not fit the model; the message says what to do.

    Warns:
        UserWarning: the model is compiled as a whole, and runs uncompiled while it is attached. Or taps="auto" found
            taps that a part of a modality goes past.

    >>> class Model(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.audio, self.visual, self.head = nn.Linear(4, 3), nn.Linear(5, 3), nn.Linear(6, 2)
    ...
    ...     def forward(self, audio, visual):
    ...         return self.head(torch.cat([self.audio(audio), self.visual(visual)], 1))
    >>> model, audio, visual = Model().eval(), torch.randn(2, 4), torch.randn(2, 5)
    >>> attached = attach(model, {"audio": "audio", "visual": "visual"}, layout="bd")
    >>> torch.equal(attached(audio, visual), model(audio, visual)), attached.calibration.reliability.tolist()
    (True, [[1.0, 1.0], [1.0, 1.0]])
    """
    if isinstance(taps, str) and taps == AUTO:
        taps, at, layout = _found(model, example, at, layout)
    if not isinstance(taps, Mapping) or len(taps) < 2:
        listed = list(taps) if isinstance(taps, Mapping) else taps
        raise UsageError(f"taps must name at least two modalities, {{modality: submodule}}; found {shown(listed)}")
    _check(model, at)
    with checks() as check:
        check.choice("freeze", freeze, (None, "backbone"))
        copies = check.flag("copies", copies)
        for argument, given, what in (
            ("calibrator", calibrator, "a calibrator, or a class or function that makes one"),
            ("batch_size", batch_size, "a function of the model's inputs that returns B"),
        ):
            check.require(given is None or callable(given), f"{argument} must be {what}; found {shown(given)}")
    base = seeding.chosen(seed)
    names, core = tuple(taps), core_of(model)
    check_sizes(dict.fromkeys(names, 1), AUTO)  # the names; sizes may be unknown yet
    perturbs = calibrator.perturbation if isinstance(calibrator, Calibrator) else as_settings(perturbation)
    if copies and perturbs is None:
        raise UsageError(
            "copies=True needs a perturbation, which makes the copies differ, here or in your calibrator; found none"
        )
    if calibrator is not None and perturbation is not True:
        raise UsageError("perturbation is for the calibrator that attach builds; give it to your own calibrator")
    if method is not None and not callable(getattr(core, str(method), None)):
        there = [name for name in dir(type(core)) if not name.startswith("_") and name not in dir(nn.Module)]
        raise UsageError(f"method must name a method of the model: {', '.join(there)}; found {shown(method)}")
    layouts = read_layouts(layout, names)
    sources = {"masks": check_sources("masks", masks, names), "present": check_sources("present", present, names)}
    watched = {
        f"{argument}.{name}": read_tap(source, f"{argument}[{name!r}]")
        for argument, given in sources.items()
        for name, source in given.items()
        if isinstance(source, str)
    }
    counted = check_sources("counts", counts, names, addresses=True)
    checked: Any
    where: Tap | str | None = at
    if at is None:
        watched |= taps_of(counted, core)
        raw = {name: address for name, address in taps.items() if _is_argument(core, address, method)}
        read = {name: read_tap(tap, f"taps[{name!r}]") for name, tap in taps.items() if name not in raw}
        checked = {**read, **check_addresses(raw)}
        if not read:
            raise UsageError(f'all taps are arguments of the model\'s forward, {shown(list(raw.values()))}; add at=""')
        with suggesting(model, example):
            check_taps(core, read)
        for label, tap in watched.items():
            find_module(core, tap.name, label)
        require_in_reach(core, {**read, **watched})
    else:
        if watched:
            raise UsageError(f"{', '.join(watched)}: with `at`, masks and present must be functions of the inputs")
        checked = check_addresses(taps)
        if at != "":
            where = read_tap(at, "at")
            find_module(core, where.name, "at")
            require_in_reach(core, {"at": where})
    if at != "" and is_compiled(model):
        warnings.warn(
            "the model is compiled as a whole, where no tap can follow: attached, its forward runs uncompiled; compile "
            "its submodules instead, such as the tapped ones and the head, to keep most of the speed",
            stacklevel=2,
        )
    ready = calibrator if isinstance(calibrator, Calibrator) else None
    if ready is not None and ready.names != names:
        raise UsageError(
            f"the calibrator is of {', '.join(ready.names)}; the modalities of taps are {', '.join(names)}"
        )
    settings = Settings(
        taps=checked,
        at=where,
        layouts=layouts,
        factory=None if isinstance(calibrator, Calibrator) else calibrator,
        **sources,
        watched=watched,
        batch_size=batch_size,
        counts=counted,
        perturbation=perturbation,
        copies=copies,
        freeze=freeze,
        seed=base,
        method=None if method == "forward" else method,
    )
    if ready is None and sizes is not None:
        if not isinstance(sizes, Mapping) or set(sizes) != set(names):
            found = f"names {', '.join(sizes) or 'nothing'}" if isinstance(sizes, Mapping) else f"is {sizes!r}"
            raise UsageError(f"sizes {found}; the modalities of taps are {', '.join(names)}")
        ready = settings.build(sizes)
    first = next(model.parameters(), None)
    if ready is not None and first is not None:
        ready = ready.to(first.device)
    attached = class_for(model)(model, ready, settings)
    if example is not None:
        with detached_on_error(attached), suggesting(model, example):
            try_example(attached, example)
    return attached


@contextmanager
def detached_on_error(attached: Attached) -> Iterator[None]:
    """Give the model back as it was if a block fails, whose caller gets no attached model to detach."""
    try:
        yield
    except BaseException:
        attached.detach()
        raise


def _is_argument(core: nn.Module, tap: object, method: str | None) -> bool:
    """Return whether a tap is an argument of the model's forward: a position, a path, or a name of no submodule."""
    numbered = isinstance(tap, (int, tuple)) and not isinstance(tap, bool)
    named = isinstance(tap, str) and tap in parameters_of(core, method or "forward")
    return numbered or (named and tap not in dict(core.named_modules()))


def _found(
    model: nn.Module,
    example: Any,  # noqa: ANN401
    at: str | None,
    layout: WrittenLayout | Mapping[str, str],
) -> tuple[dict[str, Address], str | None, WrittenLayout | Mapping[str, str]]:
    """Return the taps of the best candidate of `find_taps`, its `at`, and its layout where none is given."""
    from concordant.attach.find import best_taps

    if example is None or at is not None:
        raise UsageError('taps="auto" needs an example, one batch of inputs, and no `at`')
    best = best_taps(model, example)
    parted = [name for name, point in best.points.items() if not point.whole]
    if parted:
        warnings.warn(
            f"a part of {', '.join(parted)} goes past the taps that were found, {best.taps}, and is not calibrated; "
            "give taps, if there are better ones",
            stacklevel=3,
        )
    return best.taps, best.at, best.layout if layout == AUTO else layout


def _check(model: object, at: object) -> None:
    """Check a model for what no tap can follow."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a torch.nn.Module; found {type(model).__name__}")
    if any(isinstance(module, Attached) for module in model.modules()):
        raise UsageError("the model has a calibrator attached already; call its detach() first")
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        raise UsageError(
            "a DataParallel model over several devices copies its submodules, which no tap can follow; attach to "
            "model.module, and wrap what attach returns"
        )
    if isinstance(model, nn.parallel.DistributedDataParallel) and torch.distributed.get_world_size() > 1:
        raise UsageError(
            "DistributedDataParallel would not average the calibrator's gradients; attach to model.module, and wrap "
            "what attach returns"
        )
    if isinstance(core_of(model), torch.jit.ScriptModule) and at != "":
        raise UsageError(
            "a scripted or traced model calls its submodules where no tap can follow; attach to the model that it was "
            'made of, or at its inputs (at="")'
        )
