"""Feature-level analysis: maps before and after calibration, separation of classes, gates, agreement, distrust.

Axis letters: N instances, M modalities, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.data.scaling import fit_chunks
from concordant.data.split import AnySplit, Split, as_classes
from concordant.robustness.answers import agree
from concordant.robustness.conditions import LEVELS, SplitContext, corruption
from concordant.robustness.corruptions import KINDS
from concordant.robustness.own_data import as_split, layouts_of
from concordant.robustness.predict import Model
from concordant.visualisation.explain import Usual, most_distrusted
from concordant.visualisation.pictures import picture
from concordant.visualisation.projection import Maps, probe, probe_within, project, silhouette
from concordant.visualisation.trace import Trace, trace_calibration

POINTS = 400  # on a map
INSTANCES = 2000  # of each split, drawn at random from larger ones
GATE_KINDS = ("gaussian-noise", "dimension-replacement", "dimension-dropout", "clipping", "swap", "same-class-swap")
Found = dict[str, Any]


def measure_features(
    model: Model,
    data: Any,  # noqa: ANN401
    labels: Any = None,  # noqa: ANN401
    *,
    train: AnySplit | None = None,
    valid: AnySplit | None = None,
    classes: Sequence[str] | None = None,
    layouts: Mapping[str, str] | None = None,
    natures: Mapping[str, str] | None = None,
    standardised: bool = False,
    seed: int = 0,
    masks: Mapping[str, Any] | None = None,
    present: Mapping[str, Any] | None = None,
) -> Found:
    """Measure the effect of a calibrator on features.

    Args:
        model: a model of `concordant run`; or a calibrator, or any callable whose output is a `Calibration` or has one
            as `.calibration`.
        data: the inputs of the model: modality -> tensor or array (N, ...), a torch Dataset of (features by modality,
            label), or a split. From more than 2,000 instances, 2,000 are drawn.
        labels: (N,), beside features by modality.
        train: the split on which the linear probe is fitted; None = cross-validated within `data`.
        valid: clean instances, the reference of what is usual; None = `data`.
        classes: their names; None = their numbers.
        layouts: modality -> layout, batch first; None = read off the number of axes.
        natures: modality -> the nature of maps that are not images.
        standardised: the data have mean 0 and standard deviation 1 each; otherwise both are taken from `valid`.
        seed: of all draws.
        masks: modality -> bool (N, T).
        present: modality -> bool (N,).

    Returns:
        "points" (up to 400 on PCA and t-SNE maps, one fit before and after), "separation" (silhouette, linear probe),
        "gates" (by class, by corruption), "agreement" (support and conflict), "distrusted" (instances, by id).

    Raises:
        UsageError: the data cannot be used, or the model returns no calibration.
    """
    whole = as_split(data, labels, masks=masks, present=present)
    split = _some(whole, INSTANCES, seed, "test")
    usual_split = split if valid is None else _some(valid, INSTANCES, seed, "valid")
    here = trace_calibration(model, split, layouts)
    usual = Usual.of(trace_calibration(model, usual_split, layouts))
    truth = as_classes(split.labels)
    names = tuple(classes) if classes is not None else tuple(str(c) for c in range(int(truth.max()) + 1))
    known = layouts_of(split, layouts)
    scales = {} if standardised else fit_chunks(usual_split.chunks(), known)
    context = SplitContext(known, natures or {}, scales)
    reference = None
    if train is not None:
        some = _some(train, INSTANCES, seed, "train")
        reference = (trace_calibration(model, some, layouts), as_classes(some.labels))
    return {
        "modalities": list(here.names),
        "classes": list(names),
        "points": _points(here, split, truth, seed),
        "separation": {name: _separation(here, index, truth, reference, seed) for index, name in enumerate(here.names)},
        **_under_corruption(model, split, here, truth, names, context, layouts, seed),
        "distrusted": distrusted(here, usual, split, names, layouts=known),
    }


def distrusted(
    observed: Trace,
    usual: Usual,
    split: Split,
    classes: Sequence[str],
    count: int = 20,
    *,
    layouts: Mapping[str, str],
) -> list[Found]:
    """Return the instances with the largest fall below the usual reliability, with ids and pictures, for inspection."""
    mean = usual.mean()
    predicted = observed.predictions(real=split.labels.dtype.kind == "f")
    right = None if predicted is None else agree(split.labels, predicted)
    found = []
    for row, column, z in most_distrusted(observed, usual, count):
        pairs = {"supported_by": observed.support, "contradicted_by": observed.conflict}
        strongest = {what: values[row, column].argmax() for what, values in pairs.items()}
        found.append(
            {
                "id": str(split.ids[row]),
                "modality": observed.names[column],
                "reliability": float(observed.reliability[row, column]),
                "usual": float(mean[column]),
                "z": z,
                "label": named(split.labels[row], classes),
                "prediction": None if predicted is None else named(predicted[row], classes),
                "right": None if right is None else bool(right[row]),
                **{w: observed.names[k] if pairs[w][row, column, k] > 0 else None for w, k in strongest.items()},
                "modalities": [
                    {
                        "name": name,
                        "reliability": float(observed.reliability[row, place]),
                        "picture": picture(split.inputs[name][row], layouts[name], skeleton="skelet" in name),
                    }
                    for place, name in enumerate(observed.names)
                    if observed.present[row, place]
                ],
            }
        )
    return found


def named(label: Any, classes: Sequence[str]) -> str:  # noqa: ANN401 - a NumPy number
    """Return a class's name, or a real label with two decimals."""
    return classes[int(label)] if isinstance(label, np.integer) else f"{float(label):.2f}"


