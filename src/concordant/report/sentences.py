"""Results in sentences: what was compared, what is significant, what lost, what failed first.

Each function takes one document and returns sentences. Losses are reported like wins; analyses that were not made are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from concordant.report.folder import RunDocuments
from concordant.report.format import (
    SIGNIFICANT,
    Document,
    by_label,
    difference_text,
    labels_of,
    listed,
    mean,
    metric_of,
    outcome,
    p_text,
    plural,
    seeds_of,
    shown,
)
from concordant.report.tables.grids import has_alone, ours_of, versus_alone
from concordant.statistics.comparisons import MAIN, central

_WHERE = {"clean": "clean", "corruption.mean": "corrupted (mean)"}


def summary(documents: RunDocuments) -> list[str]:
    """Return the sentences on all documents of one run, or of one grid."""
    sentences = {
        "results": (compared, worth, significant),
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
    where = f"On {results['benchmark']}{of} with {results['fusion']} fusion"
    seeds = f"over {plural(seeds_of(results['runs']), 'seed')}"
    if len(labels) == 1:
        return [f"{where}, {labels[0]} was run {seeds}."]
    return [f"{where}, {len(labels)} methods were compared {seeds}: {'; '.join(labels)}."]


def worth(results: Document) -> list[str]:
    """Return the baselines that fusion is below on clean instances, by more than the interval, and what to try."""
    below = [
        f"{-100 * one['difference']:.1f} points below {_baseline(results, one['to'])}, 95 % interval "
        f"{100 * one['ci95'][0]:+.1f} to {100 * one['ci95'][1]:+.1f}"
        for one in results["comparisons"]
        if one["to"] in {str(line["label"]) for line in results.get("baselines", [])}
        and one["condition"] == "clean"
        and one["ci95"][1] < 0
    ]
    if not below:
        return []
    return [
        f"Fusion does not pay here: on clean instances {shown(str(results['comparisons'][0]['of']))} is "
        f"{listed(below)}; try another recipe (--steps, --dropout, --weight-decay), a simpler fusion such as "
        "--fusion lf-dnn, or fewer --modalities."
    ]


def _baseline(results: Document, label: str) -> str:
    """Return the name of a baseline, with its modality where that is the same under all seeds."""
    names = {line.get("modality") for line in results["baselines"] if line["label"] == label}
    only = names.pop() if len(names) == 1 else None
    return f"the {label} ({only})" if only else f"the {label}"


def significant(results: Document) -> list[str]:
    """Return the significant differences on clean and corrupted instances and without a modality, gains and losses."""
    entries = list(results["comparisons"])
    ours = shown(entries[0]["of"]) if entries else ""
    lines = []
    for condition, where in (("clean", "On clean instances"), ("corruption.mean", "With one modality corrupted")):
        mine = [entry for entry in entries if entry["condition"] == condition]
        if mine:
            lines.append(f"{where}, {ours} {_verdict(mine)}.")
    removed = [entry for entry in entries if entry["condition"].startswith("removal.")]
    if removed:
        better, worse, _ = map(len, _by_outcome(removed))
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
        f"{_WHERE[entry['condition']]}, {shown(entry['of'])} against {shown(entry['to'])}: "
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
        lines += [line for other in others for condition in MAIN for line in _tally(grid, ours, other, condition)]
    if has_alone(grid):
        entries = [(row, row["against_alone"].get("none")) for row in grid["rows"] if versus_alone(row) != ">"]
        below = [
            f"{row['row']} ({difference_text(one) if one is not None else 'not compared'})" for row, one in entries
        ]
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
    return [*lines, f"not above always saying the most frequent class: {', '.join(stuck)}"] if stuck else lines


def of_corruption(document: Document) -> list[str]:
    """Return the mean score over all kinds of corruption, the worst condition, and the distance to the oracle."""
    labels, metric = by_label(document["runs"]), metric_of(document)
    ours = central(labels)
    kinds = plural(len(document["kinds"]), "kind")
    scores = {label: mean(run["mean"] for run in runs) or 0.0 for label, runs in labels.items()}
    ranked = [f"{shown(label)} {100 * score:.1f} %" for label, score in sorted(scores.items(), key=lambda one: -one[1])]
    worst = min((run["worst"] for run in labels[ours]), key=lambda one: float(one["score"]))
    lines = [
        f"Over {kinds} of corruption at five severities, mean {metric} is {listed(ranked)}.",
        f"The worst for {shown(ours)} is {worst['kind']} at severity {worst['severity']}: {metric} falls to "
        f"{100 * worst['score']:.1f} %.",
    ]
    error = mean(run["mean_corruption_error"] for run in labels[ours])
    if error is not None:
        amount = _change(error - 1, "more errors", "fewer errors", least=0.005) or "as many errors as"
        lines.append(
            f"In the mean over the kinds, {shown(ours)} makes {amount} its twin (mean corruption error {error:.2f})."
        )
    for one in document["covered"]:
        if one["label"] == ours and one["share"] is not None:
            share = 100 * float(one["share"])
            where = f"Of the distance from its twin ({shown(one['twin'])}) to the oracle, {shown(ours)} covers"
            lines.append(
                f"{where} nothing: it is below the twin ({share:.0f} %)." if share < 0 else f"{where} {share:.0f} %."
            )
    return lines


def of_removal(document: Document) -> list[str]:
    """Return the modality that carries the task, and the score without it."""
    labels, metric = by_label(document["runs"]), metric_of(document)
    ours = central(labels)
    values = {name: mean(run["shapley"].get(name) for run in labels[ours]) for name in document["modalities"]}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return []
    total = sum(known.values())
    first = max(known, key=known.__getitem__)
    share = f", {100 * known[first] / total:.0f} % of what all bring together" if total > 0 else ""
    lines = [f"For {shown(ours)}, {first} carries the task: {100 * known[first]:.1f} points of {metric}{share}."]
    useless = [name for name, value in known.items() if value <= 0]
    if useless:
        lines.append(f"In this measure nothing comes from {listed(useless)}.")
    others = set(document["modalities"]) - {first}
    subsets = (one for run in labels[ours] for one in run["subsets"])
    without = mean(one["score"] for one in subsets if set(one["present"]) == others)
    full = mean(run["full"] for run in labels[ours])
    if without is not None and full is not None:
        lines.append(f"Without {first}, its {metric} goes from {100 * full:.1f} % to {100 * without:.1f} %.")
    return lines


def of_dynamics(document: Document) -> list[str]:
    """Return spikes and variance of the loss in training."""
    summaries = {one["label"]: one for one in document["summary"]}
    if not summaries:
        return []
    spikes = {label: one["spikes"]["mean"] or 0.0 for label, one in summaries.items()}
    rough = [f"{shown(label)} {count:.1f}" for label, count in spikes.items() if count > 0]
    lines = ["Training was stable: no run had a spike of the loss."]
    if rough:
        others = "" if len(rough) == len(spikes) else "; the others had none"
        lines = [f"Training had spikes of the loss, in the mean over seeds: {listed(rough)}{others}."]
    ours = central(summaries)
    twin = next((label for label in ("none+perturbed", "none") if label in summaries and label != ours), None)
    if twin is not None:
        mine, theirs = (summaries[label]["loss_variance"]["mean"] for label in (ours, twin))
        if mine is not None and theirs:
            amount = _change(mine / theirs - 1, "more", "less", least=0.05) or "as much as"
            lines.append(
                f"In the second half of training the task's loss of {shown(ours)} varies {amount} that of "
                f"{shown(twin)}."
            )
    return lines


def of_features(document: Document) -> list[str]:
    """Return the effect of calibration on the separation of classes, and the least trusted instance."""
    lines = []
    for what, name, unit, scale, digits in (
        ("probe", "the accuracy of a linear probe", " (in %)", 100, 1),
        ("silhouette", "the silhouette of the classes", "", 1, 3),
    ):
        sides = [
            (modality, one[what]["before"], one[what]["after"]) for modality, one in document["separation"].items()
        ]
        moved = [
            f"{modality} from {scale * before:.{digits}f} to {scale * after:.{digits}f}"
            for modality, before, after in sides
            if before is not None and after is not None
        ]
        if moved:
            lines.append(f"Calibration moves {name} on the features{unit}: {listed(moved)}.")
    if document["distrusted"]:
        one = min(document["distrusted"], key=lambda each: float(each["z"]))
        lines.append(
            f"The least trusted is the {one['modality']} of instance {one['id']}: reliability "
            f"{one['reliability']:.2f} where {one['usual']:.2f} is usual."
        )
    return lines


def _tally(grid: Document, ours: str, other: str, condition: str) -> Iterator[str]:
    """Yield one line, or none where the grid does not compare the two over all rows."""
    wanted = (other, condition)
    rows = (entry for row in grid["rows"] for entry in row["comparisons"])
    entries = [entry for entry in rows if (entry["to"], entry["condition"]) == wanted]
    whole = next((entry for entry in grid["overall"] if (entry["to"], entry["condition"]) == wanted), None)
    if whole is None:
        return
    better, worse, _ = map(len, _by_outcome(entries))
    above = sum(entry["difference"] > 0 for entry in entries)
    yield (
        f"{_WHERE[condition]}, {shown(ours)} against {shown(other)}: {100 * whole['difference']:+.1f} points in the "
        f"mean over {plural(len(entries), 'row')} (p {p_text(whole['p_holm'])}), above in {above}; "
        f"by row significantly better in {better}, worse in {worse}"
    )


def _verdict(entries: Sequence[Document]) -> str:
    phrases = ("is significantly better than", "is significantly worse than", "does not differ significantly from")
    found = [[f"{shown(one['to'])} ({difference_text(one)})" for one in some] for some in _by_outcome(entries)]
    return "; it ".join(f"{phrase} {listed(some)}" for phrase, some in zip(phrases, found, strict=True) if some)


def _by_outcome(entries: Sequence[Document]) -> list[list[Document]]:
    """Return the comparisons that are significantly better, significantly worse, and neither."""
    return [[one for one in entries if outcome(one) == sign] for sign in ("+", "-", "")]


def _change(change: float, more: str, less: str, *, least: float) -> str:
    """Return a relative change in words, such as "12 % more than"; nothing for a change of less than `least`."""
    return f"{100 * abs(change):.0f} % {more if change > 0 else less} than" if abs(change) >= least else ""
