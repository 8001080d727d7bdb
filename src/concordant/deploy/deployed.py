"""The deployed model: takes unscaled inputs, and is rebuilt from its description.

Inputs are scaled as in training, in float64, so that results are equal.
Shapes: inputs in their layouts, batch first; logits (B, C); reliability (B, M).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from concordant.data.scaling import CLIP, Scale
from concordant.data.split import Split, Task
from concordant.documents import Number, Whole
from concordant.errors import DataError, UsageError, explain, shown
from concordant.modalities import as_tensor
from concordant.rivals import CALIBRATORS
from concordant.training.config import Config
from concordant.training.model import Output, build_model

SCHEMA: Literal["concordant.model/1"] = "concordant.model/1"


class HubFields(BaseModel):
    """Metadata of a model that only its owner knows; None is left out of the model card.

    Args:
        license: of the weights, as the Hub writes it, such as "apache-2.0".
        datasets: on the Hub that it was trained on.
        base_model: on the Hub that it was made of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    license: str | None = None
    datasets: tuple[str, ...] = ()
    base_model: str | None = None


class Description(BaseModel):
    """Everything needed to rebuild a model, except its weights.

    Args:
        config: the experiment that it was trained in.
        label: its calibrator, as results name it.
        seed: of the run.
        classes: class names, by index; for real labels the names of below 0 and not below 0.
        kind: of the labels.
        layouts: modality -> layout of its inputs, in the declared order.
        shapes: modality -> shape of one instance; for sequences the longest.
        table: Markdown tables of the results, for the model card.
        metrics: metric -> this model's score on clean test data.
        about: what the Hugging Face Hub is told: license, datasets, base_model.
        files: name -> SHA-256 of the data files of the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["concordant.model/1"] = Field(default=SCHEMA, alias="schema")
    config: Config
    label: str
    seed: Whole = Field(ge=0)
    classes: tuple[str, ...] = Field(min_length=1)
    kind: Literal["class", "real"]
    layouts: dict[str, Literal["bd", "btd", "bchw", "bcthw"]]
    shapes: dict[str, tuple[Whole, ...]]
    table: str = ""
    metrics: dict[str, Number] = Field(default_factory=dict)
    about: HubFields = HubFields()
    files: dict[str, str] = Field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities in declared order, which is the order of the columns of reliability."""
        return self.config.modalities

    def time(self, name: str) -> int | None:
        """Return the index of the time axis of a modality's inputs, or None."""
        layout = self.layouts[name]
        return layout.index("t") if "t" in layout else None

    def values(self) -> dict[str, Any]:
        """Return the description as JSON values."""
        return self.model_dump(mode="json", by_alias=True)


def read_description(values: Mapping[str, Any], where: str) -> Description:
    """Return the description in parsed JSON; raise DataError for all faults at once, naming the file `where`."""
    try:
        found = Description.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{where} describes no model of Concordant: {explain(error)}") from None
    faults = []
    if found.label not in [variant.label for variant in found.config.variants]:
        faults.append(f"label {found.label!r} is none of its configuration")
    for what, known in (("layouts", found.layouts), ("shapes", found.shapes)):
        if set(known) != set(found.names):
            faults.append(f"{what} must name {', '.join(found.names)}; found {', '.join(known)}")
    for name, shape in found.shapes.items():
        axes = found.layouts.get(name, "")[1:]
        if axes and (len(shape) != len(axes) or min(shape) < 1):
            faults.append(f"shapes.{name} must have a size of 1 or more for each axis of {axes!r}; found {shape}")
    if faults:
        raise DataError(f"{where} describes no model of Concordant: {'; '.join(faults)}")
    return found


