"""Cells whose outcomes are drawn: what every method gets right, instance by instance, and how reliable it looks."""

import numpy as np
import pytest

from studies.paper.grid import Cell, Family
from studies.paper.outcomes import CellOutcomes, RunOutcomes

N, SEVERITIES, MODALITIES = 40, (1, 5), ("left", "right")
KINDS = ("swap", "clipping")
TOLD = dict.fromkeys(KINDS, "oracle.left+right")
RELIABLE = ("self", "context")  # the methods that give a reliability


def run(label, seed, number):
    draws = np.random.default_rng([seed, number, *label.encode()])
    names = ["clean", *(f"removal.{name}" for name in MODALITIES)]
    values = {name: (draws.random(N) < draws.uniform(0.3, 0.9)).astype(float) for name in names}
    for kind in KINDS:
        for severity in SEVERITIES:
            values[f"corruption.{kind}.{severity}"] = (draws.random(N) < draws.uniform(0.3, 0.9)).astype(float)
            if label in RELIABLE:
                for what in ("which", "whether"):
                    values[f"{what}.{kind}.{severity}"] = draws.random(N)
        values[f"corruption.{kind}"] = sum(values[f"corruption.{kind}.{s}"] for s in SEVERITIES) / len(SEVERITIES)
    for name, kinds in (("mean", KINDS), ("seen", KINDS[:1]), ("unseen", KINDS[1:])):
        values[f"corruption.{name}"] = sum(values[f"corruption.{kind}"] for kind in kinds) / len(kinds)
    ids = np.array([f"{row}" for row in range(N)])
    extra = {"parameters": 10 * len(label), "model_parameters": 1000 + 10 * len(label)}
    return RunOutcomes(ids, None, values, np.ones(N, np.bool_), TOLD, extra)


@pytest.fixture(scope="session")
def drawn():
    """Return a function that draws a cell."""

    def cell(name="a", labels=("none", "none+perturbed", "self", "context"), *, seeds=3, ablations=(), stability=None):
        family = Family(name, "digits", ("concat",), "concat", seeds, modalities=MODALITIES)
        runs = {label: {seed: run(label, seed, len(name)) for seed in range(seeds)} for label in (*labels, *ablations)}
        place = Cell(family, "concat", first=True)
        return CellOutcomes(place, tuple(labels), tuple(ablations), SEVERITIES, runs, stability or {})

    return cell
