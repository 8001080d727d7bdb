"""The analyses of results/ as a page of Markdown tables, and the numbers that it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from concordant.report.html import RunDocuments
from concordant.report.table import mean_and_std, shown

Document = Mapping[str, Any]

HEAD = """# Analyses

Made by `python -m studies.analyses`; the numbers are those of the JSON files in `results/analyses`. Accuracy in
percent, mean ± standard deviation over seeds. The reports themselves, with all figures, are the `report.html` of the
runs' folders.

- **Corruption**: one random modality of every test instance is corrupted, by each kind at five severities
  (`concordant list corruptions` has their units; \\* = training perturbs by this kind, at other strengths). *Error* is
  the mean corruption error: errors relative to the twin trained with perturbations (none, perturbed). *Covered* is the
  share of the way from that twin to its oracle, which is told the corrupted modality and given it as absent, over the
  conditions in which the oracle is more than a point ahead.
- **Removal**: the score of each subset of modalities, Shapley values, and the mean over rates at which instances lose
  modalities at random (area).
- **Training**: variance of the loss around its running mean in the second half of training, spikes of the loss a run,
  rise of the validation loss when the weights are moved by 2 % (sharpness), the final validation score.
"""


def numbers_of(documents: RunDocuments, command: str) -> dict[str, Any]:
    """Return what is kept of a report: its numbers without what is drawn point by point."""
    dynamics, features = documents.dynamics, documents.features
    return {
        "schema": "concordant.analyses/1",
        "command": command,
        "results": None if documents.results is None else _only(documents.results, "benchmark", "fusion", "config"),
        "removal": documents.removal,
        "corruption": documents.corruption,
        "dynamics": None
        if dynamics is None
        else {
            **_only(
                dynamics, "schema", "benchmark", "fusion", "modalities", "every", "summary", "versions", "hardware"
            ),
            "runs": [
                {key: one[key] for key in ("label", "seed", "seconds", "observing_seconds", "stability")}
                for one in dynamics["runs"]
            ],
        },
        "features": None if features is None else {key: value for key, value in features.items() if key != "points"},
    }


def analyses_page(found: Mapping[str, Document]) -> str:
    """Return a page with one section for each named experiment."""
    return "\n".join([HEAD, *(_section(name, one) for name, one in found.items())])


def _section(name: str, found: Document) -> str:
    corruption, removal, dynamics = found["corruption"], found["removal"], found["dynamics"]
    config = found["results"]["config"]
    tools = ", ".join(f"{key} {value}" for key, value in corruption["versions"].items())
    machine = ", ".join(f"{key}: {value}" for key, value in corruption["hardware"].items())
    return "\n".join(
        [
            f"## {name}\n",
            f"{found['results']['benchmark']}, protocol {config['protocol']}, modalities "
            f"{', '.join(config['modalities'])}, fusion {found['results']['fusion']}, {config['seeds']} seeds.\n",
            *([f"**{found['remark']}**\n"] if "remark" in found else []),
            _corruption(corruption),
            _kinds(corruption),
            _removal(removal),
            _training(dynamics),
            f"Made by `{found['command']}`. Versions: {tools}. Hardware: {machine}.\n",
        ]
    )


def _corruption(document: Document) -> str:
    covered = {one["label"]: one for one in document["covered"]}
    rows = []
    for label in _labels(document):
        runs = _runs(document, label)
        share = covered.get(label, {}).get("share")
        errors = [run["mean_corruption_error"] for run in runs if run["mean_corruption_error"] is not None]
        worst = min(runs, key=lambda run: run["worst"]["score"])["worst"]
        rows.append(
            [
                shown(label),
                mean_and_std([run["clean"] for run in runs]),
                mean_and_std([run["mean"] for run in runs]),
                f"{np.mean(errors):.2f}" if errors else "-",
                "-" if share is None else f"{100 * share:.0f} %",
                mean_and_std([run["worst"]["score"] for run in runs]),
                f"{worst['kind']}, {worst['severity']}",
                _diagram(runs),
            ]
        )
    head = ["calibrator", "clean", "corrupted", "error", "covered", "worst case", "which is", "reliability's error"]
    return _table(head, rows)


def _diagram(runs: Sequence[Document]) -> str:
    errors = [run["diagram"]["error"] for run in runs if run["diagram"] is not None]
    return f"{np.mean(errors):.3f}" if errors else "-"


def _kinds(document: Document) -> str:
    labels = _labels(document)
    rows = []
    for kind in document["kinds"]:
        name = kind["name"]
        cells = [
            mean_and_std([float(np.mean(run["kinds"][name]["scores"])) for run in _runs(document, label)])
            for label in labels
        ]
        told = [float(np.mean(one["kinds"][name]["scores"])) for one in document["oracle"]]
        ours = [run["kinds"][name] for run in _runs(document, labels[-1])]
        auroc = "-"
        if ours[0]["which"] is not None:
            last = [[one[what][-1] for one in ours] for what in ("which", "whether")]
            auroc = " / ".join(f"{np.mean([v for v in values if v is not None]):.2f}" for values in last)
        mark = " \\*" if kind["seen"] else ""
        rows.append([f"{name}{mark}", *cells, f"{100 * np.mean(told):.1f}" if told else "-", auroc])
    head = [
        "corruption, mean over severities",
        *map(shown, labels),
        "oracle",
        f"which / whether, {labels[-1]}, severest",
    ]
    return _table(head, rows)


def _removal(document: Document) -> str:
    labels = _labels(document)
    rows = []
    for place, one in enumerate(document["runs"][0]["subsets"]):
        cells = [mean_and_std([run["subsets"][place]["score"] for run in _runs(document, label)]) for label in labels]
        rows.append([" + ".join(one["present"]), *cells])
    for name in document["modalities"]:
        cells = [mean_and_std([run["shapley"][name] for run in _runs(document, label)]) for label in labels]
        rows.append([f"Shapley value of {name}", *cells])
    rows.append(["area", *(mean_and_std([run["rate_area"] for run in _runs(document, label)]) for label in labels)])
    return _table(["modalities present", *map(shown, labels)], rows)


def _training(document: Document) -> str:
    rows = []
    for one in document["summary"]:
        runs = _runs(document, one["label"])
        cost = sum(run["observing_seconds"] for run in runs) / sum(run["seconds"] for run in runs)
        score, sharp, variance = one["final_score"], one["sharpness"], one["loss_variance"]
        rows.append(
            [
                shown(one["label"]),
                _number(variance["mean"], 5),
                _number(one["spikes"]["mean"], 1),
                _number(sharp["mean"], 4),
                f"{_number(score['mean'], 3)} ± {_number(score['std'], 3)}",
                f"{100 * cost:.1f} %",
            ]
        )
    head = ["training", "loss variance", "spikes", "sharpness", "final validation score", "share spent observing"]
    return _table(head, rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _only(document: Document, *keys: str) -> dict[str, Any]:
    return {key: document[key] for key in keys}


def _labels(document: Document) -> list[str]:
    return list(dict.fromkeys(run["label"] for run in document["runs"]))


def _runs(document: Document, label: str) -> list[Any]:
    return [run for run in document["runs"] if run["label"] == label]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
