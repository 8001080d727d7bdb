"""Scanned digits seen by three views: left half, right half, and the profile of row and column sums.

The 1797 digits of 8x8 pixels that are installed with scikit-learn (UCI, Alpaydin and Kaynak 1998): no file
is needed. Three views of one object, as three sensors would give.
Shapes: left and right (N, 1, 8, 4), profile (N, 16).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from concordant.benchmarks.benchmark import Benchmark, Splits
from concordant.data.split import Split, stratified

TEST = 0.2
VALID = 0.15


def load(folder: Path | None) -> Split:
    """Return the three views of every digit; `folder` is not looked at."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32).reshape(-1, 1, 8, 8)
    profile = np.concatenate([images.sum(3), images.sum(2)], 2)[:, 0]  # (N, 16)
    return Split(
        inputs={"left": images[..., :4].copy(), "right": images[..., 4:].copy(), "profile": profile},
        labels=labels.astype(np.int64),
        ids=np.array([f"digit-{row}" for row in range(len(labels))]),
    )


def split(everything: Split, seed: int, protocol: str) -> Splits:
    """Return a stratified random split: 20 % for testing, 15 % of the rest for validation."""
    rest, test = stratified(np.arange(len(everything)), everything.labels, TEST, seed, "digits", "test")
    train, valid = stratified(rest, everything.labels[rest], VALID, seed, "digits", "valid")
    return Splits(
        classes=tuple("0123456789"),
        layouts={"left": "bchw", "right": "bchw", "profile": "bd"},
        train=everything.take(train),
        valid=everything.take(valid),
        test=everything.take(test),
    )


DIGITS = Benchmark(
    name="digits",
    setting="convolutional",
    summary="scikit-learn's scanned digits as two half images and a profile; embedded, no file needed",
    fusion="concat",
    modalities=("left", "right", "profile"),
    protocols=("random",),
    load=load,
    split=split,
    # Small and short, so that the fifty runs of the demonstration end in two minutes; longer training scores higher.
    recipe={"*": {"steps": 250, "width": 32}},
)
