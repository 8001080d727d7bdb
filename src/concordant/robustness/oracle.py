"""Figures that need all runs: errors relative to the twin's, and the share of the oracle's gain.

The oracle is the uncalibrated twin with the corrupted modality given as absent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError
from concordant.robustness.curves import summary

LEAST_WAY = 0.01  # of the score, from the twin to its oracle: less is noise
Found = dict[str, Any]


def twin_of(labels: Sequence[str]) -> str | None:
    """Return the twin that others are compared with: trained with perturbations too, if there is such a run."""
    return next((label for label in ("none+perturbed", "none") if label in labels), None)


def together(found: Sequence[Found], labels: Sequence[str], *, twin: str | None = None) -> Found:
    """Return "runs", "oracle" and "covered" of corruption.json, of the kinds that every run has.

    A swap can be measured on the test split of one seed and not of another.

    `found` are the results of `measure_corruption`, with "label" and "seed"; the twin, None, is that of `twin_of`.

    Raises:
        UsageError: the twin lacks a seed that another method has.
    """
    twin = twin if twin is not None else twin_of(labels)
    common = set.intersection(*(set(one["kinds"]) for one in found))
    found = [one if len(one["kinds"]) == len(common) else _only(one, common) for one in found]
    twins = {one["seed"]: one for one in found if one["label"] == twin}
    alone = sorted({one["seed"] for one in found} - twins.keys()) if twins else []
    if alone:
        raise UsageError(
            f"corruption of the twin {twin!r} has no seed {', '.join(map(str, alone))}, which other models have; give "
            "as many results of each"
        )
    runs, oracle = [], []
    for one in found:
        run = {key: one[key] for key in ("label", "seed", "clean", "kinds", "mean", "area")}
        run["mean_corruption_error"] = relative_error(one["kinds"], twins[one["seed"]]["kinds"]) if twins else None
        runs.append({**run, "worst": one["worst"], "diagram": one["diagram"]})
        if "oracle" in one:
            mean = float(np.mean([kind["scores"] for kind in one["oracle"].values()]))
            oracle.append({"label": one["label"], "seed": one["seed"], "kinds": one["oracle"], "mean": mean})
    others = [label for label in labels if label != twin and not label.startswith("none")]
    covered = [] if twin is None else [covering(found, label, twin) for label in others]
    return {"runs": runs, "oracle": oracle, "covered": covered}


def _only(one: Found, kinds: Collection[str]) -> Found:
    """Return the result of `measure_corruption` with these kinds alone, and what is computed over them."""
    parts: Found = {
        part: {name: values for name, values in one[part].items() if name in kinds}
        for part in ("kinds", "oracle")
        if part in one
    }
    return {**one, **parts, **summary(parts["kinds"])}


def relative_error(kinds: Mapping[str, Found], twin: Mapping[str, Found]) -> float | None:
    """Return the mean corruption error: over kinds, the errors at all severities relative to the twin's.

    After Hendrycks and Dietterich (ICLR 2019). 1 is the twin itself, less is better; kinds under which the twin makes
    no error are left out. None if it makes none at all.
    """
    shares = []
    for name, found in kinds.items():
        own, others = (sum(1 - score for score in one["scores"]) for one in (found, twin[name]))
        if others > 0:
            shares.append(own / others)
    return float(np.mean(shares)) if shares else None


def covering(found: Sequence[Found], label: str, twin: str) -> Found:
    """Return the share of the way from the twin to its oracle that a method covers, over all seeds.

    1 = as good as the oracle; negative = worse than the twin. Conditions count, kind by kind and severity by severity,
    where the oracle is more than a point ahead of the twin: elsewhere the corrupted modality is still of use, and there
    is no way to cover. None if no condition counts.
    """
    names = next(list(one["kinds"]) for one in found if one["label"] == twin)

    def means(of: str, what: str) -> NDArray[np.float64]:
        """Return scores by kind and severity, the mean over seeds."""
        runs = [[one[what][name]["scores"] for name in names] for one in found if one["label"] == of]
        return np.asarray(np.mean(runs, 0), dtype=np.float64)

    base = means(twin, "kinds")
    gain, way = means(label, "kinds") - base, means(twin, "oracle") - base
    counts = way > LEAST_WAY

    def share(rows: NDArray[np.bool_]) -> float | None:
        return float(gain[rows].sum() / way[rows].sum()) if rows.any() else None

    return {
        "label": label,
        "twin": twin,
        "share": share(counts),
        "conditions": int(counts.sum()),
        "by_kind": {name: share(counts & (np.arange(len(names)) == row)[:, None]) for row, name in enumerate(names)},
    }
