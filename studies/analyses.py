"""Make results/analyses, results/ANALYSES.md and results/severity.png: `python -m studies.analyses [NAME ...]`.

An experiment is a paired run of `concordant run --dynamics-every 10` in runs/results/analyses/NAME, stressed as by
`concordant stress` and inspected as by `concordant inspect`; finished steps are not repeated. The numbers of its report
go to results/analyses/NAME.json; the report itself stays in the folder of the runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from concordant.files import write_json, write_text
from concordant.report.figures.colours import COLOURS
from concordant.report.folder import RunDocuments
from concordant.report.format import Document, by_label, shown
from concordant.report.page import read_documents, write_report
from concordant.report.record import Cell, Table, markdown, number
from concordant.report.tables.robustness import corruption_detection, corruption_kinds, corruption_summary, removal
from concordant.study.experiment import study
from concordant.study.stress import stress_corruption, stress_removal
from concordant.training.config import make_config
from concordant.training.runs import open_runs
from concordant.visualisation.inspection import inspect_features, open_inspected
from studies import common
from studies.common import RESULTS, RUNS

PICTURE = "ravdess"
EVERY = 10  # steps; finer than the default, for the curves of the reports
PANELS = 5  # beside each other

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "utd-mhad": {"benchmark": "utd-mhad", "seeds": 2},
    "cmu-mosi-utterance": {"benchmark": "cmu-mosi-utterance", "seeds": 5, "protocol": "test-folds"},
    "ravdess": {"benchmark": "ravdess", "seeds": 3},
    "av-digits": {"benchmark": "av-digits", "seeds": 3},
}

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


def main(names: common.Names = None, data: common.Data = None, jobs: common.Jobs = None) -> None:
    """Run the experiments named on the command line, or all, and write numbers, page and picture."""
    how: dict[str, Any] = {"data": data, "jobs": jobs}
    for name in common.chosen(names, EXPERIMENTS):
        print(name, flush=True)
        out = RUNS / "results" / "analyses" / name
        study(make_config(**EXPERIMENTS[name]), out, dynamics=EVERY, **how)
        runs = open_runs(out)
        stress_removal(runs, **how)
        stress_corruption(runs, **how)
        inspect_features(open_inspected(runs, data=data))
        documents = read_documents(out)
        write_report([documents], out / "report.html")
        write_json(RESULTS / "analyses" / f"{name}.json", numbers_of(documents, f"python -m studies.analyses {name}"))
    found = common.read_found(RESULTS / "analyses", EXPERIMENTS)
    write_text(RESULTS / "ANALYSES.md", analyses_page(found))
    if PICTURE in found:
        draw_severity(found[PICTURE]["corruption"], RESULTS / "severity.png")


def numbers_of(documents: RunDocuments, command: str) -> dict[str, Any]:
    """Return the numbers of a report, without those that are drawn point by point."""
    results, dynamics, features = documents.results, documents.dynamics, documents.features
    if dynamics is not None:
        head = ("schema", "benchmark", "fusion", "modalities", "every", "summary", "versions", "hardware")
        each = ("label", "seed", "seconds", "observing_seconds", "stability")
        dynamics = {**_only(dynamics, *head), "runs": [_only(run, *each) for run in dynamics["runs"]]}
    return {
        "schema": "concordant.analyses/1",
        "command": command,
        "results": None if results is None else _only(results, "benchmark", "fusion", "config"),
        "removal": documents.removal,
        "corruption": documents.corruption,
        "dynamics": dynamics,
        "features": None if features is None else {key: value for key, value in features.items() if key != "points"},
    }


def analyses_page(found: Mapping[str, Document]) -> str:
    """Return a page with one section per named experiment."""
    parts = [HEAD]
    for name, one in found.items():
        corruption = one["corruption"]
        tables = (_summary(corruption), _kinds(corruption), removal(one["removal"]), _training(one["dynamics"]))
        parts += [
            f"## {name}\n",
            common.setting_line(one["results"], one["results"]["config"]["seeds"]),
            *common.remark_of(one),
            *(markdown(table, strong=False) for table in tables),
            f"Made by `{one['command']}`. {common.made_line(corruption)}\n",
        ]
    return "\n".join(parts)


def _summary(document: Document) -> Table:
    """Return the summary of robustness, its errors without deviations."""
    table = corruption_summary(document).without_spread("error", "reliability's error")
    return table.pick(lambda heading: heading not in ("area", "its score"))


def _kinds(document: Document) -> Table:
    """Return the scores by kind, the oracle's beside them, and the detection of the last method."""
    table, found = corruption_kinds(document), corruption_detection(document, severest=True)
    labels = list(by_label(document["runs"]))
    oracles = [name for name in table.columns if name.startswith("oracle of ")]
    detects = shown(labels[-1]) in found.columns
    rows = [
        [
            *cells[: 1 + len(labels)],
            cells[1 + len(labels)] if oracles else Cell("-"),
            found.cells[place][-1] if detects else Cell("-"),
        ]
        for place, cells in enumerate(table.without_spread(*oracles).cells)
    ]
    head = [*table.columns[: 1 + len(labels)], "oracle", f"which / whether, {labels[-1]}, severest"]
    return replace(table, columns=head, rows=rows)


