"""Corruption of features instead of inputs: what arrives at the calibrator, taken from a model and put back.

Axis letters: N instances; features (N, ...) in the layouts in which the modalities meet, batch first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from concordant.data.split import AnySplit, Split
from concordant.robustness.predict import BATCH, evaluating
from concordant.training.batches import open_tensors
from concordant.training.model import MultimodalModel, Output


class FromFeatures(nn.Module):
    """A trained model from the calibrator on: what it says of features instead of inputs."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self.model = model
        self.calibrator = model.calibrator

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Output:
        """Return what comes of features: calibrated, then joined by the fusion."""
        return self.model.judge(self.model.calibrator.gather(features, masks, present))


def feature_layouts(model: MultimodalModel) -> dict[str, str]:
    """Return modality -> the layout in which its features arrive at the calibrator."""
    return {name: model.fusion.meeting[name].layout.name for name in model.calibrator.names}


def features_of(model: MultimodalModel, part: AnySplit) -> Split:
    """Return a part whose inputs are the features that arrive at the calibrator; they are held in memory.

    Features of absent modalities are 0. Instances, labels, ids and groups are the part's.
    """
    device = next(model.parameters()).device
    features: dict[str, list[Tensor]] = {}
    masks: dict[str, list[Tensor]] = {}
    present: list[Tensor] = []
    with evaluating(model):
        for some in open_tensors(part).to(device).chunks(BATCH):
            batch = model.encode(some.inputs, some.masks, some.present)
            present.append(batch.present.cpu())
            for name, x in batch.features.items():
                here = batch.column(name).view(-1, *(1 for _ in x.shape[1:]))
                features.setdefault(name, []).append(torch.where(here, x, 0).float().cpu())
            for name, mask in batch.masks.items():
                masks.setdefault(name, []).append(mask.cpu())
    known = torch.cat(present).numpy()
    return Split(
        inputs={name: torch.cat(found).numpy() for name, found in features.items()},
        labels=np.asarray(part.labels),
        ids=part.ids,
        groups=part.groups,
        masks={name: torch.cat(found).numpy() for name, found in masks.items()},
        present={name: known[:, index] for index, name in enumerate(model.calibrator.names)},
    )
