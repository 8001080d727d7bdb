"""Train a calibrator for a model that is already trained: a few hundred steps, with the model unchanged.

By default the calibrator is trained by its own losses alone, which show it which feature was perturbed. The task's loss
would come through a head that has memorised the training rows, and would fit the calibrator to them. The reliability is
applied only beyond a tolerance, so features that look clean pass unchanged.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.attach import Attached, attach, call_with
from concordant.attach.arguments import Address
from concordant.attach.hooks import ModelState
from concordant.attach.taps import map_tensors, tensors_of
from concordant.calibration.base import Calibrator
from concordant.calibration.modulation import START
from concordant.calibration.objective import FEWEST_CLASSES
from concordant.calibration.perturbation import Perturbation, repeat_targets
from concordant.errors import ConcordantError, UsageError, checks, shown
from concordant.modalities import as_tensor
from concordant.training.devices import device_faults
from concordant.training.loop import fit, one_cycle, what_is_not_finite
from concordant.training.selection import CheckpointSelector, snapshot

STEPS = 400
VARIATION = 0.5  # of clean features, in standard deviations
HARMED = 0.05  # largest share of clean validation instances that a modality may be scaled down in

Batches = Iterable[tuple[Any, Tensor]]
Loss = Callable[[Any, Tensor], Tensor]
ONCE = "loader must give batches at every pass; it was empty (an iterator can be read only once)"


def fit_plugin(
    model: nn.Module,
    loader: Batches,
    taps: Mapping[str, Address],
    *,
    layout: str | Mapping[str, str] = "auto",
    learn: str | None = None,
    loss: Loss | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.01,
    tolerance: float = 2.0,
    validation: Batches | None = None,
    freeze: str | None = "backbone",
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
            `Perturbation(variation=0.5)`, unless a perturbation or a calibrator is given.
        loss: a function of the model's output and the targets that returns a scalar. None = cross-entropy (for real
            targets the mean absolute error) of the output, its `logits`, or its first tensor. With "reliability" it
            is used in validation only.
        epochs: passes over the loader.
        steps: optimisation steps, instead of epochs; 400 if neither is given.
        learning_rate: the maximum of a one-cycle schedule.
        weight_decay: the weight decay of AdamW.
        tolerance: how far a reliability logit may fall below its initial value 3 before the feature is scaled down,
            with learn="reliability" (see `ContextualCalibrator.tolerate`); with 0 clean scores fall.
        validation: held-out batches, preferably of people, places or devices outside the model's training data.
            "reliability": the tolerance of each modality is raised until at most one in twenty of these instances is
            scaled down in it. The calibrator is kept only if the model makes no more mistakes on the clean instances
            with it than without it (given a `loss` or real targets: if the loss is no higher). "task": of the initial
            state and ten later ones, the one with the lowest loss over clean and perturbed features is kept.
            None = the last state is kept.
        freeze: "backbone" trains the calibrator alone; None trains the model too.
        seed: the seed of the calibrator's weights and of the perturbations.
        device: the device to train on; None = that of the model.
        options: further arguments of `attach` (at, masks, present, calibrator, copies, ...).

    Returns:
        The attached model, in evaluation mode.

    Warns:
        UserWarning: the model makes fewer mistakes without the calibrator, whose initial state, an identity, is kept.

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
        weight_decay, tolerance = check.number("weight_decay", weight_decay), check.number("tolerance", tolerance)
        check.choice("learn", learn, ("reliability", "task"))
        check.require(loss is None or callable(loss), f"loss must be a function; found {shown(loss)}")
        for name, batches in (("loader", loader), ("validation", () if validation is None else validation)):
            found = f"{name} must be an iterable of batches; found {shown(batches)}"
            check.require(isinstance(batches, Iterable), found)
        both = "learn='reliability' trains the calibrator alone; leave freeze='backbone' or use learn='task'"
        check.require(not alone or freeze is not None, both)
        for fault in [] if device is None else device_faults(device):
            check.require(False, fault)
    if alone:
        options = {"copies": True, **options}
        if options.get("calibrator") is None:
            options.setdefault("perturbation", Perturbation(variation=VARIATION))
    first = next(iter(loader), None)
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        raise UsageError(
            "loader must give pairs (inputs, targets), inputs as a tuple of arguments, a dictionary or a tensor; found "
            + ("nothing" if first is None else type(first).__name__)
        )
    if not isinstance(as_tensor(first[1]), Tensor):
        raise UsageError(
            f"targets must be a tensor; found {type(first[1]).__name__}; convert it, for instance by torch.as_tensor"
        )
    if device is not None and isinstance(model, nn.Module):
        model = model.to(device)
    where = next(model.parameters(), torch.empty(0)).device if isinstance(model, nn.Module) else torch.device("cpu")
    example = _moved(first, where)[0]
    attached = attach(model, taps, layout=layout, freeze=freeze, seed=seed, example=example, **options)
    # Features of all items beside targets of the batch, as recommenders have them, have no labels.
    attached._labels_may_differ = True
    rows = 0 if attached.calibration is None else len(attached.calibration.reliability)
    labelled = rows == len(as_tensor(first[1]))
    if epochs is not None and steps is None:
        steps = epochs * (len(loader) if isinstance(loader, Sized) else sum(1 for _ in loader))
        if not steps:
            raise UsageError(ONCE)
    total = steps if steps is not None else STEPS
    parameters = [p for p in attached.parameters() if p.requires_grad]
    optimizer, schedule = one_cycle(
        parameters, learning_rate=learning_rate, weight_decay=weight_decay, steps=total, fused=False
    )
    score = loss if loss is not None else default_loss
    criterion = mistakes if alone and loss is None else score

    def evaluate() -> tuple[float, float]:
        # Without a standard error: of the states with the lowest loss the latest is selected.
        return -validation_loss(attached.eval(), validation or (), criterion, seed=seed, perturbed=not alone), 0.0

    done = 0

    def step(batch: tuple[Any, Tensor]) -> Tensor:
        nonlocal done
        inputs, targets = _moved(batch, where)
        attached.labels = class_labels(targets) if labelled else None
        out, task = None, torch.zeros((), device=where)
        if alone:
            call_with(attached.calibrate, inputs)
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

    with ModelState(attached.model.modules() if freeze == "backbone" else ()):
        selector = CheckpointSelector()
        if validation is not None:  # the initial state, which leaves the model unchanged, is a candidate too
            selector.offer(*evaluate(), 0, lambda: snapshot(attached))
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
        if alone:
            _tolerate(attached, tolerance, validation)
            if validation is None or evaluate()[0] >= selector.best:
                return attached
            warnings.warn(
                "fit_plugin: the model makes fewer mistakes on the validation data without the calibrator, which is "
                "left untrained and changes nothing; raise tolerance, or fit it on more data outside the model's "
                "training set",
                stacklevel=2,
            )
        selector.restore(attached)
        return attached


@torch.no_grad()
def _tolerate(attached: Attached, least: float, validation: Batches | None) -> None:
    """Set each modality's tolerance: `least`, or what leaves 95 % of the clean validation instances unscaled."""
    calibrator = cast(Calibrator, attached.calibrator)
    found: list[list[Tensor]] = [[torch.zeros(0)] for _ in calibrator.names]
    for batch in validation or ():
        calibration = call_with(attached.calibrate, _moved(batch, next(attached.parameters()).device)[0])
        for column, (logits, here) in enumerate(zip(calibration.logits.T, calibration.present.T, strict=True)):
            found[column].append(START - logits[here].float().cpu())
    below = [torch.cat(logits) for logits in found]
    calibrator.tolerate([max(least, one.quantile(1 - HARMED).item() if len(one) else least) for one in below])


