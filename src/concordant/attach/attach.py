"""`attach` puts a calibrator into a model that exists already, without a line of it edited.

The model is called like before; what it computes from each modality alone is computed once, then calibrated
together, then the model goes on. The parts are in the folder `attaching`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from concordant.attach.arguments import Address, check_addresses
from concordant.attach.draws import devices_of, put_back, remember
from concordant.attach.folding import read_layouts
from concordant.attach.keys import without_calibrator
from concordant.attach.sources import Source, check_batch_size, check_sources, taps_among
from concordant.attach.taps import check_taps, core_of, find_module, read_tap
from concordant.attach.wrapper import Attached, Settings
from concordant.calibration.base import Calibrator
from concordant.calibration.perturbation import Perturbation
from concordant.errors import UsageError
from concordant.modalities import AUTO, check_sizes

__all__ = ["Attached", "attach", "without_calibrator"]


def attach(
    model: nn.Module,
    taps: Mapping[str, Address],
    *,
    at: str | None = None,
    layout: str | Mapping[str, str] = "auto",
    calibrator: Calibrator | Callable[..., Calibrator] | None = None,
    sizes: Mapping[str, int] | None = None,
    example: Any = None,  # noqa: ANN401 - whatever the model takes
    masks: Mapping[str, Source] | None = None,
    present: Mapping[str, Source] | None = None,
    batch_size: Callable[..., int] | None = None,
    perturbation: Perturbation | bool = True,
    copies: bool = False,
    freeze: str | None = None,
    seed: int | None = None,
) -> Attached:
    """Put a calibrator between a model's encoders and what joins their features.

    The returned module is called like the model. Untrained it returns what the model returns, bit for bit. In
    training it perturbs some of the features, so that reliability is learned; add `auxiliary_loss()` to the loss.
    `calibration` holds what the last forward found, `detach()` gives the original model back.

    Its state dictionary has the model's keys, and the calibrator's beside them under "concordant_calibrator.": a
    checkpoint of the model loads into it, and its own loads into the model after `without_calibrator`, or with
    strict=False. Parameters stay the same objects.

    Without `at`, forward is begun twice: up to the last tap, then again with kept outputs in place of submodules
    that ran. No submodule up to its tap runs twice; code of forward itself and submodules that use a tapped feature
    before the last tap do. A model that counts or appends on its own, outside numbers and buffers, does it twice.
    Under gradient checkpointing tap the checkpointed block itself, with use_reentrant=False.

    Args:
        model: any module; DistributedDataParallel and DataParallel of one process may be around it, but around
            the attached model is better: then the calibrator's gradients are averaged too.
        taps: modality -> the submodule whose output is its feature: "net.audio", "net.audio#2" (its second call),
            "net.audio[1]" or "net.audio[last_hidden_state]" (an element of its output; of a tuple the first is taken
            else). With `at`: modality -> an argument: 0, "audio", or a path such as (0, "audio").
        at: the module whose arguments are the features (a fusion module); "" = the model itself.
        layout: of all features, or modality -> layout: "bd", "btd", "bdt", "tbd", "bchw", "bcthw", "auto", or with
            frames folded into the batch "(b t)d" and "(b t)chw".
        calibrator: a calibrator of these modalities; or a class or function called with sizes and `layouts`; None =
            `ContextualCalibrator`.
        sizes: modality -> feature size; None = found by the first forward.
        example: one batch of inputs (a tensor, a tuple, or a dictionary of keyword arguments) to find the sizes by
            at once, without training anything.
        masks: modality -> a function of the model's inputs that returns bool (B, T), True at valid steps; or a tap.
        present: likewise, bool (B,), True where the instance has the modality.
        batch_size: a function of the model's inputs that returns B, where all features are folded and the first input
            is as well.
        perturbation: what training inflicts, as for `ContextualCalibrator`. For a model that divides features by their
            length, as CLIP does, leave "zero" out of the kinds.
        copies: in training, let the rest of the model see every instance untouched and perturbed, 2B rows, as
            `repeat_targets` makes labels. Only what is computed from the features doubles.
        freeze: "backbone" trains the calibrator alone; the model is then kept in evaluation mode.
        seed: of the calibrator's weights and perturbations; None = drawn from PyTorch's global generator.

    Raises:
        UsageError: taps, layouts, masks or the calibrator do not fit the model; the sentence says what to do.

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
    _check(model, taps, freeze, copies)
    check_sizes(dict.fromkeys(taps, 1), AUTO)  # the names; sizes may not be known yet
    if calibrator is not None and not callable(calibrator):  # as calibrators are, and classes
        raise UsageError(
            f"calibrator must be a calibrator, or a class or function that makes one; found {calibrator!r}"
        )
    if calibrator is not None and perturbation is not True:
        raise UsageError("perturbation is for the calibrator that attach builds; give it to your own calibrator")
    names, core = tuple(taps), core_of(model)
    layouts = read_layouts(layout, names)
    check_batch_size(batch_size)
    sources = {"masks": check_sources("masks", masks, names), "present": check_sources("present", present, names)}
    watched = {label: tap for argument, given in sources.items() for label, tap in taps_among(argument, given).items()}
    base = int(torch.randint(2**62, ()).item()) if seed is None else seed
    given_taps: Any
    if at is None:
        given_taps = {name: read_tap(tap, f"taps[{name!r}]") for name, tap in taps.items()}
        check_taps(core, given_taps)
        for label, tap in watched.items():
            find_module(core, tap.name, label)
        where = None
    else:
        if watched:
            raise UsageError(f"{', '.join(watched)}: with `at`, masks and present must be functions of the inputs")
        given_taps = check_addresses(taps)
        where = None if at == "" else read_tap(at, "at")
        if where is not None:
            find_module(core, where.name, "at")

    ready = calibrator if isinstance(calibrator, Calibrator) else None
    if ready is not None and ready.names != names:
        raise UsageError(
            f"the calibrator is of {', '.join(ready.names)}; the modalities of taps are {', '.join(names)}"
        )
    settings = Settings(
        taps=given_taps,
        at=where,
        inputs=at == "",
        layouts=layouts,
        kind=None if isinstance(calibrator, Calibrator) else calibrator,
        masks=sources["masks"],
        present=sources["present"],
        watched=watched,
        batch_size=batch_size,
        perturbation=perturbation,
        copies=copies,
        freeze=freeze,
        seed=base,
    )
    if ready is None and sizes is not None:
        if not isinstance(sizes, Mapping) or set(sizes) != set(names):
            found = f"names {', '.join(sizes) or 'nothing'}" if isinstance(sizes, Mapping) else f"is {sizes!r}"
            raise UsageError(f"sizes {found}; the modalities of taps are {', '.join(names)}")
        ready = settings.build(sizes)
    first = next(model.parameters(), None)
    if ready is not None and first is not None:
        ready = ready.to(first.device)
    attached = Attached(model, ready, settings)
    if example is not None:
        _try(attached, example)
    return attached


