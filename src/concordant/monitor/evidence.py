"""The evidence of a monitor: four quantities per modality and instance.

Reliability and agreement come from the calibration. Level and summary come from the sensor's own features, which show a
dead or frozen sensor whatever follows it.
Axis letters: N instances, M modalities, S length of a modality's summary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from concordant.calibration import Calibration
from concordant.calibration.modulation import START, reliability_from_shift
from concordant.calibration.summary import energy, summarise
from concordant.errors import UsageError
from concordant.modalities import BY_AXES, LAYOUTS, over, to_positions

Floats = NDArray[np.float64]
ABSENT = -1e9  # the level of a modality that is absent, below every logarithm


@dataclass(frozen=True)
class Evidence:
    """The evidence of several instances.

    Args:
        names: the modalities, the order of every M axis.
        reliability: (N, M); NaN where the modality is absent.
        agreement: (N, M), the cosine with the modality that agrees best, in [-1, 1]; NaN where there is no other.
        level: (N, M), logarithm of the variation over positions, or of a vector's size; `ABSENT` where absent.
        summaries: modality -> (N, S), NaN where absent; two instances with the same features have the same.
    """

    names: tuple[str, ...]
    reliability: Floats
    agreement: Floats
    level: Floats
    summaries: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.level)

    def take(self, rows: NDArray[np.int64] | slice) -> Evidence:
        """Return the instances at `rows`, in that order."""
        return Evidence(
            self.names,
            self.reliability[rows],
            self.agreement[rows],
            self.level[rows],
            {name: x[rows] for name, x in self.summaries.items()},
        )


def evidence_of(
    calibration: Calibration,
    features: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    layouts: Mapping[str, str] | None = None,
) -> Evidence:
    """Return the evidence of a batch.

    Args:
        calibration: of the batch.
        features: modality -> what the sensors delivered; None = the features that the calibrator got, which are
            worked out from those that it returned.
        masks: modality -> bool (B, T), True at valid steps.
        layouts: modality -> layout of the features; None, or no entry = read off the number of axes.

    Raises:
        UsageError: a layout does not fit.
    """
    where = {} if layouts is None else layouts
    delivered = received(calibration, where) if features is None else features
    present = calibration.present.detach()
    cosines = (calibration.support - calibration.conflict).detach()  # (B, M, M)
    others = ~torch.eye(len(calibration.names), dtype=torch.bool, device=present.device)
    both = present.unsqueeze(1) & present.unsqueeze(2) & others
    best = torch.where(both, cosines, -torch.inf).amax(2)  # (B, M)
    levels, summaries = [], {}
    for index, name in enumerate(calibration.names):
        here = present[:, index]
        if name not in delivered:
            levels.append(torch.full(here.shape, ABSENT, dtype=torch.float64))
            summaries[name] = np.full((len(here), 1), np.nan)
            continue
        layout = layout_of(name, delivered[name], where)
        rows = delivered[name].shape[LAYOUTS[layout].batch]
        if rows != len(here):
            raise UsageError(
                f"{name!r} must have a row for each of the {len(here)} instances in layout {layout!r}; found shape "
                f"{tuple(delivered[name].shape)}; name its layout in `layouts`"
            )
        level, summary, whole = _measured(delivered[name], layout, here, None if masks is None else masks.get(name))
        levels.append(torch.where(whole, level.double(), ABSENT).cpu())
        summaries[name] = torch.where(whole.unsqueeze(1), summary.double(), torch.nan).cpu().numpy()
    reliability = reliability_from_shift(calibration.logits.detach().double() - START)
    return Evidence(
        names=calibration.names,
        # Without the tolerance, under which most reliabilities are 1.
        reliability=_numbers(torch.where(present, reliability, torch.nan)),
        agreement=_numbers(torch.where(both.any(2), best.double(), torch.nan)),
        level=_numbers(torch.stack(levels, 1)),
        summaries=summaries,
    )


def changes(summary: Floats, before: Floats) -> Floats:
    """Return how far each summary lies from the one before: (N, S), (N, S) -> (N,); NaN where one is absent."""
    found: Floats = np.sqrt(np.square(summary - before).mean(1))
    return found


def received(calibration: Calibration, layouts: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the features that a calibrator got: those that it returned, less what filled them, over their factors."""
    found = {}
    for index, name in enumerate(calibration.names):
        if name not in calibration.features:
            continue
        x = calibration.features[name].detach()
        scale = calibration.reliability[:, index, None].detach() * calibration.gates[name].detach()
        layout = LAYOUTS[layout_of(name, x, layouts)]
        wide = over(torch.where(scale > 0, scale, 1).to(x.dtype).unsqueeze(1), x, layout)
        if name in calibration.expected:
            rest = (1 - calibration.reliability[:, index, None]).detach() * calibration.expected[name].detach()
            x = x - over(rest.to(x.dtype).unsqueeze(1), x, layout)
        found[name] = x / wide
    return found


def layout_of(name: str, x: Tensor, layouts: Mapping[str, str]) -> str:
    """Return the layout of a modality's tensor: as given, else read off the number of axes.

    Raises:
        UsageError: it is unknown, or has another number of axes.
    """
    layout = layouts.get(name, "auto")
    layout = BY_AXES.get(x.dim(), "auto") if layout == "auto" else layout
    if layout not in LAYOUTS or len(layout) != x.dim():
        raise UsageError(
            f"layouts[{name!r}] must be one of {', '.join(LAYOUTS)} with {x.dim()} axes, as its features have "
            f"(shape {tuple(x.shape)}); found {layout!r}"
        )
    return layout


def _measured(x: Tensor, layout: str, here: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return level (B,), summary (B, S), and where both count (B,): present, and nothing of it NaN or infinite."""
    flat = to_positions(x.detach().float(), LAYOUTS[layout])  # (B, L, D)
    valid = here.unsqueeze(1) if mask is None else here.unsqueeze(1) & mask.flatten(1)
    flat = torch.where(valid.unsqueeze(-1), flat, 0)
    whole = valid.any(1) & torch.isfinite(flat).flatten(1).all(1)
    spread = layout != "bd"
    summary = summarise(torch.where(whole[:, None, None], flat, 0), valid, spread=spread)
    return energy(summary, spread=spread)[:, -1], summary, whole


def _numbers(x: Tensor) -> Floats:
    return x.cpu().numpy().astype(np.float64)
