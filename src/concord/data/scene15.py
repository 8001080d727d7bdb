"""Scene-15: fifteen kinds of scenes, three image descriptors each, one vector a view.

Shapes: view0 (N, 20), view1 (N, 59), view2 (N, 40), 4485 images.
"""

from __future__ import annotations

from pathlib import Path

from concord.data.benchmark import Benchmark, Parts
from concord.data.part import Part
from concord.data.views import load_views, split_views

FILE = "scene15.npz"
SIZES = {"view0": 20, "view1": 59, "view2": 40}
CLASSES = tuple(f"scene {index}" for index in range(15))


def load(folder: Path | None) -> Part:
    """Read the archive."""
    return load_views(folder, FILE, SIZES, classes=len(CLASSES), prefix="scene")


def split(everything: Part, seed: int, protocol: str) -> Parts:
    """Return a stratified random split: 20 % for testing, 10 % of the rest for validation."""
    return split_views(everything, seed, "scene15", CLASSES)


SCENE15 = Benchmark(
    name="scene15",
    setting="vector",
    summary="Scene-15: fifteen kinds of scenes by three image descriptors",
    fusion="lf-dnn",
    modalities=tuple(SIZES),
    protocols=("random",),
    load=load,
    split=split,
    files=(FILE,),
    # Of learning rates 0.003 to 0.01 and 700 or 1400 steps among the best on validation (joint and context, two seeds).
    recipe={"*": {"steps": 1400, "learning_rate": 0.01}},
)
