"""Corruptions by name: changes that testing makes to a modality, each in five severities from mild to severe.

>>> import numpy as np
>>> x = np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)
>>> context = Context("bd", everything=x, rows=np.array([1, 4]), donors=np.ones(6, np.bool_), labels=np.arange(6) % 2)
>>> kind = KINDS["clipping"]
>>> kind.fits("bd", x.shape)
True
>>> float(np.abs(kind.apply(x[context.rows], kind.severities[4], context, np.random.default_rng(1))).max())
0.25
"""

from __future__ import annotations

from concordant.registry import Registry
from concordant.robustness.corruptions import audio, images, instances, time, values
from concordant.robustness.corruptions.kind import ENTERED, GROUPS, SEVERITIES, Context, Kind

__all__ = ["GROUPS", "KINDS", "SEVERITIES", "Context", "Kind", "audio", "images", "instances", "time", "values"]

KINDS = Registry[Kind]("corruption")
for _kind in sorted(ENTERED, key=lambda kind: GROUPS.index(kind.group)):
    KINDS.add(_kind.name, _kind)
