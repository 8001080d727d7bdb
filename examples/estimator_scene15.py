"""Scenes from three image descriptors: `python examples/estimator_scene15.py [--data FOLDER] [--images N]`.

`Modalities` holds an array per descriptor, and goes through splits, cross-validation and grid search. The script prints
the accuracy, the accuracy without each descriptor, and reliabilities before and after noise on one descriptor.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from sklearn.model_selection import cross_val_score, train_test_split

from concordant import DataError, Modalities, MultimodalClassifier
from concordant.benchmarks.small import SCENE15
from concordant.data.archives import find_data_folder


def main() -> int:
    """Fit, score, add noise and explain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder that holds scene15.npz; default: as for `concordant run`")
    parser.add_argument("--images", type=int, default=4485, help="how many are used; default: all 4485")
    arguments = parser.parse_args()
    try:
        read = SCENE15.load(find_data_folder(arguments.data, files=SCENE15.files))
    except DataError as error:
        print(f"skipped: {error}")
        return 0
    X, y = Modalities(read.inputs), read.labels
    some = np.random.default_rng(0).permutation(len(y))[: arguments.images]
    train, test, y_train, y_test = train_test_split(X[some], y[some], test_size=0.2, stratify=y[some], random_state=0)

    model = MultimodalClassifier(random_state=0).fit(train, y_train)
    print(f"accuracy: {model.score(test, y_test):.3f}")
    for name in model.modality_names_:
        rest = {other: test[other] for other in model.modality_names_ if other != name}
        print(f"accuracy without {name}: {model.score(rest, y_test):.3f}")

    draws = np.random.default_rng(1)
    noise = 3 * train["view1"].std(0) * draws.normal(size=test["view1"].shape)
    noisy = {**test.arrays, "view1": (test["view1"] + noise).astype(np.float32)}
    before, after = model.reliability(test), model.reliability(noisy)
    print(f"accuracy with noise on view1: {model.score(noisy, y_test):.3f}")
    for name in model.modality_names_:
        print(f"reliability of {name}: {before[name].mean():.2f}, with noise on view1 {after[name].mean():.2f}")
    print(model.explain(Modalities(noisy)[:1])[0])

    scores = cross_val_score(MultimodalClassifier(random_state=0, max_iter=100), train, y_train, cv=2)
    print(f"two folds, 100 steps each: {', '.join(f'{score:.3f}' for score in scores)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
