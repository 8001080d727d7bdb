"""UCI multiple features: handwritten digits by six descriptors, one vector a view.

Shapes: view0 (N, 240), view1 (N, 76), view2 (N, 216), view3 (N, 47), view4 (N, 64), view5 (N, 6), 2000 images.
"""

from __future__ import annotations

from pathlib import Path

from concord.data.benchmark import Benchmark, Parts
from concord.data.part import Part
from concord.data.views import load_views, split_views

FILE = "handwritten.npz"
SIZES = {"view0": 240, "view1": 76, "view2": 216, "view3": 47, "view4": 64, "view5": 6}
CLASSES = tuple(str(digit) for digit in range(10))


def load(folder: Path | None) -> Part:
    """Read the archive."""
    return load_views(folder, FILE, SIZES, classes=len(CLASSES), prefix="digit")


def split(everything: Part, seed: int, protocol: str) -> Parts:
    """Return a stratified random split: 20 % for testing, 10 % of the rest for validation."""
    return split_views(everything, seed, "handwritten", CLASSES)


HANDWRITTEN = Benchmark(
    name="handwritten",
    setting="vector",
    summary="UCI multiple features: handwritten digits by six image descriptors",
    fusion="lf-dnn",
    modalities=tuple(SIZES),
    protocols=("random",),
    load=load,
    split=split,
    files=(FILE,),
)
