"""Actions from three sensors: `python examples/estimator_utd_mhad.py [--data FOLDER] [--steps N]`.

The estimator takes sequences of a skeleton and of an inertial unit and films of a depth camera as arrays; some
recordings lack a sensor. Test and validation subjects are not in training.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from concordant import DataError, Modalities, MultimodalClassifier
from concordant.benchmarks import actions
from concordant.data.archives import find_data_folder


def main() -> int:
    """Fit with sensors missing, score, and explain one recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder that holds utd_mhad.npz; default: as for `concordant run`")
    parser.add_argument("--steps", type=int, help="of the optimiser; default: by the number of recordings")
    arguments = parser.parse_args()
    try:
        read = actions.load_sensors(find_data_folder(arguments.data, files=[actions.SENSORS]))
    except DataError as error:
        print(f"skipped: {error}")
        return 0
    subjects = np.asarray(read.groups).astype(int)
    train = np.isin(subjects, actions.TRAIN_SUBJECTS)

    X = Modalities(read.inputs)
    lost = np.random.default_rng(0).random(len(X)) < 0.1  # every tenth recording has no inertial unit
    inertial = [None if gone else row for gone, row in zip(lost, X["inertial"], strict=True)]
    X = Modalities({**X.arrays, "inertial": inertial})

    model = MultimodalClassifier(fusion="transformer", max_iter=arguments.steps, random_state=0)
    model.fit(X[train], read.labels[train], groups=subjects[train])
    test, truth = X[~train], read.labels[~train]
    print(f"accuracy on unseen subjects: {model.score(test, truth):.3f}")
    print(f"accuracy of the depth camera alone: {model.score({'depth': test['depth']}, truth):.3f}")

    frozen = {**test.arrays, "skeleton": np.repeat(test["skeleton"][:, :1], 64, axis=1)}
    before, after = model.reliability(test), model.reliability(frozen)
    print(f"accuracy with a frozen skeleton: {model.score(frozen, truth):.3f}")
    for name in model.modality_names_:
        print(f"reliability of {name}: {before[name].mean():.2f}, with a frozen skeleton {after[name].mean():.2f}")
    print(model.explain(Modalities(frozen)[:1])[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