def _some(split: AnySplit, most: int, seed: int, what: str) -> Split:
    """Return at most `most` instances of a split, in their order, in memory."""
    if len(split) <= most and isinstance(split, Split):
        return split
    draws = np.random.default_rng(seeding.derive_seed(seed, "features", what))
    return split.take(np.sort(draws.permutation(len(split))[:most]))


def _points(observed: Trace, split: Split, truth: NDArray[np.int64], seed: int) -> Found:
    draws = np.random.default_rng(seeding.derive_seed(seed, "features", "points"))
    rows = np.sort(draws.permutation(len(split))[:POINTS])
    predicted = observed.predictions(real=split.labels.dtype.kind == "f")
    maps: Found = {}
    reliability: dict[str, list[float | None]] = {}
    for index, name in enumerate(observed.names):
        there = observed.present[rows, index]
        before, after = (side[name][rows][there] for side in (observed.before, observed.after))
        found = project(before, after, seed=seeding.derive_seed(seed, "tsne", name))
        values = observed.reliability[rows, index]
        reliability[name] = [float(value) if here else None for value, here in zip(values, there, strict=True)]
        maps[name] = {method: _spread(both, there) for method, both in found.items()}
    return {
        "id": [str(one) for one in split.ids[rows]],
        "label": truth[rows].tolist(),
        "prediction": None if predicted is None else as_classes(predicted[rows]).tolist(),
        "reliability": reliability,
        "maps": maps,
    }


def _spread(maps: Maps, there: NDArray[np.bool_]) -> Found:
    """Return both maps, with None at the instances that lack the modality."""
    found: Found = {}
    for side, points in zip(("before", "after"), maps, strict=True):
        places = iter([round(float(value), 4) for value in point] for point in points)
        found[side] = [next(places) if here else None for here in there]
    return found


def _separation(
    observed: Trace,
    index: int,
    truth: NDArray[np.int64],
    reference: tuple[Trace, NDArray[np.int64]] | None,
    seed: int,
) -> Found:
    name, there = observed.names[index], observed.present[:, index]
    found: Found = {"silhouette": {}, "probe": {}}
    for side in ("before", "after"):
        x, y = getattr(observed, side)[name][there], truth[there]
        found["silhouette"][side] = silhouette(x, y)
        if reference is None:
            found["probe"][side] = probe_within(x, y, seed=seed)
            continue
        other, known = reference
        fit = other.present[:, index]
        found["probe"][side] = probe(getattr(other, side)[name][fit], known[fit], x, y)
    return found


def _under_corruption(
    model: Model,
    split: Split,
    clean: Trace,
    truth: NDArray[np.int64],
    classes: Sequence[str],
    context: SplitContext,
    layouts: Mapping[str, str] | None,
    seed: int,
) -> Found:
    """Return gates by class and by corruption, and support and conflict clean and corrupted."""
    by_class = {
        name: [_mean_gate(clean, name, index, truth == c) for c in range(len(classes))]
        for index, name in enumerate(clean.names)
    }
    kinds: list[str] = []
    values: dict[str, list[list[float] | None]] = {name: [] for name in clean.names}
    agreement = [_agreement("clean", clean, np.ones(len(split), np.bool_))]
    for kind_name in GATE_KINDS:
        kind = KINDS[kind_name]
        able = context.able(kind, split.shapes)
        if not able or (kind.group == "instances" and len(np.unique(truth)) < 2):
            continue
        corrupted, perturbed = corruption(kind, LEVELS[-1], able, context, seed).change(split, None)
        found = trace_calibration(model, corrupted, layouts)
        kinds.append(kind_name)
        for index, name in enumerate(clean.names):
            values[name].append(_mean_gate(found, name, index, perturbed[:, list(split.inputs).index(name)]))
        agreement.append(_agreement(kind_name, found, np.asarray(perturbed.any(1))))
    return {
        "gates": {"by_class": by_class, "by_corruption": {"kinds": kinds, "values": values}},
        "agreement": agreement,
    }


def _mean_gate(observed: Trace, name: str, index: int, rows: NDArray[np.bool_]) -> list[float] | None:
    chosen = rows & observed.present[:, index]
    return [round(float(g), 5) for g in observed.gates[name][chosen].mean(0)] if chosen.any() else None


def _agreement(condition: str, observed: Trace, rows: NDArray[np.bool_]) -> Found:
    """Return the mean support and conflict of each pair, over the instances that have both."""
    found: Found = {"condition": condition}
    both = (observed.present[:, :, None] & observed.present[:, None, :])[rows]  # (n, M, M)
    for what in ("support", "conflict"):
        values = np.where(both, getattr(observed, what)[rows], 0).sum(0) / np.maximum(both.sum(0), 1)
        found[what] = [[round(float(v), 5) for v in line] for line in values]
    return found
