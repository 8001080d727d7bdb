"""What can be run, as plain records: name, setting, modalities, parameters, paper.

The records are written down in catalogue.json beside this file, so that listing them needs neither PyTorch nor a model;
`python -m concordant.study.catalogue` writes the file, and a test compares it with the registries.

Parameters are counted for one reference: three modalities with 64 features each (maps for convolutional fusions,
sequences otherwise), ten classes. Encoders are not counted. Fusions are built on PyTorch's meta device, which holds no
values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.errors import UsageError
from concordant.files import read_json, write_text

if TYPE_CHECKING:
    from torch import nn

    from concordant.registry import Registry

REFERENCE = {"modalities": 3, "features": 64, "classes": 10}
KINDS = ("benchmarks", "fusions", "calibrators", "methods", "corruptions")
FILE = Path(__file__).with_name("catalogue.json")


def catalogue(kind: str | None = None) -> list[dict[str, Any]]:
    """Return one record per entry, as written down.

    Args:
        kind: "benchmarks", "fusions", "calibrators", "methods" or "corruptions"; None = all.

    Raises:
        UsageError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}; choose from: {', '.join(KINDS)}")
    return [entry for entry in _written() if kind in (None, entry["kind"] + "s")]


@cache
def _written() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = read_json(FILE)["entries"]
    return entries


def build_catalogue() -> list[dict[str, Any]]:
    """Return one record per entry, computed from the registries; every fusion and calibrator is built."""
    return [
        {
            "kind": kind.removesuffix("s"),
            "name": name,
            "setting": getattr(registry[name], "setting", None),
            "summary": registry[name].summary,
            **_details(kind, name, registry[name]),
        }
        for kind, registry in registries().items()
        for name in registry
    ]


def registries() -> dict[str, Registry[Any]]:
    """Return the registry of each kind."""
    from concordant.benchmarks.catalogue import BENCHMARKS
    from concordant.fusion import FUSIONS
    from concordant.rivals import CALIBRATORS
    from concordant.robustness.corruptions import KINDS as CORRUPTIONS
    from concordant.training.methods import METHODS

    return dict(zip(KINDS, (BENCHMARKS, FUSIONS, CALIBRATORS, METHODS, CORRUPTIONS), strict=True))


def _details(kind: str, name: str, entry: Any) -> dict[str, Any]:  # noqa: ANN401 - an entry of any registry
    """Return what the record of an entry holds beside name, setting and summary."""
    if kind == "benchmarks":
        return {key: getattr(entry, key) for key in ("modalities", "protocols", "files", "fusion")}
    if kind == "corruptions":
        unit, severities = entry.unit, list(entry.severities)
        return {"setting": entry.group, "unit": unit, "severities": severities, "seen": entry.seen}
    if kind == "methods":
        return {"setting": "any", "paper": entry.paper}
    if kind == "fusions":
        sizes = {"default": fusion_parameters(name, {}), "small": fusion_parameters(name, entry.small)}
        limits = {"least_modalities": 1, "most_modalities": entry.most, "calibrated_at": entry.points}
        return {**limits, "parameters": sizes, "paper": entry.paper}
    count = _calibrator_parameters(entry)
    return {
        "setting": "late fusion" if entry.late else "any",
        "least_modalities": entry.build.fewest,
        "most_modalities": None,
        "parameters": {"default": count, "small": count},  # calibrators have one size, which is small
        "paper": entry.paper,
    }


def _calibrator_parameters(entry: Any) -> int:  # noqa: ANN401
    import torch

    options = {**entry.options, **({"classes": REFERENCE["classes"]} if entry.classes else {})}
    with torch.random.fork_rng(devices=[]):
        return parameters_of(entry.build(dict.fromkeys(_names(), REFERENCE["features"]), layouts="btd", **options))


def fusion_parameters(name: str, options: Mapping[str, Any]) -> int:
    """Return the number of parameters of a fusion on the reference modalities with these keyword arguments."""
    import torch

    from concordant.fusion import FUSIONS, FeatureSpec
    from concordant.modalities import LAYOUTS

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


def write_catalogue() -> None:
    """Write catalogue.json, one line per entry."""
    lines = ",\n".join(json.dumps(entry) for entry in build_catalogue())
    write_text(FILE, f'{{"schema": "concordant.catalogue/1", "entries": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    write_catalogue()
