"""Scene-15: fifteen kinds of scenes, three image descriptors each, one vector a view.

Shapes: view0 (N, 20), view1 (N, 59), view2 (N, 40), 4485 images.
"""

from __future__ import annotations

from concordant.benchmarks.views import view_benchmark

SCENE15 = view_benchmark(
    name="scene15",
    summary="Scene-15: fifteen kinds of scenes by three image descriptors",
    sizes={"view0": 20, "view1": 59, "view2": 40},
    classes=tuple(f"scene {index}" for index in range(15)),
    prefix="scene",
    # Of learning rates 0.003 to 0.01 and 700 or 1400 steps among the best on validation (joint and context, two seeds).
    recipe={"*": {"steps": 1400, "learning_rate": 0.01}},
)
