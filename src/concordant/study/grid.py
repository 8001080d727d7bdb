"""A grid on one benchmark: several fusions, each with every calibrator, and each with every modality alone.

Every fusion is a paired experiment in a folder of its own, and an interrupted grid resumes where it stopped:
DIR/<fusion>/ (with "@<point>" where the calibrator does not stand at the fusion's first point),
DIR/<fusion>/alone/<modality>/, and DIR/grid.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from concordant import seeding
from concordant.data.split import as_classes
from concordant.documents import write_document
from concordant.errors import UsageError
from concordant.fusion import FUSIONS
from concordant.robustness.answers import correctness, read_tables
from concordant.statistics.bootstrap import Outcomes, paired_bootstraps
from concordant.statistics.comparisons import CLEAN, CORRUPTION_MEAN, MAIN, METRIC, Correct, compare
from concordant.statistics.significance import holm
from concordant.study.experiment import study_all
from concordant.training.config import Config, Variant, make_config
from concordant.training.runs import RunFolder

SCHEMA = "concordant.grid/1"


def make_grid(benchmark: str, fusions: Sequence[str] | None, **options: Any) -> dict[str, Config]:  # noqa: ANN401
    """Return the checked configuration of every row, by its name.

    Args:
        benchmark: its name.
        fusions: "<fusion>", or "<fusion>@<point>" for a calibrator at another point than the first; None = the
            benchmark's own.
        options: as for `make_config`, for all rows.

    Raises:
        UsageError: names the faults of all rows at once.
    """
    configs, faults = {}, []
    for row in (None,) if fusions is None else dict.fromkeys(fusions):
        fusion, _, point = (row or "").partition("@")
        try:
            row_options = {**options, "fusion": fusion or None, **({"calibrate": point} if point else {})}
            config = make_config(benchmark, **row_options)
            configs[row or config.fusion] = config
        except UsageError as error:
            faults += [fault for fault in str(error).split("; ") if fault not in faults]
    if fusions is not None and not fusions:
        faults.append("fusion must name one or more")
    if faults:
        raise UsageError("; ".join(faults))
    return configs


def run_grid(
    configs: Mapping[str, Config],
    out: Path,
    *,
    alone: bool = True,
    **options: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Run a grid, or resume one, and return what grid.json holds.

    Args:
        configs: the rows, as `make_grid` returns them.
        out: the grid's folder.
        alone: train each fusion with each modality alone as well, clean, to show which row beats the best of them.
        options: the fields of `concordant.study.experiment.Execution`.

    Returns:
        An empty dictionary in a process of torchrun or srun other than the first.

    Raises:
        UsageError: a folder belongs to another configuration.
        DataError: the data are absent or cannot be used.
        ConcordantError: some runs failed; the others are kept.
    """
    experiments: dict[str, tuple[Config, Path]] = {}
    for row, config in configs.items():
        experiments[row] = (config, out / row)
        for name, single in alone_configs(config).items() if alone else ():
            experiments[f"{row}, {name} alone"] = (single, out / row / "alone" / name)
    done = study_all(experiments, baselines=False, **options)
    if not done:
        return {}
    rows = []
    for row, config in configs.items():
        singles = {name: done[f"{row}, {name} alone"] for name in config.modalities} if alone else {}
        rows.append(_row(row, config, done[row], singles, out / row))
    correct = {row: _correct(out / row) for row in configs}
    _against_alone(rows, correct, out)
    first, results = next(iter(configs.values())), next(iter(done.values()))
    grid = {
        "schema": SCHEMA,
        "benchmark": first.title,
        # What the rows have in common.
        "config": first.model_dump(mode="json", exclude={"fusion", "calibrate", "tuned"}),
        "versions": results["versions"],
        "hardware": results["hardware"],
        "rows": rows,
        "overall": _overall(list(correct.values()), [variant.label for variant in first.variants]),
    }
    write_document(out / "grid.json", "grid", grid)
    return grid


def alone_configs(config: Config) -> dict[str, Config]:
    """Return modality -> the experiment with that modality alone."""
    return {one.only: config.of(one) for one in config.alone}