def default_loss(output: Any, targets: Tensor) -> Tensor:  # noqa: ANN401 - whatever a model returns
    """Return the cross-entropy of a model's logits, or for real targets the mean absolute error.

    Raises:
        UsageError: the output has no tensor with one row per target.
    """
    logits = _rows_of(output, targets)
    if logits is None or logits.shape[:1] != targets.shape[:1]:
        found = "no tensor" if logits is None else f"one of shape {tuple(logits.shape)}"
        raise UsageError(
            f"the model's output must be logits, have `logits`, or begin with them, one row for each of the "
            f"{len(targets)} targets; found {found}; give `loss`"
        )
    if targets.is_floating_point():
        return F.l1_loss(logits.float().reshape(targets.shape), targets)
    return F.cross_entropy(logits.float(), targets)


def mistakes(output: Any, targets: Tensor) -> Tensor:  # noqa: ANN401 - whatever a model returns
    """Return the share of wrong classes, or for real targets the mean absolute error.

    The cross-entropy of a confident model is dominated by its few worst mistakes, so it does not compare two models.

    Raises:
        UsageError: as for `default_loss`.
    """
    loss, logits = default_loss(output, targets), _rows_of(output, targets)
    if targets.is_floating_point() or targets.dim() != 1 or logits is None or logits.dim() != 2:
        return loss
    return (logits.argmax(1) != targets).float().mean()


def logits_of(output: Any) -> Tensor | None:  # noqa: ANN401
    """Return the logits in a model's output: itself, its `logits`, or its first tensor."""
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    return next(iter(tensors_of(output)), None)


def _rows_of(output: Any, targets: Tensor) -> Tensor | None:  # noqa: ANN401
    """Return the logits in a model's output, with the axis of a batch of one that it may have squeezed away."""
    logits = logits_of(output)
    return logits if logits is None or targets.shape[:1] != (1,) or logits.shape[:1] == (1,) else logits.unsqueeze(0)


def class_labels(targets: Tensor) -> Tensor | None:
    """Return the targets as class indices (B,) for the contrastive loss; None with fewer than three classes."""
    if targets.is_floating_point() or targets.dim() != 1 or targets.dtype == torch.bool:
        return None
    return targets if int(targets.max()) >= FEWEST_CLASSES - 1 else None


@torch.no_grad()
def validation_loss(attached: Attached, batches: Batches, loss: Loss, *, seed: int, perturbed: bool = True) -> float:
    """Return the mean loss over clean and, with `perturbed`, over perturbed features; draws depend on `seed` alone."""
    where = next(attached.parameters()).device
    draws = seeding.generator(seed, "fit_plugin", "validation", device=where)
    total, count = 0.0, 0
    for batch in batches:
        given, goal = _moved(batch, where)
        clean = float(loss(call_with(attached, given), goal))
        on_perturbed = clean
        if perturbed:
            with attached.perturbed(draws):
                on_perturbed = float(loss(call_with(attached, given), goal))
        total, count = total + len(goal) * (clean + on_perturbed) / 2, count + len(goal)
    if not count:
        raise UsageError("validation must give at least one batch; found none")
    return total / count


def _moved(batch: tuple[Any, Tensor], device: torch.device) -> tuple[Any, Tensor]:
    """Return inputs and targets on a device; targets may be a NumPy array."""
    inputs, targets = batch
    return map_tensors(inputs, lambda x: x.to(device)), as_tensor(targets).to(device)


def _endless(loader: Batches) -> Iterator[tuple[Any, Tensor]]:
    """Yield batches without end, iterating over the loader as often as needed."""
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise UsageError(ONCE)
