"""Model of an experiment: an encoder per modality, a calibrator of their features, and a fusion with its head.

The calibrator stands where the modalities meet: behind the encoders and the layers that the fusion applies to each
modality alone. Every part is built on a random stream that follows from its name and the run's seed, so another
calibrator changes nothing else.
Shapes: inputs in their layouts, batch first; logits (B, C), or (2B, C) with a perturbed copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from concordant import seeding
from concordant.calibration import Calibration, Calibrator, Perturbation
from concordant.calibration.distributed import copies_across
from concordant.calibration.objective import FEWEST_CLASSES
from concordant.data.split import Task
from concordant.encoders import MAPS, Encoder, build_encoder
from concordant.errors import UsageError
from concordant.fusion import FUSIONS, FeatureSpec, Fusion
from concordant.fusion.base import head_width, scaled_head
from concordant.modalities import LAYOUTS, ModalityBatch
from concordant.rivals import CALIBRATORS, CalibratorEntry
from concordant.training.batches import Tensors
from concordant.training.config import Config, Recipe, Variant

EXTRACTED = 0.2  # weight of the unimodal loss on extracted features


@dataclass(frozen=True)
class Output:
    """Output of a forward pass.

    Args:
        logits: (B, C), or (2B, C): the batch clean, then perturbed.
        calibration: of the calibrator; its features are those that the fusion joined.
        masks: modality -> bool (B, L), of those features.
        present: modality -> bool (B,), of those features; empty where all are present.
    """

    logits: Tensor
    calibration: Calibration
    masks: dict[str, Tensor]
    present: dict[str, Tensor]


class MultimodalModel(nn.Module):
    """Encode, calibrate, fuse.

    Args:
        encoders: modality -> its encoder, in the declared order.
        calibrator: between encoders and fusion.
        fusion: joins the features and classifies.
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
        """Return logits and the calibration.

        Args:
            inputs: modality -> inputs in its layout; those of absent instances may have any finite value.
            masks: modality -> bool (B, T).
            present: modality -> bool (B,).
            labels: class indices (B,) for the calibrator's contrastive loss, in training.
            perturbation: pass the features on twice, clean and perturbed; None = once, clean.
            generator: the source of perturbations.
        """
        batch = self.encode(inputs, masks, present)
        return self.calibrate_and_fuse(batch, labels=labels, perturbation=perturbation, generator=generator)

    def encode(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> ModalityBatch:
        """Return the features before the calibrator; arguments as for `forward`."""
        return self.calibrator.gather(*self.encode_some(inputs, masks, present))

    def encode_some(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Return features, masks and presence of the given modalities, which may be some of the model's."""
        encoded, encoded_masks = {}, {}
        for name, encoder in self.encoders.items():
            if name in inputs:
                given = [None if known is None else known.get(name) for known in (masks, present)]
                encoded[name], mask = encoder(inputs[name], *given)
                if mask is not None:
                    encoded_masks[name] = mask
        known = with_masks({} if present is None else present, encoded_masks)
        features, left = self.fusion.encode(encoded, encoded_masks, known)
        return features, left, known

    def prepared(self, split: Tensors) -> Tensors:
        """Return a split with the encoders applied that have no weights, which then change it no more.

        Args:
            split: in memory, on the encoders' device.
        """
        inputs, masks = dict(split.inputs), dict(split.masks)
        for name, encoder in self.encoders.items():
            if next(encoder.parameters(), None) is None:
                inputs[name], mask = encoder(inputs[name], masks.pop(name, None), split.present.get(name))
                masks |= {} if mask is None else {name: mask}
        return replace(split, inputs=inputs, masks=masks)

    def calibrate_and_fuse(
        self,
        batch: ModalityBatch,
        *,
        labels: Tensor | None = None,
        perturbation: Perturbation | None = None,
        generator: torch.Generator | None = None,
    ) -> Output:
        """Return the output for features that `encode` returned."""
        perturbed = torch.zeros_like(batch.present)
        if perturbation is not None:
            copies = copies_across(batch, perturbation, self.calibrator.ranks, generator=generator)
            batch, perturbed = copies.batch, copies.perturbed
            labels = None if labels is None else labels.repeat(2)
        if self.fusion.classes < FEWEST_CLASSES and not self.calibrator.needs_classes:
            labels = None
        calibration = self.calibrator(batch, labels=labels, perturbed=perturbed)
        here = {}
        if not calibration.all_present:
            here = {name: calibration.present[:, index] for index, name in enumerate(calibration.names)}
        logits = calibration.decision
        if logits is None:
            with scaled_head(self.fusion, calibration.fused):
                logits = self.fusion.join(calibration.features, batch.masks, here)
        return Output(logits, calibration, batch.masks, here)


def with_masks(present: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return presence without the instances that have no valid position; fusions may consume the masks."""
    known = dict(present)
    for name, mask in masks.items():
        has = mask.flatten(1).any(1)
        known[name] = known[name] & has if name in known else has
    return known


def build_model(task: Task, config: Config, variant: Variant, seed: int) -> MultimodalModel:
    """Return the untrained model of one run; a seed gives every variant equal weights in the parts that they share."""
    config = config.of(variant)
    return assemble(
        {name: (task.layouts[name], task.train.shapes[name]) for name in config.modalities},
        config.recipe,
        fusion=config.fusion,
        calibrator=variant.calibrator,
        outputs=task.outputs,
        real=task.kind == "real",
        seed=seed,
        at=config.calibrate,
        preset=config.preset,
        encoders=config.encoders,
    )


def assemble(
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    recipe: Recipe,
    *,
    fusion: str,
    calibrator: str,
    outputs: int,
    real: bool,
    seed: int,
    at: str | None = None,
    preset: str = "small",
    encoders: str = "small",
) -> MultimodalModel:
    """Return an untrained model of encoders, calibrator and fusion, each built on a random stream of its own.

    Args:
        inputs: modality -> layout and shape of an instance.
        recipe: has width and dropout.
        fusion: one of `FUSIONS`.
        calibrator: one of `CALIBRATORS`.
        outputs: C.
        real: the targets are real numbers.
        seed: of the initial weights.
        at: the point of the fusion where the calibrator stands; None = its first.
        preset: sizes of the fusion: "small", "medium" or "published".
        encoders: "small" or "resnet18"; a published model has its own.
    """
    entry, method = FUSIONS[fusion], CALIBRATORS[calibrator]
    published = entry.published if preset == "published" else None
    built: dict[str, Encoder] = {}
    for name, (layout, shape) in inputs.items():
        with seeding.scope(seed, "encoder", name):
            built[name] = build_encoder(
                layout,
                shape,
                size=recipe.width,
                dropout=recipe.dropout,
                kind=encoders if published is None else "input" if name in published.steps else "mean",
                maps=entry.setting == "convolutional",
                stages=entry.stages,
            )
    specs = {name: FeatureSpec(encoder.size, LAYOUTS[encoder.feature_layout]) for name, encoder in built.items()}
    chosen: dict[str, Any] = {**(entry.small if preset == "small" else {}), "dropout": recipe.dropout}
    if len(entry.points) > 1:
        chosen["at"] = entry.points[0] if at is None else at
    with seeding.scope(seed, "fusion", fusion):
        joined = (entry if published is None else published).build(specs, classes=outputs, **chosen)
    layouts = [layout for layout, _ in inputs.values()]
    options = {
        **class_options(method, None if real else outputs, layouts),
        "layouts": {name: joined.meeting[name].layout.name for name in inputs},
        "dropout": recipe.dropout,
    }
    if method.fused:
        options["fused"] = head_width(joined)
    with seeding.scope(seed, "calibrator", method.stream or calibrator):
        calibrate = method.build({name: joined.meeting[name].size for name in inputs}, **options)
    return MultimodalModel(encoders=built, calibrator=calibrate, fusion=joined)


def class_options(method: CalibratorEntry, classes: int | None, inputs: Sequence[str]) -> dict[str, Any]:
    """Return a calibrator's own arguments, the number of classes and the weight of the unimodal loss.

    Inputs that are all vectors were extracted by other networks. Their encoders need little supervision and overfit
    with some hundred rows: the unimodal loss weighs 0.2 there, elsewhere the calibrator's 0.5 (docs/method.md has the
    trials).

    Args:
        method: the calibrator.
        classes: of the task; None for real labels.
        inputs: the layout of every modality's inputs.
    """
    if classes is None or not (method.classes or method.unimodal):
        return dict(method.options)
    extracted = method.unimodal and all(layout == "bd" for layout in inputs)
    weight = {"unimodal_weight": EXTRACTED} if extracted else {}
    return {**weight, **method.options, "classes": classes}


def check_encoders(task: Task, config: Config) -> None:
    """Refuse ResNet-18 encoders without any image, spectrogram or film.

    Raises:
        UsageError: names the modalities.
    """
    found = {name: task.layouts[name] for name in config.modalities}
    if config.encoders == "resnet18" and not any(layout in MAPS for layout in found.values()):
        kinds = ", ".join(f"{name} ({layout})" for name, layout in found.items())
        raise UsageError(
            f"encoders resnet18 reads maps and films ({', '.join(MAPS)}), and {config.benchmark} has none of them: "
            f"{kinds}; use small"
        )


def check_labels(task: Task, config: Config) -> None:
    """Refuse calibrators and methods that need classes where labels are real numbers.

    Raises:
        UsageError: names all of them.
    """
    needing = [name for name in config.calibrators if CALIBRATORS[name].classes]
    needing += [] if config.method == "none" else [config.method]
    if task.kind == "real" and needing:
        raise UsageError(
            f"{', '.join(needing)} needs classes, and the labels of {config.benchmark} are real numbers; leave it out"
        )
