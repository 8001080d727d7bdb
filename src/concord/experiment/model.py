"""The model of an experiment: an encoder a modality, a calibrator on the features, a fusion with its head.

Twins share what they share: every part is built on a stream of random numbers that its name and the run's
seed choose, so that a calibrator more or less changes nothing else.
Shapes: inputs in their layouts, batch first; logits (B, C), or (2B, C) with a perturbed copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from concord import seeding
from concord.calibration import Calibration, Calibrator, Perturbation, with_copies
from concord.data.part import Task
from concord.encoders import Encoder, build_encoder
from concord.experiment.config import Config, Recipe, Variant
from concord.fusion import FUSIONS, FeatureSpec, Fusion
from concord.modalities import LAYOUTS
from concord.rivals import CALIBRATORS

FEWEST_CLASSES = 3  # from here on class labels make better positives for the contrastive loss than pairs do


@dataclass(frozen=True)
class Output:
    """What a forward pass gives.

    Args:
        logits: (B, C), or (2B, C): the batch untouched, then perturbed.
        calibration: what the calibrator found.
    """

    logits: Tensor
    calibration: Calibration


class MultimodalModel(nn.Module):
    """Encode, calibrate, fuse.

    Args:
        encoders: modality -> its encoder, in the declared order.
        calibrator: what stands between encoders and fusion.
        fusion: what joins the features and classifies.
    """

    def __init__(self, *, encoders: Mapping[str, Encoder], calibrator: Calibrator, fusion: Fusion) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.calibrator = calibrator
        self.fusion = fusion

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        *,
        labels: Tensor | None = None,
        perturbation: Perturbation | None = None,
        generator: torch.Generator | None = None,
    ) -> Output:
        """Return logits and what the calibrator found.

        Args:
            inputs: modality -> inputs in its layout; absent instances may hold anything finite.
            masks: modality -> bool (B, T).
            present: modality -> bool (B,).
            labels: class indices (B,) for the calibrator's contrastive loss, in training.
            perturbation: pass the features on twice, untouched and perturbed; None = once, untouched.
            generator: the source of the perturbations' draws.
        """
        features, feature_masks = {}, {}
        for name, encoder in self.encoders.items():
            features[name], mask = encoder(inputs[name], None if masks is None else masks.get(name))
            if mask is not None:
                feature_masks[name] = mask
        batch = self.calibrator.gather(features, feature_masks, present)
        touched = torch.zeros_like(batch.present)
        if perturbation is not None:
            hurt = with_copies(batch, perturbation, generator=generator)
            batch, touched = hurt.batch, hurt.touched
            labels = None if labels is None else labels.repeat(2)
        if self.fusion.classes < FEWEST_CLASSES:
            labels = None
        calibration = self.calibrator(batch, labels=labels, touched=touched)
        here = {} if batch.complete else {name: batch.column(name) for name in batch.names}
        return Output(self.fusion(calibration.features, batch.masks, here), calibration)


def build_model(task: Task, config: Config, variant: Variant, seed: int) -> MultimodalModel:
    """Return the untrained model of one run; the same seed gives every variant the same shared weights."""
    recipe = config.recipe
    encoders = {name: _encoder(task, name, recipe, seed) for name in config.modalities}
    layouts = {name: encoder.feature_layout for name, encoder in encoders.items()}
    sizes = {name: encoder.size for name, encoder in encoders.items()}
    with seeding.scope(seed, "calibrator", variant.calibrator):
        calibrator = CALIBRATORS[variant.calibrator].build(sizes, layouts=layouts, dropout=recipe.dropout)
    specs = {name: FeatureSpec(encoder.size, LAYOUTS[layouts[name]]) for name, encoder in encoders.items()}
    with seeding.scope(seed, "fusion", config.fusion):
        fusion = FUSIONS[config.fusion].build(specs, classes=len(task.classes), dropout=recipe.dropout)  # type: ignore[call-arg]
    return MultimodalModel(encoders=encoders, calibrator=calibrator, fusion=fusion)


def _encoder(task: Task, name: str, recipe: Recipe, seed: int) -> Encoder:
    with seeding.scope(seed, "encoder", name):
        shape = task.train.inputs[name].shape[1:]
        return build_encoder(task.layouts[name], shape, size=recipe.width, dropout=recipe.dropout)