class DeployedModel(nn.Module):
    """A trained model that takes inputs as they were measured.

    Args:
        description: a `Description` as JSON values.

    Raises:
        DataError: the description cannot be used.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.description = about = read_description(description, "the description")
        variant = next(one for one in about.config.variants if one.label == about.label)
        self.model = build_model(_empty_task(about), about.config, variant, about.seed)
        self.scales = nn.ModuleDict({name: InputScale(about.layouts[name], about.shapes[name]) for name in about.names})
        self.has_reliability = CALIBRATORS[variant.calibrator].build.has_reliability
        self.eval()

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Output:
        """Return logits and the calibration.

        Args:
            inputs: modality -> unscaled inputs in its layout, batch first; tensors, or NumPy arrays, here and below.
            masks: modality -> bool (B, T), True at valid steps; no entry = all valid.
            present: modality -> bool (B,), True where the instance has the modality; no entry = present everywhere.

        Raises:
            UsageError: a modality is missing, or its inputs have other axes or sizes than in training.
        """
        if not isinstance(inputs, Mapping) or not all(name in inputs for name in self.description.names):
            found = ", ".join(map(repr, inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise UsageError(f"inputs must have {', '.join(self.description.names)}; found {found or 'nothing'}")
        inputs, masks, present = (
            {name: as_tensor(x) for name, x in (given or {}).items()} for given in (inputs, masks, present)
        )
        scaled = {}
        for name in self.description.names:
            scale = cast(InputScale, self.scales[name])
            scale.check(name, inputs[name])
            scaled[name] = scale(inputs[name], masks.get(name), present.get(name))
        out: Output = self.model(scaled, masks, present)
        return out

    def set_scales(self, scales: Mapping[str, Scale]) -> None:
        """Set the scales fitted on the training split."""
        for name, scale in scales.items():
            for buffer, values in zip(self.scales[name].buffers(), (scale.mean, scale.std), strict=True):
                buffer.copy_(torch.from_numpy(np.asarray(values)).reshape(buffer.shape))


class InputScale(nn.Module):
    """Module form of `concordant.data.scaling.apply`.

    Args:
        layout: of the inputs, batch first.
        shape: of one instance.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layout: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.feature = layout.index("c" if "c" in layout else "d")
        sizes = [shape[axis - 1] if axis == self.feature else 1 for axis in range(len(layout))]
        self.layout = layout
        self.register_buffer("mean", torch.zeros(sizes, dtype=torch.float64))
        self.register_buffer("std", torch.ones(sizes, dtype=torch.float64))

    def check(self, name: str, x: object) -> None:
        """Raise UsageError unless inputs have the layout and the feature size."""
        size = self.mean.shape[self.feature]
        if not isinstance(x, Tensor) or x.dim() != len(self.layout) or x.shape[self.feature] != size:
            raise UsageError(
                f"inputs[{name!r}] must have layout {self.layout!r} with {size} features; found {shown(x)}"
            )

    def forward(self, x: Tensor, mask: Tensor | None = None, here: Tensor | None = None) -> Tensor:
        """Return scaled inputs, float32, within ±6; 0 where a feature is constant, masked or absent."""
        varies = self.std > 0
        scaled = (x.double() - self.mean) / torch.where(varies, self.std, 1.0)
        scaled = torch.where(varies, scaled.clamp(-CLIP, CLIP), 0.0).float()
        for valid, axes in ((mask, "bt"), (here, "b")):
            if valid is not None:
                for axis, letter in enumerate(self.layout):
                    if letter not in axes:
                        valid = valid.unsqueeze(axis)
                scaled = torch.where(valid, scaled, 0.0)
        return scaled


def _empty_task(about: Description) -> Task:
    """Return a task without instances, with the classes, layouts and shapes that `build_model` reads."""
    inputs = {name: np.zeros((0, *about.shapes[name]), np.float32) for name in about.names}
    nobody = Split(inputs, np.zeros(0, np.int64), np.zeros(0, np.str_))
    layouts: dict[str, str] = {name: about.layouts[name] for name in about.names}
    return Task(about.classes, layouts, nobody, nobody, nobody, about.kind)
