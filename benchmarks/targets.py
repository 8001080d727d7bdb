"""What Concordant's cost is held to, and whether a measurement keeps to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound on one measured number.

    Args:
        what: in words.
        section: of the document.
        where: fields that the record has.
        limit: the bound.
        field: the number.
        at_least: the bound is from below.
    """

    what: str
    section: str
    where: Mapping[str, Any]
    limit: float
    field: str = "ratio"
    at_least: bool = False

    def measured(self, document: Mapping[str, Any]) -> list[float]:
        """Return the numbers that the bound is for; none where they were not measured."""
        return [
            record[self.field]
            for record in document.get(self.section, [])
            if all(record.get(key) == value for key, value in self.where.items())
        ]

    def kept(self, value: float) -> bool:
        """Say whether a number keeps to the bound."""
        return value >= self.limit if self.at_least else value <= self.limit


def _overheads(what: str, phase: str, limit: float, **where: str) -> Target:
    step = "training step" if phase == "train" else "inference"
    fields = {"preset": "small", "calibrator": "context", "phase": phase, **where}
    return Target(f"{what}, {step}, `context` over `none`", "overhead", fields, limit)


_MULT = {"fusion": "mult", "setting": "unaligned"}
_VECTORS = {"fusion": "lf-dnn", "setting": "vectors"}
_MAPS = [
    {"fusion": fusion, "setting": "audio-visual"}
    for fusion in ("sum", "concat", "film", "gated", "mmtm", "centralnet", "attention")
]
TARGETS = (
    *(_overheads(f"`{where['fusion']}` of ResNet-18 at 112 pixels", "train", 1.05, **where) for where in _MAPS),
    _overheads("`mult` at the lengths of CMU-MOSI", "train", 1.08, **_MULT),
    _overheads("`lf-dnn` on vectors", "train", 1.5, **_VECTORS),
    *(_overheads(f"`{where['fusion']}` of ResNet-18 at 112 pixels", "inference", 1.03, **where) for where in _MAPS),
    _overheads("`mult` at the lengths of CMU-MOSI", "inference", 1.05, **_MULT),
    _overheads("`lf-dnn` on vectors", "inference", 1.4, **_VECTORS),
    *(
        Target(
            f"the calibrator alone on three modalities of (64, 500, 512), evaluation, over the bound {memory}",
            "bandwidth_bound",
            {"calibrator": "context", "shape": [64, 500, 512], "masked": False, "compiled": False},
            1.5,
            field=field,
        )
        for field, memory in (("ratio", "with results in new memory"), ("warm_ratio", "in memory written before"))
    ),
    Target(
        "ten seeds at once over one after another, `lf-dnn` on `cmu-mosi-utterance`",
        "vectorised_seeds",
        {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "calibrator": "context", "seeds": 10},
        4.0,
        field="speedup",
        at_least=True,
    ),
    Target(
        "ten seeds at once over one after another, `transformer` on `utd-mhad`",
        "vectorised_seeds",
        {
            "benchmark": "utd-mhad",
            "fusion": "transformer",
            "modalities": ["skeleton", "inertial", "depth"],
            "seeds": 10,
        },
        2.5,
        field="speedup",
        at_least=True,
    ),
)


def dearer_than_joint(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, for each fusion and phase, the time of `context` over that of `joint`; it is held to 1.1."""
    found = []
    records = document.get("overhead", [])
    keys = ("setting", "fusion", "preset", "phase")
    joint = {tuple(r[key] for key in keys): r["ratio"] for r in records if r["calibrator"] == "joint"}
    for record in records:
        key = tuple(record[name] for name in keys)
        if record["calibrator"] == "context" and key in joint:
            found.append({**dict(zip(keys, key, strict=True)), "ratio": round(record["ratio"] / joint[key], 3)})
    return found
