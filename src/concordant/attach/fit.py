"""Train a calibrator for a model that is already trained: a few hundred steps, with the model unchanged.

By default the calibrator is trained by its own losses alone, which show it which feature was perturbed. The task's loss
would come through a head that has memorised the training rows, and would fit the calibrator to them. The reliability is
applied only beyond a tolerance, so features that look clean pass unchanged. What is taken away is filled with what the
other modalities let one expect. Held-out rows choose among candidates and find the tolerance, under a bound on harm.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from concordant import seeding
from concordant.attach import Attached, attach, call_with, detached_on_error
from concordant.attach.arguments import Address
from concordant.attach.control import control
from concordant.attach.harm import TOLERANCES
from concordant.attach.outcomes import Batches, Loss, class_labels, default_loss, logits_of, moved, validation_loss
from concordant.attach.state import ModelState
from concordant.attach.taps import WrittenLayout
from concordant.attach.tracing import untouched
from concordant.calibration.base import Calibrator
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.calibration.fill import Absent, Fill
from concordant.calibration.perturbation import Perturbation, repeat_targets
from concordant.errors import ConcordantError, UsageError, checks, shown
from concordant.modalities import as_tensor
from concordant.training.devices import device_faults
from concordant.training.loop import fit, one_cycle, what_is_not_finite
from concordant.training.selection import CheckpointSelector, snapshot

STEPS = 400
VARIATIONS = (0.5, 0.25, 0.0)  # of clean features, in standard deviations; the first without validation rows
TOLERANCE = 2.0  # without validation rows
GROWTH = 0.1  # of an absolute error, in standard deviations of the training targets
ONCE = "loader must give batches at every pass; it was empty (an iterator can be read only once)"


def fit_plugin(
    model: nn.Module,
    loader: Batches,
    taps: Mapping[str, Address] | Literal["auto"],
    *,
    layout: WrittenLayout | Mapping[str, str] = "auto",
    learn: Literal["reliability", "task"] | None = None,
    loss: Loss | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.01,
    tolerance: float | None = None,
    validation: Batches | None = None,
    harm: float = 0.02,
    confidence: float = 0.9,
    groups: Sequence[object] | None = None,
    growth: float | None = None,
    fill: Fill | None = None,
    absent: Absent = "keep",
    freeze: Literal["backbone"] | None = "backbone",
    seed: int = 0,
    device: torch.device | str | None = None,
    **options: Any,  # noqa: ANN401 - each of its own type
) -> Attached:
    """Attach a calibrator to a trained model and train it.

    Args:
        model: a trained model. With freeze="backbone" its weights, buffers, hooks and attributes (nested containers,
            arrays and random generators among them) are afterwards as they were, also if its forward writes them, as
            queues, counters and momentum teachers do; while fitting such a model may change. Values outside the
            model, and in objects of other packages that it holds, are not put back.
        loader: an iterable of (inputs, targets) that can be iterated repeatedly and should shuffle; inputs are a
            tensor, a tuple of positional arguments, or a dictionary of keyword arguments. Class indices serve the
            calibrator's contrastive loss where there is one per row of the features.
        taps: as for `attach`.
        layout: as for `attach`.
        learn: the losses. "reliability": the calibrator's own losses, over clean and perturbed copies; gates stay 1,
            and the model's head does not run. "task": the task's loss through the head as well. None = "reliability"
            for a frozen model, else "task". With "reliability" clean features are varied too, by
            `Perturbation(variation=0.5)`, unless a perturbation or a calibrator is given; with validation rows the
            variations 0.5, 0.25 and 0 are all tried.
        loss: a function of the model's output and the targets that returns a scalar. None = cross-entropy (for real
            targets the mean absolute error) of the output, its `logits`, or its first tensor. With "reliability" it
            is used in validation only, where targets are not classes.
        epochs: passes over the loader.
        steps: optimisation steps, instead of epochs; 400 if neither is given.
        learning_rate: the maximum of a one-cycle schedule.
        weight_decay: the weight decay of AdamW.
        tolerance: how far a reliability logit may fall below its initial value 3 before the feature is scaled down,
            with learn="reliability" (see `ContextualCalibrator.tolerate`); with 0 clean scores fall. With validation
            rows it is found, and this is the smallest that is tried; None = 0.5. Without them None = 2.
        validation: held-out batches, in one order at every pass, preferably of people, places or devices outside the
            model's training data. "reliability": the tolerance is the smallest at which the bound on harm holds, there
            and at every larger one that is tried; of several candidates the one with the fewest mistakes on perturbed
            features of these rows is kept, and the confidence covers that choice. `Attached.guarantee` says what was
            shown. "task": of the initial state and ten later ones, the one with the lowest loss over clean and
            perturbed features is kept. None = the last state is kept, and nothing is guaranteed.
        harm: of the answers on clean features that are right without the calibrator, the largest share that may become
            wrong with it, in (0, 1); with learn="reliability". It holds for data like the validation rows.
        confidence: the probability with which it holds, over draws of the validation rows, in (0, 1).
        groups: the group (person, place, device) of every validation row, in their order. Groups are then the units
            that the bound counts: a group is harmed if more than a share `harm` of its right answers become wrong, and
            at most a share `harm` of the groups may be.
        growth: for real targets, or a `loss` of your own, all answers count, and one is harmed if its absolute error or
            loss grows by more than this. None = a tenth of the standard deviation of the training targets, by which
            the share of their variance that a model leaves unexplained changes little; a `loss` needs a number.
        fill: what features are blended with as they are scaled down (see `ContextualCalibrator`), unless a calibrator
            is given. None = "context" for a frozen model, else "none".
        absent: "fill" gives an absent modality what the others let one expect of it; see `ContextualCalibrator`.
        freeze: "backbone" trains the calibrator alone; None trains the model too.
        seed: the seed of the calibrator's weights and of the perturbations.
        device: the device to train on; None = that of the model.
        options: further arguments of `attach` (at, masks, present, calibrator, copies, ...).

    Returns:
        The attached model, in evaluation mode.

    Warns:
        UserWarning: no tolerance keeps the bound, or the validation rows are too few for it; features then pass
            unchanged.

    Raises:
        UsageError: the loader is empty or gives other things than pairs, or an argument has a wrong value.
        ConcordantError: the loss is not finite; names the step and the cause.
    """
    learn = learn if learn is not None else "task" if freeze is None else "reliability"
    alone = learn == "reliability"
    with checks() as check:
        epochs = None if epochs is None else check.integer("epochs", epochs, 1)
        steps = None if steps is None else check.integer("steps", steps, 1)
        learning_rate = check.number("learning_rate", learning_rate, ends="()")
        weight_decay = check.number("weight_decay", weight_decay)
        tolerance = None if tolerance is None else check.number("tolerance", tolerance)
        harm, confidence = (
            check.number(name, value, 0, 1, ends="()") for name, value in (("harm", harm), ("confidence", confidence))
        )
        growth = None if growth is None else check.number("growth", growth)
        fill = fill if fill is not None else "none" if freeze is None else "context"
        check.choice("fill", fill, get_args(Fill))
        check.choice("absent", absent, get_args(Absent))
        check.choice("learn", learn, ("reliability", "task"))
        check.require(loss is None or callable(loss), f"loss must be a function; found {shown(loss)}")
        for name, batches in (("loader", loader), ("validation", () if validation is None else validation)):
            found = f"{name} must be an iterable of batches; found {shown(batches)}"
            check.require(isinstance(batches, Iterable), found)
        again = f"validation must give batches at every pass; found an iterator, {shown(validation)}; give a list"
        check.require(not isinstance(validation, Iterator), again)
        if groups is not None:
            one_each = f"groups must be a sequence of names or numbers, one per validation row; found {shown(groups)}"
            check.require(isinstance(groups, Iterable) and all(isinstance(one, Hashable) for one in groups), one_each)
        both = "learn='reliability' trains the calibrator alone; leave freeze='backbone' or use learn='task'"
        check.require(not alone or freeze is not None, both)
        for fault in [] if device is None else device_faults(device):
            check.require(False, fault)
    if alone:
        options = {"copies": True, **options}
    first = next(iter(loader), None)
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        raise UsageError(
            "loader must give pairs (inputs, targets), inputs as a tuple of arguments, a dictionary or a tensor; found "
            + ("nothing" if first is None else type(first).__name__)
        )
    goal = as_tensor(first[1])
    if not isinstance(goal, Tensor) or not goal.dim():
        found = "a single number" if isinstance(goal, Tensor) else type(goal).__name__
        raise UsageError(
            f"targets must be a tensor with a row per instance; found {found}; convert it by torch.as_tensor"
        )
    if device is not None and isinstance(model, nn.Module):
        model = model.to(device)
    where = next(model.parameters(), torch.empty(0)).device if isinstance(model, nn.Module) else torch.device("cpu")
    example, targets = moved(first, where)
    attached = attach(model, taps, layout=layout, freeze=freeze, seed=seed, example=example, **options)
    with detached_on_error(attached):
        with untouched(attached) as used, torch.no_grad():
            plain = call_with(used._original, example)
            rows = len(call_with(used.calibrate, example).reliability)
        if options.get("calibrator") is None:
            tried: list[Perturbation | bool] = [attached.settings.perturbation]
            if alone and "perturbation" not in options:
                count = 1 if validation is None else len(VARIATIONS)
                tried = [Perturbation(variation=one) for one in VARIATIONS[:count]]
            classes = _classes(logits_of(plain, certain=loss is not None), targets)
            candidates = _candidates(attached, tried, fill=fill, absent=absent, classes=classes)
            attached.calibrator = candidates[0]
        else:
            candidates = [cast(Calibrator, attached.calibrator)]
        # Features of all items beside targets of the batch, as recommenders have them, have no labels.
        attached._labels_may_differ = True
        labelled = rows == len(targets)
        if epochs is not None and steps is None:
            steps = epochs * (len(loader) if isinstance(loader, Sized) else sum(1 for _ in loader))
            if not steps:
                raise UsageError(ONCE)
        total = steps if steps is not None else STEPS
        score = loss if loss is not None else default_loss
        selector = CheckpointSelector()
        seen: list[Tensor] = []  # real targets

        def evaluate() -> tuple[float, float]:
            # Without a standard error: of the states with the lowest loss the latest is selected.
            return -validation_loss(attached.eval(), validation or (), score, seed=seed), 0.0

        done = 0

        def step(batch: tuple[Any, Tensor]) -> Tensor:
            nonlocal done
            inputs, targets = moved(batch, where)
            attached.labels = class_labels(targets, getattr(attached.calibrator, "classes", None)) if labelled else None
            out, task = None, torch.zeros((), device=where)
            if alone:
                call_with(attached.calibrate, inputs)
                if targets.is_floating_point():
                    seen.append(targets.detach())
            else:
                out = call_with(attached, inputs)
                task = score(out, repeat_targets(targets) if attached.settings.copies else targets)
            own = attached.auxiliary_loss()
            now = task + own
            if not now.isfinite():
                parts = {"the calibrator's loss": own, "the task's loss": task}
                perturbed = None if attached.calibration is None else attached.calibration.perturbed
                why = what_is_not_finite(logits_of(out), perturbed, losses=parts)
                raise ConcordantError(
                    f"fit_plugin: the loss is {float(now.detach())} at step {done + 1}, before its update: {why}"
                )
            done += 1
            now.backward()  # type: ignore[no-untyped-call]
            return now.detach()

        with ModelState(attached.model.modules() if freeze == "backbone" else (), aside=True):
            if validation is not None and not alone:  # the initial state, which changes nothing, is a candidate too
                selector.offer(*evaluate(), 0, lambda: snapshot(attached))
            for calibrator in candidates:
                attached.calibrator, done = calibrator, 0
                parameters = [p for p in attached.parameters() if p.requires_grad]
                optimizer, schedule = one_cycle(
                    parameters, learning_rate=learning_rate, weight_decay=weight_decay, steps=total, fused=False
                )
                with seeding.in_order(where):
                    fit(
                        attached,
                        step,
                        _endless(loader),
                        optimizer,
                        schedule,
                        steps=total,
                        evaluate=None if alone or validation is None else evaluate,
                        selector=selector,
                        stream=seeding.Stream(seed, "fit_plugin", device=where),
                    )
                attached.eval()
            if not alone:
                selector.restore(attached)
            elif validation is None:
                candidates[0].tolerate(TOLERANCE if tolerance is None else tolerance)
            else:
                if growth is None and loss is None and seen:
                    growth = GROWTH * float(torch.cat([one.reshape(-1) for one in seen]).float().std(correction=0))
                least = TOLERANCES[-1] if tolerance is None else tolerance
                grid = [one for one in TOLERANCES if one > least] + [least]
                how: dict[str, Any] = {"loss": loss, "growth": growth, "seed": seed}
                control(attached, candidates, validation, grid, harm, confidence, groups, **how)
            return attached


def _candidates(
    attached: Attached,
    tried: Sequence[Perturbation | bool],
    **options: Any,  # noqa: ANN401 - of the calibrator
) -> list[Calibrator]:
    """Return untrained calibrators for these perturbations, with equal initial weights."""
    sizes, seed = cast(Calibrator, attached.calibrator).sizes, attached.settings.seed
    device = next(cast(Calibrator, attached.calibrator).parameters()).device
    made = (partial(ContextualCalibrator, perturbation=one, seed=seed, **options) for one in tried)
    return [replace(attached.settings, factory=one).build(sizes).to(device) for one in made]


def _classes(logits: Tensor | None, targets: Tensor) -> int | None:
    """Return C where targets are class indices (B,) and there are logits (B, C) for them; otherwise None."""
    if targets.is_floating_point() or targets.dim() != 1 or targets.dtype == torch.bool:
        return None
    if logits is None or logits.dim() != 2 or len(logits) != len(targets) or not int(targets.min()) >= 0:
        return None
    return logits.shape[1] if max(1, int(targets.max())) < logits.shape[1] else None


def _endless(loader: Batches) -> Iterator[tuple[Any, Tensor]]:
    """Yield batches without end, iterating over the loader as often as needed."""
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise UsageError(ONCE)