def call_with(model: Callable[..., Any], inputs: Any) -> Any:  # noqa: ANN401 - whatever the model takes and returns
    """Call a model or its method with a batch: a tuple by position, a dictionary by name, else as the only argument."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def _try(attached: Attached, example: Any) -> None:  # noqa: ANN401
    """Run one batch in evaluation mode, and leave random numbers and modes as they were."""
    modes = [(module, module.training) for module in attached.modules()]
    draws = remember(devices_of(attached.model))
    try:
        attached.eval()
        with torch.no_grad():
            call_with(attached, example)
    finally:
        for module, mode in modes:
            module.training = mode
        put_back(draws)
    if attached.calibrator is not None:
        attached.calibrator.train(attached.training)


def _check(model: object, taps: object, freeze: object, copies: object) -> None:
    """Refuse what is wrong before the taps are read."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a torch.nn.Module; found {type(model).__name__}")
    if any(isinstance(module, Attached) for module in model.modules()):
        raise UsageError("the model has a calibrator attached already; call its detach() first")
    inner: nn.Module | None = model
    if isinstance(inner, nn.DataParallel) and len(inner.device_ids) > 1:
        raise UsageError(
            "a DataParallel model over several devices copies its submodules, which no tap can follow; attach to "
            "model.module, and wrap what attach returns"
        )
    if isinstance(inner, nn.parallel.DistributedDataParallel) and torch.distributed.get_world_size() > 1:
        raise UsageError(
            "DistributedDataParallel would not average the calibrator's gradients; attach to model.module, and wrap "
            "what attach returns"
        )
    if not isinstance(taps, Mapping) or len(taps) < 2:
        found = list(taps) if isinstance(taps, Mapping) else taps
        raise UsageError(f"taps must name at least two modalities, {{modality: submodule}}; found {found!r}")
    if freeze not in (None, "backbone"):
        raise UsageError(f"freeze must be None or 'backbone'; found {freeze!r}")
    if not isinstance(copies, bool):
        raise UsageError(f"copies must be True or False; found {copies!r}")
