"""Shares of the way: 0 for the twin, 1 for its oracle, on outcomes that are drawn."""

import numpy as np
import pytest

from concordant.robustness.oracle import covering
from studies.paper.grid import TWIN, Cell, Family
from studies.paper.outcomes import CellOutcomes, RunOutcomes
from studies.paper.stress import CONTROL
from studies.paper.tables import SHARE, answer, counted_conditions, shares_of

N, SEVERITIES = 200, (1, 5)
ORACLES = {"swap": "oracle.left+right", "clipping": "oracle.left+right", CONTROL: "oracle.left+right"}
# The chance to be right: the twin's oracle is ahead of it under both kinds, but under mild clipping.
CHANCES = {
    TWIN: {"swap.1": 0.6, "swap.5": 0.3, "clipping.1": 0.95, "clipping.5": 0.5},
    "self": {"swap.1": 0.6, "swap.5": 0.4, "clipping.1": 0.9, "clipping.5": 0.7},
    "context": {"swap.1": 0.7, "swap.5": 0.6, "clipping.1": 0.9, "clipping.5": 0.7},
}


def drawn(label, seed, told):
    draws = np.random.default_rng([seed, len(label)])
    values = {"clean": np.ones(N), ORACLES["swap"]: (draws.random(N) < told).astype(float)}
    for name, chance in CHANCES[label].items():
        values[f"corruption.{name}"] = (draws.random(N) < chance).astype(float)
    for severity in SEVERITIES:
        values[f"corruption.{CONTROL}.{severity}"] = np.zeros(N)
    ids = np.array([f"{number}" for number in range(N)])
    return RunOutcomes(ids, None, values, np.ones(N, np.bool_), ORACLES)


def cell(told=0.8):
    """Return drawn outcomes, with the twin's oracle as another method."""
    runs = {label: {seed: drawn(label, seed, told) for seed in (0, 1)} for label in CHANCES}
    runs["oracle"] = {}
    for seed, run in runs[TWIN].items():
        values = {name: run.values[ORACLES["swap"]] if name.startswith("corr") else x for name, x in run.values.items()}
        runs["oracle"][seed] = RunOutcomes(run.ids, None, values, run.corrupted, ORACLES)
    family = Family("drawn", "digits", ("concat",), 2, modalities=("left", "right"))
    return CellOutcomes(Cell(family, "concat"), tuple(runs), (), SEVERITIES, runs)


def share_of(found, label):
    """Return the share over all seeds, as the table has it."""
    return next(row["mean"] for row in answer("oracle", [found], resamples=50).scores if row["label"] == label)


def test_the_twin_has_covered_nothing_and_its_oracle_everything():
    found = cell()
    assert share_of(found, TWIN) == 0
    assert share_of(found, "oracle") == pytest.approx(1)
    counted = counted_conditions(found)
    assert [condition for condition, _ in counted] == [
        "corruption.swap.1",
        "corruption.swap.5",
        "corruption.clipping.5",
    ]
    assert shares_of(found, TWIN, counted).tolist() == [0, 0]


def test_a_share_is_that_of_concordant_stress():
    found = cell()
    kinds = [kind for kind in ORACLES if kind != CONTROL]
    documents = [
        {
            "label": label,
            "kinds": {
                kind: {"scores": [run.values[f"corruption.{kind}.{s}"].mean() for s in SEVERITIES]} for kind in kinds
            },
            "oracle": {kind: {"scores": [run.values[ORACLES[kind]].mean()] * len(SEVERITIES)} for kind in kinds},
        }
        for label, runs in found.runs.items()
        for run in runs.values()
    ]
    for label in found.labels:
        assert share_of(found, label) == pytest.approx(covering(documents, label, TWIN)["share"])
    assert 0 < share_of(found, "self") < share_of(found, "context") < 1


def test_differences_are_those_of_the_shares():
    found = cell()
    table = answer("oracle", [found], resamples=200)
    shares = {row["label"]: row["mean"] for row in table.scores}
    assert set(shares) == set(found.labels)
    for row in table.rows:
        assert row["condition"] == SHARE
        assert row["difference"] == pytest.approx(shares["context"] - shares[row["to"]])
        assert row["mean_of"] == pytest.approx(shares["context"])
        assert row["low"] <= row["difference"] <= row["high"]


def test_where_the_oracle_is_no_better_there_is_no_way():
    assert answer("oracle", [cell(told=0.0)], resamples=50).scores == []
