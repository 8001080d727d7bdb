"""Held-out rows find the tolerance of fitted calibrators and choose among them, under the bound of `harm.py`.

Shapes: rows R of the validation batches, G tolerances, N units (rows that were right, or groups).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concordant import seeding
from concordant.attach import Attached, call_with
from concordant.attach.harm import Guarantee, certify, fewest_units, level, units_harmed, upper_bound
from concordant.attach.outcomes import Batches, Loss, errors, moved
from concordant.calibration.base import Calibrator
from concordant.calibration.modulation import START
from concordant.calibration.perturbation import Perturbation
from concordant.errors import UsageError

ROUNDS = 3  # of perturbed validation rows, by which candidates are compared


def control(
    attached: Attached,
    candidates: Sequence[Calibrator],
    validation: Batches,
    grid: Sequence[float],
    harm: float,
    confidence: float,
    groups: Sequence[Any] | None,
    *,
    loss: Loss | None,
    growth: float | None,
    seed: int,
) -> None:
    """Keep the candidate with the fewest mistakes on perturbed rows, at the tolerance that is certified.

    The calibrator, the tolerance and the guarantee of `attached` are set. `grid` has tolerances from infinity
    downwards; the other arguments are those of `fit_plugin`.

    Raises:
        UsageError: there is no validation batch, groups do not fit the rows, or `growth` is missing.
    """
    flips, counted = _flips(attached, candidates, validation, grid, loss, growth)
    if groups is not None:
        groups = [one.item() if hasattr(one, "item") else one for one in groups]
        if len(groups) != len(counted):
            raise UsageError(f"groups must have one entry per validation row, {len(counted)}; found {len(groups)}")
    units = [units_harmed(one, counted, groups, share=harm) for one in flips]
    if units[0].shape[1] < fewest_units(harm, confidence, len(candidates)):
        candidates, units = candidates[:1], units[:1]  # fewer rows show one; their number says nothing of the flips
    filling = getattr(candidates[0], "absent", "keep") == "fill"
    # At any tolerance absent modalities are filled, and gates scale.
    changing = filling or any(bool(one[0].any()) for one in units)
    found = certify(units, harm, confidence, first=changing)
    best = 0
    if len(candidates) > 1 and max(found) > 0:
        scores = []
        for calibrator, index in zip(candidates, found, strict=True):
            calibrator.tolerate(grid[max(index, 0)])
            attached.calibrator = calibrator
            scores.append(_perturbed_error(attached, validation, loss, seed) if index > 0 else float("inf"))
        best = min(range(len(candidates)), key=scores.__getitem__)
    calibrator, index, rows = candidates[best], found[best], units[best].shape[1]
    attached.calibrator = calibrator
    calibrator.tolerate(grid[max(index, 0)])
    if index < 0:
        calibrator.absent = "keep"
    untouched = filling if index < 0 else index == 0 and not changing  # clean features pass as they are
    count = 0 if untouched else int(units[best][max(index, 0)].sum())
    bound = 0.0 if untouched else upper_bound(count, rows, level(confidence, len(candidates)))
    attached.guarantee = Guarantee(harm, confidence, rows, grid[max(index, 0)], count, bound)
    if index > 0:
        return
    what = "groups" if groups is not None else "answers that can be harmed"
    fewest = fewest_units(harm, confidence, len(candidates))
    if rows < fewest:
        why = f"{rows} {what} among the validation rows are too few; it takes {fewest} or more"
    else:
        why = (
            f"of {rows} {what} among the validation rows {int(units[best][index + 1].sum())} are, at the next tolerance"
        )
    gated = index < 0 and not filling
    then = "the gates of the calibrator scale features at any tolerance" if gated else "features are not scaled"
    warnings.warn(
        f"fit_plugin: it cannot be shown with confidence {confidence:g} that at most a share of {harm:g} is harmed: "
        f"{why}; {then}; give more validation rows, or a larger harm",
        stacklevel=3,
    )


@torch.no_grad()
def _flips(
    attached: Attached,
    candidates: Sequence[Calibrator],
    validation: Batches,
    grid: Sequence[float],
    loss: Loss | None,
    growth: float | None,
) -> tuple[list[Tensor], Tensor]:
    """Return per candidate the rows that it harms, bool (G, R), and the rows that can be harmed, bool (R,)."""
    where = next(attached.parameters()).device
    harmed: list[list[Tensor]] = [[] for _ in candidates]
    counted: list[Tensor] = []
    for batch in validation:
        inputs, targets = moved(batch, where)
        before, real = errors(call_with(attached._original, inputs), targets, loss)  # (B,)
        if real and growth is None:
            raise UsageError("growth must be given beside a loss of your own: how much of it counts as harm")
        counted.append((torch.ones_like(before) if real else 1 - before).cpu() > 0)
        most = before + (growth or 0.0 if real else 0.0)
        for calibrator, found in zip(candidates, harmed, strict=True):
            attached.calibrator = calibrator
            calibration = call_with(attached.calibrate, inputs)
            lowest = torch.where(calibration.present, calibration.logits, START).amin()
            worse: list[Tensor] = []
            for tolerance in grid:
                if worse and lowest >= START - tolerance:  # as at the larger tolerance before
                    worse.append(worse[-1])
                    continue
                calibrator.tolerate(tolerance)
                now, _ = errors(call_with(attached, inputs), targets, loss)
                worse.append(~(now <= most).cpu())  # NaN is harm
            found.append(torch.stack(worse))
    if not counted:
        raise UsageError("validation must give at least one batch; found none")
    return [torch.cat(found, 1) for found in harmed], torch.cat(counted)


@torch.no_grad()
def _perturbed_error(attached: Attached, validation: Batches, loss: Loss | None, seed: int) -> float:
    """Return the mean error over perturbed validation rows; every candidate meets equal perturbations."""
    calibrator, where = attached.calibrator, next(attached.parameters()).device
    draws = seeding.generator(seed, "fit_plugin", "choice", device=where)
    own, calibrator.perturbation = calibrator.perturbation, Perturbation()  # type: ignore[union-attr]
    total, count = 0.0, 0
    try:
        for _ in range(ROUNDS):
            for batch in validation:
                inputs, targets = moved(batch, where)
                with attached.perturbed(draws):
                    found, _ = errors(call_with(attached, inputs), targets, loss)
                total, count = total + float(found.sum()), count + len(found)
    finally:
        calibrator.perturbation = own  # type: ignore[union-attr]
    return total / max(count, 1)
