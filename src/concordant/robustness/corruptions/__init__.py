"""Corruptions by name: what testing can inflict on a modality, each in five severities from mild to severe.

The quick stress test beside this package (`concordant.robustness.corruption`) has four kinds at one strength each.

>>> import numpy as np
>>> x = np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)
>>> everyone = np.ones(6, np.bool_)
>>> site = Site("bd", everything=x, rows=np.array([1, 4]), donors=everyone, labels=np.arange(6) % 2)
>>> kind = KINDS["clipping"]
>>> kind.fits("bd", x.shape)
True
>>> float(np.abs(kind.apply(x[site.rows], kind.severities[4], site, np.random.default_rng(1))).max())
0.25
"""

from __future__ import annotations

from concordant.registry import Registry
from concordant.robustness.corruptions.audio import AUDIO
from concordant.robustness.corruptions.images import IMAGES
from concordant.robustness.corruptions.instances import INSTANCES
from concordant.robustness.corruptions.kind import GROUPS, SEVERITIES, Kind, Site
from concordant.robustness.corruptions.steps import STEPS
from concordant.robustness.corruptions.values import VALUES

__all__ = ["GROUPS", "KINDS", "SEVERITIES", "Kind", "Site"]

KINDS = Registry[Kind]("corruption")
for _kind in (*VALUES, *STEPS, *INSTANCES, *IMAGES, *AUDIO):
    KINDS.add(_kind.name, _kind)
