"""Results in sentences: what was compared, what is significant, what lost, what failed first.

Each function takes one document and returns sentences. Losses are reported like wins; analyses that were not made are
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from concordant.report.folder import RunDocuments
from concordant.report.format import (
    OURS,
    SIGNIFICANT,
    Document,
    by_label,
    labels_of,
    listed,
    mean,
    metric_of,
    p_text,
    plural,
    seeds_of,
    shown,
)
from concordant.report.tables.grids import has_alone, ours_of, versus_alone
from concordant.report.tables.scores import MAIN

_WHERE = {"clean": "clean", "corruption.mean": "corrupted (mean)"}


def summary(documents: RunDocuments) -> list[str]:
    """Return the sentences on all documents of one run, or of one grid."""
    sentences = {
        "results": (compared, significant),
        "grid": (of_grid,),
        "corruption": (of_corruption,),
        "removal": (of_removal,),
        "dynamics": (of_dynamics,),
        "features": (of_features,),
    }
    found = ((getattr(documents, kind), functions) for kind, functions in sentences.items())
    return [line for one, functions in found if one is not None for function in functions for line in function(one)]


def compared(results: Document) -> list[str]:
    """Return the methods that were compared, and the number of seeds."""
    labels = [shown(label) for label in labels_of(results)]
    modalities = results["config"].get("modalities")
    of = f" ({listed([str(one) for one in modalities])})" if isinstance(modalities, list) and modalities else ""
    where, seeds = f"On {results['benchmark']}{of} with {results['fusion']} fusion", seeds_of(results["runs"])
    if len(labels) == 1:
        return [f"{where}, {labels[0]} was run over {plural(seeds, 'seed')}."]
    return [f"{where}, {len(labels)} methods were compared over {plural(seeds, 'seed')}: {'; '.join(labels)}."]


def significant(results: Document) -> list[str]:
    """Return the significant differences on clean and corrupted instances and without a modality, gains and losses."""
    entries = list(results["comparisons"])
    if not entries:
        return []
    ours = shown(entries[0]["of"])
    lines = []
    for condition, where in (("clean", "On clean instances"), ("corruption.mean", "With one modality corrupted")):
        mine = [entry for entry in entries if entry["condition"] == condition]
        if mine:
            lines.append(f"{where}, {ours} {_verdict(mine)}.")
    removed = [entry for entry in entries if entry["condition"].startswith("removal.")]
    if removed:
        better, worse = (_count(removed, sign) for sign in (1, -1))
        lines.append(
            f"With one modality removed, {ours} is significantly better in {better} and significantly worse in {worse} "
            f"of {plural(len(removed), 'comparison')}."
        )
    return lines


def of_grid(grid: Document) -> list[str]:
    """Return the fusions and methods of a grid, then its wins and losses."""
    modalities = listed([str(one) for one in grid["config"]["modalities"]])
    labels = "; ".join(shown(label) for label in grid["rows"][0]["scores"])
    first = (
        f"On {grid['benchmark']} ({modalities}), {plural(len(grid['rows']), 'fusion')} were each run with {labels}, "
        f"over {plural(grid['config']['seeds'], 'seed')}."
    )
    return [first, *(f"{line[0].upper()}{line[1:]}." for line in grid_lines(grid))]


def difference_lines(results: Document) -> list[str]:
    """Return one line per main condition and method: the difference in points, and whether it is significant."""
    return [
        f"{_WHERE[entry['condition']]}, {entry['of']} against {shown(entry['to'])}: "
        f"{100 * entry['difference']:+.1f} points "
        f"({'p' if entry['p_holm'] < SIGNIFICANT else 'not significant, p'} {p_text(entry['p_holm'])})"
        for entry in results["comparisons"]
        if entry["condition"] in MAIN
    ]


def grid_lines(grid: Document) -> list[str]:
    """Return wins and losses over the rows of a grid, and the fusions that do not beat one modality or chance."""
    lines = []
    ours = ours_of(grid)
    if ours is not None:
        others = [label for label in grid["rows"][0]["scores"] if label != ours]
        lines += [_tally(grid, ours, other, condition) for other in others for condition in MAIN]
    if has_alone(grid):
        below = [f"{row['row']} ({_points(row)})" for row in grid["rows"] if versus_alone(row) != ">"]
        lines.append(
            f"not significantly above its best modality alone, without calibration: {', '.join(below)}"
            if below
            else "every fusion, without calibration, is significantly above its best modality alone"
        )
    stuck = [
        f"{row['row']} with {shown(label)}"
        for row in grid["rows"]
        for label, scores in row["scores"].items()
        if np.mean(scores["clean"]) <= row["majority"]
    ]
    if stuck:
        lines.append(f"not above always saying the most frequent class: {', '.join(stuck)}")
    return lines


def of_corruption(document: Document) -> list[str]:
    """Return the mean score over all kinds of corruption, the worst condition, and the distance to the oracle."""
    labels = by_label(document["runs"])
    ours = _ours(labels)
    kinds = plural(len(document["kinds"]), "kind")
    scores = {label: mean(run["mean"] for run in runs) for label, runs in labels.items()}
    ranked = sorted(scores, key=lambda label: -(scores[label] or 0.0))
    parts = [f"{shown(label)} {100 * (scores[label] or 0.0):.1f} %" for label in ranked]
    lines = [f"Over {kinds} of corruption at five severities, mean {metric_of(document)} is {listed(parts)}."]
    worst = min((run["worst"] for run in labels[ours]), key=lambda one: float(one["score"]))
    lines.append(
        f"The worst for {shown(ours)} is {worst['kind']} at severity {worst['severity']}: "
        f"{metric_of(document)} falls to "
        f"{100 * worst['score']:.1f} %."
    )
    error = mean(run["mean_corruption_error"] for run in labels[ours])
    if error is not None:
        side = "fewer" if error < 1 else "more"
        amount = f"{100 * abs(1 - error):.0f} % {side} errors than" if abs(1 - error) >= 0.005 else "as many errors as"
        lines.append(
            f"In the mean over the kinds, {shown(ours)} makes {amount} its twin (mean corruption error {error:.2f})."
        )
    for one in document["covered"]:
        if one["label"] == ours and one["share"] is not None:
            lines.append(_covered(one))
    return lines


def of_removal(document: Document) -> list[str]:
    """Return the modality that carries the task, and the score without it."""
    labels = by_label(document["runs"])
    ours = _ours(labels)
    values = {name: mean(run["shapley"].get(name) for run in labels[ours]) for name in document["modalities"]}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return []
    total = sum(known.values())
    first = max(known, key=known.__getitem__)
    share = f", {100 * known[first] / total:.0f} % of what all bring together" if total > 0 else ""
    lines = [
        f"For {shown(ours)}, {first} carries the task: {100 * known[first]:.1f} points of {metric_of(document)}{share}."
    ]
    useless = [name for name, value in known.items() if value <= 0]
    if useless:
        lines.append(
            f"{listed(useless).capitalize()} {'brings' if len(useless) == 1 else 'bring'} nothing in this measure."
        )
    without = mean(
        one["score"]
        for run in labels[ours]
        for one in run["subsets"]
        if set(one["present"]) == set(document["modalities"]) - {first}
    )
    full = mean(run["full"] for run in labels[ours])
    if without is not None and full is not None:
        lines.append(
            f"Without {first}, its {metric_of(document)} goes from {100 * full:.1f} % to {100 * without:.1f} %."
        )
    return lines


def of_dynamics(document: Document) -> list[str]:
    """Return spikes and variance of the loss in training."""
    summaries = {one["label"]: one for one in document["summary"]}
    if not summaries:
        return []
    spikes = {label: one["spikes"]["mean"] or 0.0 for label, one in summaries.items()}
    rough = [f"{shown(label)} {count:.1f}" for label, count in spikes.items() if count > 0]
    if rough:
        lines = [f"Training had spikes of the loss, in the mean over seeds: {listed(rough)}; the others had none."]
        if len(rough) == len(spikes):
            lines = [f"Training had spikes of the loss, in the mean over seeds: {listed(rough)}."]
    else:
        lines = ["Training was stable: no run had a spike of the loss."]
    ours = _ours(summaries)
    twin = next((label for label in ("none+perturbed", "none") if label in summaries and label != ours), None)
    if twin is not None:
        mine, theirs = (summaries[label]["loss_variance"]["mean"] for label in (ours, twin))
        if mine is not None and theirs:
            change = mine / theirs - 1
            amount = (
                f"{100 * abs(change):.0f} % {'more' if change > 0 else 'less'} than"
                if abs(change) > 0.05
                else "as much as"
            )
            lines.append(
                f"In the second half of training the loss of {shown(ours)} varies {amount} that of {shown(twin)}."
            )
    return lines


def of_features(document: Document) -> list[str]:
    """Return the effect of calibration on the separation of classes, and the least trusted instance."""
    lines = []
    for what, name in (("probe", "the accuracy of a linear probe"), ("silhouette", "the silhouette of the classes")):
        parts = []
        for modality, one in document["separation"].items():
            before, after = one[what]["before"], one[what]["after"]
            if before is not None and after is not None:
                scale, digits = (100, 1) if what == "probe" else (1, 3)
                parts.append(f"{modality} from {scale * before:.{digits}f} to {scale * after:.{digits}f}")
        if parts:
            unit = " (in %)" if what == "probe" else ""
            lines.append(f"Calibration moves {name} on the features{unit}: {listed(parts)}.")
    if document["distrusted"]:
        one = min(document["distrusted"], key=lambda each: float(each["z"]))
        lines.append(
            f"The least trusted is the {one['modality']} of instance {one['id']}: reliability "
            f"{one['reliability']:.2f} where {one['usual']:.2f} is usual."
        )
    return lines


def _tally(grid: Document, ours: str, other: str, condition: str) -> str:
    entries = [
        entry
        for row in grid["rows"]
        for entry in row["comparisons"]
        if entry["to"] == other and entry["condition"] == condition
    ]
    whole = next(entry for entry in grid["overall"] if entry["to"] == other and entry["condition"] == condition)
    better, worse = (_count(entries, sign) for sign in (1, -1))
    above = sum(entry["difference"] > 0 for entry in entries)
    return (
        f"{_WHERE[condition]}, {ours} against {shown(other)}: {100 * whole['difference']:+.1f} points in the mean over "
        f"{plural(len(entries), 'row')} (p {p_text(whole['p_holm'])}), above in {above}; "
        f"by row significantly better in {better}, worse in {worse}"
    )


def _points(row: Document) -> str:
    entry = row["against_alone"].get("none")
    if entry is None:
        return "not compared"
    return f"{100 * entry['difference']:+.1f} points, p {p_text(entry['p_holm'])}"


def _verdict(entries: Sequence[Document]) -> str:
    better = [one for one in entries if one["p_holm"] < SIGNIFICANT and one["difference"] > 0]
    worse = [one for one in entries if one["p_holm"] < SIGNIFICANT and one["difference"] < 0]
    unsure = [one for one in entries if one not in better and one not in worse]
    parts = []
    for name, found in (("better", better), ("worse", worse)):
        if found:
            parts.append(f"is significantly {name} than {listed([_difference(one) for one in found])}")
    if unsure:
        parts.append(f"does not differ significantly from {listed([_difference(one) for one in unsure])}")
    return "; it ".join(parts)


def _difference(entry: Document) -> str:
    return f"{shown(entry['to'])} ({100 * entry['difference']:+.1f} points, p {p_text(entry['p_holm'])})"


def _count(entries: Sequence[Document], sign: int) -> int:
    return sum(entry["p_holm"] < SIGNIFICANT and sign * entry["difference"] > 0 for entry in entries)


def _ours(labels: Mapping[str, Any]) -> str:
    """Return the method in the centre of the sentences: ours, or the last one."""
    return OURS if OURS in labels else list(labels)[-1]


def _covered(one: Document) -> str:
    share = 100 * float(one["share"])
    where = f"the distance from its twin ({shown(one['twin'])}) to the oracle"
    if share < 0:
        return f"Of {where}, {shown(one['label'])} covers nothing: it is below the twin ({share:.0f} %)."
    return f"Of {where}, {shown(one['label'])} covers {share:.0f} %."
