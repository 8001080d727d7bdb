"""The model of an experiment: an encoder a modality, a calibrator on the features, a fusion with its head.

The calibrator stands where the fusion says that the modalities meet: behind the encoders and whatever the
fusion does to each modality alone.
Twins share what they share: every part is built on a stream of random numbers that its name and the run's
seed choose, so that a calibrator more or less changes nothing else.
Shapes: inputs in their layouts, batch first; logits (B, C), or (2B, C) with a perturbed copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from concordant.training.config import Config, Variant

EXTRACTED = 0.2  # the weight of opinions on extracted features


@dataclass(frozen=True)
class Output:
    """What a forward pass gives.

    Args:
        logits: (B, C), or (2B, C): the batch untouched, then perturbed.
        calibration: what the calibrator found; its features are what the fusion joined.
        masks: modality -> bool (B, L), of those features.
        present: modality -> bool (B,), of those features; none where all are.
    """

    logits: Tensor
    calibration: Calibration
    masks: dict[str, Tensor]
    present: dict[str, Tensor]


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
        batch = self.encode(inputs, masks, present)
        return self.judge(batch, labels=labels, perturbation=perturbation, generator=generator)

    def encode(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> ModalityBatch:
        """Return the features as they arrive at the calibrator; arguments as for `forward`."""
        encoded, encoded_masks = {}, {}
        for name, encoder in self.encoders.items():
            given = [None if known is None else known.get(name) for known in (masks, present)]
            encoded[name], mask = encoder(inputs[name], *given)
            if mask is not None:
                encoded_masks[name] = mask
        known = with_masks({} if present is None else present, encoded_masks)
        features, left = self.fusion.encode(encoded, encoded_masks, known)
        return self.calibrator.gather(features, left, known)

    def judge(
        self,
        batch: ModalityBatch,
        *,
        labels: Tensor | None = None,
        perturbation: Perturbation | None = None,
        generator: torch.Generator | None = None,
    ) -> Output:
        """Return what comes of features that `encode` returned: calibrated, then joined by the fusion."""
        perturbed = torch.zeros_like(batch.present)
        if perturbation is not None:
            hurt = copies_across(batch, perturbation, self.calibrator.ranks, generator=generator)
            batch, perturbed = hurt.batch, hurt.perturbed
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
    """Return presence that also says which instances have no valid position; fusions may use masks up."""
    known = dict(present)
    for name, mask in masks.items():
        has = mask.flatten(1).any(1)
        known[name] = known[name] & has if name in known else has
    return known


def build_model(task: Task, config: Config, variant: Variant, seed: int) -> MultimodalModel:
    """Return the untrained model of one run; the same seed gives every variant the same shared weights."""
    config = config.of(variant)
    recipe, entry, method = config.recipe, FUSIONS[config.fusion], CALIBRATORS[variant.calibrator]
    encoders = {name: _encoder(task, name, config, seed) for name in config.modalities}
    specs = {name: FeatureSpec(encoder.size, LAYOUTS[encoder.feature_layout]) for name, encoder in encoders.items()}
    with seeding.scope(seed, "fusion", config.fusion):
        fusion = entry.build(specs, classes=task.outputs, **fusion_options(config))
    sizes = {name: fusion.meeting[name].size for name in config.modalities}
    layouts = {name: fusion.meeting[name].layout.name for name in config.modalities}
    classes = task.outputs if task.kind == "class" else None
    inputs = [task.layouts[name] for name in config.modalities]
    options = {**class_options(method, classes, inputs), "layouts": layouts, "dropout": recipe.dropout}
    if method.fused:
        options["fused"] = head_width(fusion)
    with seeding.scope(seed, "calibrator", method.stream or variant.calibrator):
        calibrator = method.build(sizes, **options)
    return MultimodalModel(encoders=encoders, calibrator=calibrator, fusion=fusion)


def class_options(method: CalibratorEntry, classes: int | None, inputs: Sequence[str]) -> dict[str, Any]:
    """Return a calibrator's own arguments, and those that classes ask for: how many, and what opinions weigh.

    Inputs that are vectors throughout were extracted by a network of their own. Encoders behind them need little
    teaching, and with some hundred rows overfit by it: opinions weigh 0.2 there, elsewhere the calibrator's 0.5
    (docs/method.md has the trials).

    Args:
        method: the calibrator.
        classes: of the task; None = its labels are real numbers.
        inputs: the layout of every modality's inputs.
    """
    if classes is None or not (method.classes or method.unimodal):
        return dict(method.options)
    extracted = method.unimodal and all(layout == "bd" for layout in inputs)
    weight = {"unimodal_weight": EXTRACTED} if extracted else {}
    return {**weight, **method.options, "classes": classes}


def check_encoders(task: Task, config: Config) -> None:
    """Refuse ResNet-18 streams where nothing is an image, a spectrogram or a film.

    Raises:
        UsageError: says what the modalities are.
    """
    found = {name: task.layouts[name] for name in config.modalities}
    if config.encoders == "resnet18" and not any(layout in MAPS for layout in found.values()):
        kinds = ", ".join(f"{name} ({layout})" for name, layout in found.items())
        raise UsageError(
            f"encoders resnet18 reads maps and films ({', '.join(MAPS)}), and {config.benchmark} has none of them: "
            f"{kinds}; use small"
        )


def check_labels(task: Task, config: Config) -> None:
    """Refuse what needs classes where labels are real numbers.

    Raises:
        UsageError: names all of it.
    """
    needing = [name for name in config.calibrators if CALIBRATORS[name].classes]
    needing += [] if config.method == "none" else [config.method]
    if task.kind == "real" and needing:
        raise UsageError(
            f"{', '.join(needing)} needs classes, and the labels of {config.benchmark} are real numbers; leave it out"
        )


def fusion_options(config: Config) -> dict[str, Any]:
    """Return the keyword arguments of a configuration's fusion."""
    entry = FUSIONS[config.fusion]
    options: dict[str, Any] = {}
    if config.preset == "small":  # the published preset keeps its own dropout
        options = {**entry.small, "dropout": config.recipe.dropout}
    if len(entry.points) > 1:
        options["at"] = config.calibrate
    return options


def _encoder(task: Task, name: str, config: Config, seed: int) -> Encoder:
    entry = FUSIONS[config.fusion]
    with seeding.scope(seed, "encoder", name):
        return build_encoder(
            task.layouts[name],
            task.train.shapes[name],
            size=config.recipe.width,
            dropout=config.recipe.dropout,
            kind=config.encoders,
            maps=entry.setting == "convolutional",
            stages=entry.stages,
        )
