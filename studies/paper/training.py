"""Training of the whole grid: the first cell of every family under observation, the rest as they are.

Observed runs record the loss of every step, by which stability over seeds is told; their weights are those of runs that
nobody looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from concordant.dynamics.recorder import DEFAULT_EVERY
from concordant.study.experiment import Progress, study_all
from studies.paper.plan import Experiment


def train_all(
    experiments: Sequence[Experiment],
    *,
    data: Path | str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Train what is not trained yet.

    Args:
        experiments: of the plan.
        data: the data folder.
        jobs: runs that go at once; None = one a core.
        progress: called with the finished runs, all runs, and a line about the last one.

    Raises: as for `concordant.study.experiment.study_all`.
    """
    for observed in (True, False):
        mine = {one.name: (one.config, one.folder) for one in experiments if is_observed(one) == observed}
        if mine:
            study_all(mine, data=data, jobs=jobs, progress=progress, dynamics=DEFAULT_EVERY if observed else None)


def is_observed(experiment: Experiment) -> bool:
    """Say whether the training of an experiment's runs is observed."""
    return experiment.cell.first and not experiment.ablations
