"""Files and functions of Concordant that one training forward of a calibrator enters.

    python -m benchmarks.call_trace

Checks, perturbation and losses are part of the forward. Named functions count; comprehensions and lambdas do not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import concordant
from concordant import ContextualCalibrator
from concordant.modalities import LayoutName

PACKAGE = str(Path(concordant.__file__).parent)
B = 8


def cases() -> dict[str, tuple[ContextualCalibrator, dict[str, Any]]]:
    """Return name -> calibrator in training mode and the arguments of a forward with labels of three classes."""
    length = torch.arange(6) < torch.arange(1, B + 1).unsqueeze(1)
    here = {"audio": torch.arange(B) > 1}
    sizes = {"text": 6, "audio": 4, "vision": 5}
    vectors = {name: torch.randn(B, size) for name, size in sizes.items()}
    mixed = {"text": torch.randn(B, 6), "audio": torch.randn(B, 6, 4), "vision": torch.randn(B, 6, 5)}
    masks = {"audio": length, "vision": length}
    every = {**mixed, "image": torch.randn(B, 3, 2, 2)}
    given: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
        "vectors of one size": (dict.fromkeys("abc", 5), {"features": {n: torch.randn(B, 5) for n in "abc"}}),
        "vectors of three sizes": (sizes, {"features": vectors}),
        "masked sequences beside a vector": (sizes, {"features": mixed, "masks": masks}),
        "with presence": (sizes, {"features": mixed, "masks": masks, "present": here}),
        "all of these and a map": ({**sizes, "image": 3}, {"features": every, "masks": masks, "present": here}),
    }
    found = {}
    for name, (declared, arguments) in given.items():
        layouts: LayoutName = "bd" if "vectors" in name else "auto"
        calibrator = ContextualCalibrator(declared, layouts=layouts, classes=3, seed=0).train()
        found[name] = calibrator, {**arguments, "labels": torch.arange(B) % 3}
    return found


def entered(action: Callable[[], object]) -> set[tuple[str, str]]:
    """Return (file, function) of everything in the package that an action enters."""
    found = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and not code.co_name.startswith("<"):
            found.add((code.co_filename[len(PACKAGE) + 1 :], code.co_qualname))

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def walk(calibrator: ContextualCalibrator, arguments: dict[str, Any]) -> set[tuple[str, str]]:
    """Return (file, function) of one training forward; a first call is not counted."""
    calibrator(**arguments)
    return entered(lambda: calibrator(**arguments))


if __name__ == "__main__":
    print(f"{'input':34} files  functions")
    for name, (calibrator, arguments) in cases().items():
        found = walk(calibrator, arguments)
        print(f"{name:34} {len({file for file, _ in found}):5}  {len(found):9}")
        if "--list" in sys.argv:
            print("\n".join(f"    {file}  {function}" for file, function in sorted(found)))
