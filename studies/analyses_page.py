"""The analyses of results/ as a page of Markdown tables, and the numbers that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from concordant.report.folder import RunDocuments
from concordant.report.format import Document, by_label, pairs_text, shown
from concordant.report.record import Cell, Table, markdown
from concordant.report.tables.robustness import corruption_detection, corruption_kinds, corruption_summary, removal

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
    corruption, config = found["corruption"], found["results"]["config"]
    tables = (_summary(corruption), _kinds(corruption), removal(found["removal"]), _training(found["dynamics"]))
    return "\n".join(
        [
            f"## {name}\n",
            f"{found['results']['benchmark']}, protocol {config['protocol']}, modalities "
            f"{', '.join(config['modalities'])}, fusion {found['results']['fusion']}, {config['seeds']} seeds.\n",
            *([f"**{found['remark']}**\n"] if "remark" in found else []),
            *(markdown(table, strong=False) for table in tables),
            f"Made by `{found['command']}`. Versions: {pairs_text(corruption['versions'], ' ')}. "
            f"Hardware: {pairs_text(corruption['hardware'])}.\n",
        ]
    )


def _summary(document: Document) -> Table:
    """Return the summary of robustness, its errors without deviations."""
    table = corruption_summary(document).without_spread("error", "reliability's error")
    return table.pick(lambda heading: heading not in ("area", "its score"))


def _kinds(document: Document) -> Table:
    """Return the scores by kind, beside them the mean over oracles, and the detection of the last method."""
    table, found = corruption_kinds(document), corruption_detection(document, severest=True)
    labels = by_label(document["runs"])
    oracles = [name for name in table.columns if name.startswith("oracle of ")]
    last = list(labels)[-1]
    table = table.without_spread(*oracles)
    rows = []
    for place, cells in enumerate(table.cells):
        oracle = cells[1 + len(labels)] if oracles else Cell("-")
        detected = found.cells[place][-1] if shown(last) in found.columns else Cell("-")
        rows.append([*cells[: 1 + len(labels)], oracle, detected])
    head = [*table.columns[: 1 + len(labels)], "oracle", f"which / whether, {last}, severest"]
    return replace(table, columns=head, rows=rows)


def _training(document: Document) -> Table:
    rows = []
    runs = by_label(document["runs"])
    for one in document["summary"]:
        mine = runs[one["label"]]
        cost = sum(run["observing_seconds"] for run in mine) / sum(run["seconds"] for run in mine)
        score = one["final_score"]
        rows.append(
            [
                shown(one["label"]),
                _number(one["loss_variance"]["mean"], 5),
                _number(one["spikes"]["mean"], 1),
                _number(one["sharpness"]["mean"], 4),
                f"{_number(score['mean'], 3)} ± {_number(score['std'], 3)}",
                f"{100 * cost:.1f} %",
            ]
        )
    head = ["training", "loss variance", "spikes", "sharpness", "final validation score", "share spent observing"]
    return Table("training", "", head, rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _only(document: Document, *keys: str) -> dict[str, Any]:
    return {key: document[key] for key in keys}