def _training(document: Document) -> Table:
    """Return how steadily each method trained, and which share of the time its recording took."""
    runs = by_label(document["runs"])
    rows: list[list[Cell | str]] = []
    for one in document["summary"]:
        mine = runs[one["label"]]
        cost = sum(run["observing_seconds"] for run in mine) / sum(run["seconds"] for run in mine)
        measures = (("loss_variance", 5), ("spikes", 1), ("sharpness", 4))
        score = [number(one["final_score"][key], 3, scale=1).text for key in ("mean", "std")]
        cells = [number(one[name]["mean"], digits, scale=1) for name, digits in measures]
        rows.append([shown(one["label"]), *cells, " ± ".join(score), f"{100 * cost:.1f} %"])
    head = ["training", "loss variance", "spikes", "sharpness", "final validation score", "share spent observing"]
    return Table("training", "", head, rows)


def _only(document: Document, *keys: str) -> dict[str, Any]:
    return {key: document[key] for key in keys}


def draw_severity(document: Document, path: Path) -> None:
    """Write the curves of accuracy by severity: means over seeds, one standard deviation to either side; 0 is clean."""
    kinds, labels = [kind["name"] for kind in document["kinds"]], by_label(document["runs"])
    rows = -(-len(kinds) // PANELS)
    with common.picture(path, 10, 1.75 * rows + 0.7, dpi=150) as figure:
        grid = figure.subplots(rows, min(PANELS, len(kinds)), sharex=True, sharey=True, squeeze=False)
        for axes, kind in zip(grid.flat, kinds, strict=False):
            for label in labels:
                curves, colour = curves_of(document, label, kind), COLOURS.get(label)
                mean, spread = curves.mean(0), curves.std(0, ddof=1) if len(curves) > 1 else np.zeros(curves.shape[1])
                axes.plot(mean, color=colour, label=shown(label), lw=1.8 if label == "context" else 1.1)
                axes.fill_between(range(len(mean)), mean - spread, mean + spread, color=colour, alpha=0.12)
            oracle = [100 * np.array(one["kinds"][kind]["scores"]) for one in document["oracle"]]
            if oracle:
                axes.plot(range(1, 6), np.mean(oracle, 0), "--", color="black", lw=0.9, label="oracle")
            axes.set_title(kind, loc="left", fontsize=8)
        for axes in list(grid.flat)[len(kinds) :]:
            axes.set_visible(False)
        grid[0, 0].set_xticks(range(6))
        figure.supylabel(f"{document['metric']}, %", fontsize=8)
        figure.supxlabel("severity", fontsize=8)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)


def curves_of(document: Document, label: str, kind: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the scores of a method in percent, one row per seed: clean, then at the five severities."""
    runs = by_label(document["runs"])[label]
    return 100 * np.array([[run["clean"], *run["kinds"][kind]["scores"]] for run in runs], dtype=np.float64)


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.analyses")
