"""UCI multiple features: handwritten digits by six descriptors, one vector a view.

Shapes: view0 (N, 240), view1 (N, 76), view2 (N, 216), view3 (N, 47), view4 (N, 64), view5 (N, 6), 2000 images.
"""

from __future__ import annotations

from concordant.benchmarks.views import view_benchmark

HANDWRITTEN = view_benchmark(
    name="handwritten",
    summary="UCI multiple features: handwritten digits by six image descriptors",
    sizes={"view0": 240, "view1": 76, "view2": 216, "view3": 47, "view4": 64, "view5": 6},
    classes=tuple(str(digit) for digit in range(10)),
    prefix="digit",
)
