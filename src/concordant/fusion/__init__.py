"""Fusions by name: backbones that join the features of all modalities, each with its own head.

`FUSIONS` has one entry per fusion, registered beside its class; `FusionEntry` lists what an entry says.

>>> import torch
>>> from concordant.modalities import LAYOUTS
>>> specs = {"text": FeatureSpec(300, LAYOUTS["btd"]), "audio": FeatureSpec(74, LAYOUTS["bd"])}
>>> entry = FUSIONS["mbt"]
>>> model = entry.build(specs, classes=3, **entry.small).eval()  # without entry.small, of the paper's size
>>> features = {"text": torch.randn(2, 50, 300), "audio": torch.randn(2, 74)}
>>> masks, present = {"text": torch.arange(50).expand(2, -1) < 20}, {"audio": torch.tensor([True, False])}
>>> model(features, masks, present).shape
torch.Size([2, 3])
"""

from concordant.fusion.base import FUSIONS, FeatureSpec, Fusion, FusionEntry

# Imported in the order of the listing: the classes register themselves.
# isort: off
from concordant.fusion.sequence import late, recurrent, tensor, low_rank, memory, crossmodal, misa  # noqa: F401
from concordant.fusion.sequence import bottleneck, perceiver, transformer  # noqa: F401
from concordant.fusion.convolutional import streams, mmtm, centralnet, attention  # noqa: F401
# isort: on

__all__ = ["FUSIONS", "FeatureSpec", "Fusion", "FusionEntry"]
