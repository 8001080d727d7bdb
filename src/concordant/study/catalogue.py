"""What can be run, as plain records: name, setting, modalities allowed, parameters, paper.

Parameters are counted for one reference that is the same for all: three modalities with 64 features each (maps
for convolutional fusions, sequences otherwise), ten classes. Encoders are not counted. Fusions are built on
PyTorch's meta device, which holds no values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from concordant.benchmarks.catalogue import BENCHMARKS
from concordant.errors import UsageError
from concordant.fusion import FUSIONS, FeatureSpec
from concordant.modalities import LAYOUTS
from concordant.registry import Registry
from concordant.rivals import CALIBRATORS
from concordant.robustness.corruptions import KINDS
from concordant.training.methods import METHODS

REFERENCE = {"modalities": 3, "features": 64, "classes": 10}
REGISTRIES: dict[str, Registry[Any]] = {
    "benchmarks": BENCHMARKS,
    "fusions": FUSIONS,
    "calibrators": CALIBRATORS,
    "methods": METHODS,
    "corruptions": KINDS,
}


def catalogue(kind: str | None = None) -> list[dict[str, Any]]:
    """Return one record an entry of a registry, or of all.

    Args:
        kind: "benchmarks", "fusions", "calibrators", "methods" or "corruptions"; None = all.

    Raises:
        UsageError: there is no such kind.
    """
    if kind is not None and kind not in REGISTRIES:
        raise UsageError(f"unknown kind {kind!r}; choose from: {', '.join(REGISTRIES)}")
    details = {
        "benchmarks": _benchmark,
        "fusions": _fusion,
        "calibrators": _calibrator,
        "methods": _method,
        "corruptions": _corruption,
    }
    return [
        {
            "kind": what.removesuffix("s"),
            "name": name,
            "setting": getattr(registry[name], "setting", None),
            "summary": registry[name].summary,
            **details[what](name),
        }
        for what, registry in REGISTRIES.items()
        if kind in (None, what)
        for name in registry
    ]


def _benchmark(name: str) -> dict[str, Any]:
    entry = BENCHMARKS[name]
    return {key: getattr(entry, key) for key in ("modalities", "protocols", "files", "fusion")}


def _fusion(name: str) -> dict[str, Any]:
    entry = FUSIONS[name]
    return {
        "least_modalities": 1,
        "most_modalities": entry.most,
        "calibrated_at": entry.points,
        "parameters": {"default": fusion_parameters(name, {}), "small": fusion_parameters(name, entry.small)},
        "paper": entry.paper,
    }


def _calibrator(name: str) -> dict[str, Any]:
    entry = CALIBRATORS[name]
    options = {**entry.options, **({"classes": REFERENCE["classes"]} if entry.classes else {})}
    with torch.random.fork_rng(devices=[]):
        count = parameters_of(entry.build(dict.fromkeys(_names(), REFERENCE["features"]), layouts="btd", **options))
    return {
        "setting": "late fusion" if entry.late else "any",
        "least_modalities": entry.build.fewest,
        "most_modalities": None,
        # Calibrators have one size, which is small.
        "parameters": {"default": count, "small": count},
        "paper": entry.paper,
    }


def _method(name: str) -> dict[str, Any]:
    return {"setting": "any", "paper": METHODS[name].paper}


def _corruption(name: str) -> dict[str, Any]:
    kind = KINDS[name]
    return {"setting": kind.group, "unit": kind.unit, "severities": list(kind.severities), "seen": kind.seen}


def fusion_parameters(name: str, options: Mapping[str, Any]) -> int:
    """Return how many parameters a fusion has on the reference modalities with these keyword arguments."""
    entry = FUSIONS[name]
    layout = LAYOUTS["bchw" if entry.setting == "convolutional" else "btd"]
    specs = {n: FeatureSpec(REFERENCE["features"], layout) for n in _names()}
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return parameters_of(entry.build(specs, classes=REFERENCE["classes"], **options))


def parameters_of(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(weight.numel() for weight in module.parameters())


def _names() -> list[str]:
    return [f"m{number}" for number in range(REFERENCE["modalities"])]
