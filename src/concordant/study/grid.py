"""A grid on one benchmark: several fusions, each with every calibrator, and each with every modality alone.

Every fusion is a paired experiment in a folder of its own, and an interrupted grid resumes where it stopped:
DIR/<fusion>/ (with "@<point>" where the calibrator does not stand at the fusion's first point),
DIR/<fusion>/alone/<modality>/, and DIR/grid.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.documents import write_document
from concordant.errors import UsageError
from concordant.fusion import FUSIONS
from concordant.robustness.answers import as_classes, correctness, read_tables
from concordant.statistics.bootstrap import Outcomes, paired_bootstraps
from concordant.statistics.comparisons import CLEAN, CORRUPTION_MEAN, METRIC, compare, reference
from concordant.statistics.significance import holm
from concordant.study.experiment import study_all
from concordant.training.config import Config, Variant, make_config
from concordant.training.runs import RunFolder

SCHEMA = "concordant.grid/1"
SHOWN = (CLEAN, CORRUPTION_MEAN)


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
    experiments, lone = {}, {}
    for row, config in configs.items():
        experiments[row] = (config, out / row)
        lone[row] = {name: f"{row}, {name} alone" for name in config.modalities} if alone else {}
        for name, single in alone_configs(config).items() if alone else ():
            experiments[lone[row][name]] = (single, out / row / "alone" / name)
    done = study_all(experiments, **options)
    if not done:
        return {}
    rows = []
    for row, config in configs.items():
        singles = {name: done[key] for name, key in lone[row].items()}
        rows.append(_row(row, config, done[row], singles, out / row))
    _against_alone(rows, out)
    first, results = next(iter(configs.values())), done[next(iter(configs))]
    own = ("fusion", "calibrate", "tuned")  # of each row
    shared = {key: value for key, value in first.model_dump(mode="json").items() if key not in own}
    grid = {
        "schema": SCHEMA,
        "benchmark": first.benchmark,
        "config": shared,
        "versions": results["versions"],
        "hardware": results["hardware"],
        "rows": rows,
        "overall": overall(out, list(configs), [variant.label for variant in first.variants]),
    }
    write_document(out / "grid.json", "grid", grid)
    return grid


def alone_configs(config: Config) -> dict[str, Config]:
    """Return modality -> the experiment with that modality alone."""
    return {
        name: config.model_copy(update={"modalities": (name,), "calibrators": ("none",), "method": "none"})
        for name in config.modalities
    }


def _row(
    row: str, config: Config, results: Mapping[str, Any], singles: Mapping[str, Mapping[str, Any]], folder: Path
) -> dict[str, Any]:
    """Return what the grid holds of one fusion."""
    labels = [variant.label for variant in config.variants]
    runs = {variant.label: [r for r in results["runs"] if _is(r, variant)] for variant in config.variants}
    seconds = [r["train_seconds"] for one in (results, *singles.values()) for r in one["runs"]]
    return {
        "row": row,
        "fusion": config.fusion,
        "setting": FUSIONS[config.fusion].setting,
        "calibrate": config.calibrate,
        "fusion_parameters": runs[labels[0]][0]["model_parameters"] - runs[labels[0]][0]["parameters"],
        "calibrator_parameters": {label: one[0]["parameters"] for label, one in runs.items()},
        "scores": {
            label: {
                CLEAN: [r["clean"][METRIC] for r in one],
                CORRUPTION_MEAN: [float(np.mean([s[METRIC] for s in r["corruption"].values()])) for r in one],
            }
            for label, one in runs.items()
        },
        "comparisons": [entry for entry in results["comparisons"] if entry["condition"] in SHOWN],
        "majority": majority(folder),
        "alone": {name: [r["clean"][METRIC] for r in one["runs"]] for name, one in singles.items()},
        "best_alone": best_alone(singles),
        "against_alone": {},
        "train_minutes": sum(seconds) / 60,
    }


def _is(run: Mapping[str, Any], variant: Variant) -> bool:
    return bool(run["calibrator"] == variant.calibrator and run["perturbed_training"] == variant.perturbed)


def best_alone(singles: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the modality that scores best alone, by its mean on the test split: the hardest one to beat."""
    if not singles:
        return None
    return max(singles, key=lambda name: float(np.mean([run["clean"][METRIC] for run in singles[name]["runs"]])))


def majority(folder: Path) -> float:
    """Return the accuracy of always predicting the most frequent class of the test split, the mean over seeds."""
    table = read_tables([folder / "predictions.parquet"])
    plain = {name: table.column(name).to_numpy(zero_copy_only=False) for name in ("seed", "condition", "label")}
    clean = plain["condition"] == CLEAN
    shares = []
    for seed in np.unique(plain["seed"]):
        labels = as_classes(plain["label"][clean & (plain["seed"] == seed)])
        shares.append(np.unique(labels, return_counts=True)[1].max() / len(labels))
    return float(np.mean(shares))


def overall(out: Path, rows: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the comparisons of `compare`, clean and under corruption, of the mean over all rows.

    An instance's outcome is the share of fusions that predict it correctly. Seeds and instances are resampled; the
    fusions are not, since the grid is about these.
    """
    if reference(labels) is None:
        return []
    tables = [correctness(read_tables([RunFolder(out / row).predictions])) for row in rows]
    mean: dict[tuple[str, int], dict[str, Outcomes]] = {}
    for key, outcomes in tables[0].items():
        mean[key] = {
            condition: Outcomes(mean_values([table[key][condition] for table in tables]), one.ids, one.groups)
            for condition, one in outcomes.items()
            if condition == CLEAN or condition.startswith("corruption.")
        }
    return [entry for entry in compare(mean, labels) if entry["condition"] in SHOWN]


def mean_values(outcomes: Sequence[Outcomes]) -> NDArray[np.float64]:
    """Return the mean outcome of each instance, (N,)."""
    values = np.stack([np.asarray(one.values, dtype=np.float64) for one in outcomes])
    return np.asarray(values.mean(0))


def _against_alone(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Compare every method of every row, clean, with the best modality alone; Holm over the whole grid."""
    found: list[dict[str, Any]] = []
    for row in rows:
        best = row["best_alone"]
        if best is None:
            continue
        together = _clean(out / row["row"])
        single = _clean(out / row["row"] / "alone" / best)["none"]
        paired = paired_bootstraps(
            [(one, single) for one in together.values()], seed=seeding.derive_seed(0, "bootstrap")
        )
        for label, one in zip(together, paired, strict=True):
            entry: dict[str, Any] = {
                "difference": one.difference,
                "ci95": list(one.ci95),
                "p_bootstrap": one.p_value,
                "p_holm": None,
            }
            row["against_alone"][label] = entry
            found.append(entry)
    for entry, adjusted in zip(found, holm([entry["p_bootstrap"] for entry in found]), strict=True):
        entry["p_holm"] = adjusted


def _clean(folder: Path) -> dict[str, dict[int, Outcomes]]:
    """Return label -> seed -> the outcomes on the clean test split."""
    found: dict[str, dict[int, Outcomes]] = {}
    for (label, seed), outcomes in correctness(read_tables([RunFolder(folder).predictions])).items():
        found.setdefault(label, {})[seed] = outcomes[CLEAN]
    return found