def _row(
    row: str, config: Config, results: Mapping[str, Any], singles: Mapping[str, Mapping[str, Any]], folder: Path
) -> dict[str, Any]:
    """Return what the grid holds of one fusion; `singles` are the results of its modalities alone."""
    runs: dict[str, list[Mapping[str, Any]]] = {variant.label: [] for variant in config.variants}
    for run in results["runs"]:
        runs[Variant(run["calibrator"], run["perturbed_training"]).label].append(run)
    alone = {name: _clean_scores(one["runs"]) for name, one in singles.items()}
    first = results["runs"][0]
    seconds = [run["train_seconds"] for one in (results, *singles.values()) for run in one["runs"]]
    return {
        "row": row,
        "fusion": config.fusion,
        "setting": FUSIONS[config.fusion].setting,
        "calibrate": config.calibrate,
        "fusion_parameters": first["model_parameters"] - first["parameters"],
        "calibrator_parameters": {label: one[0]["parameters"] for label, one in runs.items()},
        "scores": {
            label: {
                CLEAN: _clean_scores(one),
                CORRUPTION_MEAN: [float(np.mean([s[METRIC] for s in run["corruption"].values()])) for run in one],
            }
            for label, one in runs.items()
        },
        "comparisons": [entry for entry in results["comparisons"] if entry["condition"] in MAIN],
        "majority": _majority(folder),
        "alone": alone,
        # The best by its mean on the test split: the hardest one to beat.
        "best_alone": max(alone, key=lambda name: float(np.mean(alone[name])), default=None),
        "against_alone": {},
        "train_minutes": sum(seconds) / 60,
    }


def _clean_scores(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    return [run[CLEAN][METRIC] for run in runs]


def _correct(folder: Path) -> Correct:
    return correctness(read_tables([RunFolder(folder).predictions]))


def _majority(folder: Path) -> float:
    """Return the accuracy of always predicting the most frequent class of the test split, the mean over seeds."""
    table = read_tables([RunFolder(folder).predictions])
    seeds, conditions, labels = (
        table.column(name).to_numpy(zero_copy_only=False) for name in ("seed", "condition", "label")
    )
    clean = conditions == CLEAN
    counts = [
        np.unique(as_classes(labels[clean & (seeds == seed)]), return_counts=True)[1] for seed in np.unique(seeds)
    ]
    return float(np.mean([one.max() / one.sum() for one in counts]))


def _overall(tables: Sequence[Correct], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the comparisons of `compare`, clean and under corruption, of the mean over all rows.

    An instance's outcome is the share of fusions that predict it correctly. Seeds and instances are resampled; the
    fusions are not, since the grid is about these.
    """
    mean = {
        key: {
            condition: replace(
                one, values=np.stack([np.asarray(table[key][condition].values) for table in tables]).mean(0)
            )
            for condition, one in outcomes.items()
            if condition == CLEAN or condition.startswith("corruption.")
        }
        for key, outcomes in tables[0].items()
    }
    return [entry for entry in compare(mean, labels) if entry["condition"] in MAIN]


def _against_alone(rows: Sequence[dict[str, Any]], correct: Mapping[str, Correct], out: Path) -> None:
    """Compare every method of every row, clean, with the best modality alone; Holm over the whole grid."""
    found: list[dict[str, Any]] = []
    for row in (row for row in rows if row["best_alone"] is not None):
        together = _clean(correct[row["row"]])
        single = _clean(_correct(out / row["row"] / "alone" / row["best_alone"]))["none"]
        pairs = [(one, single) for one in together.values()]
        paired = paired_bootstraps(pairs, seed=seeding.derive_seed(0, "bootstrap"))
        for label, one in zip(together, paired, strict=True):
            entry = {"difference": one.difference, "ci95": list(one.ci95), "p_bootstrap": one.p_value, "p_holm": None}
            row["against_alone"][label] = entry
            found.append(entry)
    for entry, adjusted in zip(found, holm([entry["p_bootstrap"] for entry in found]), strict=True):
        entry["p_holm"] = adjusted


def _clean(correct: Correct) -> dict[str, dict[int, Outcomes]]:
    """Return label -> seed -> the outcomes on the clean test split."""
    found: dict[str, dict[int, Outcomes]] = {}
    for (label, seed), outcomes in correct.items():
        found.setdefault(label, {})[seed] = outcomes[CLEAN]
    return found
