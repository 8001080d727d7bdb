"""Configuration of a paired experiment: benchmark, fusion, calibrators, seeds and recipe.

It is validated as a whole, with all faults at once, and written beside the results; a folder of results belongs to one
configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from concordant.benchmarks.catalogue import BENCHMARKS
from concordant.documents import Number, Whole
from concordant.errors import UsageError, explain
from concordant.fusion import FUSIONS
from concordant.registry import Registry
from concordant.rivals import CALIBRATORS
from concordant.rivals.none import TWIN
from concordant.training.methods import METHODS

Value = float | int | str | None  # of a field of the recipe
Count = Annotated[Whole, Field(ge=1, le=10_000)]  # of seeds or candidates, each of which is at least one training
# Fields of the recipe -> the options of `concordant run` that set them.
OPTIONS = {
    "steps": "--steps",
    "epochs": "--epochs",
    "batch": "--batch-size",
    "learning_rate": "--learning-rate",
    "weight_decay": "--weight-decay",
    "dropout": "--dropout",
    "width": "--width",
    "patience": "--patience",
}


class Recipe(BaseModel):
    """Training recipe of all runs of an experiment, and of the estimators.

    Args:
        steps: of the optimiser, at the most.
        batch: instances per step (in perturbed training each also as a perturbed copy).
        learning_rate: the highest of the one-cycle schedule.
        weight_decay: of AdamW.
        dropout: of encoders, calibrator and fusion.
        width: features per encoder.
        evaluations: how often validation is scored, evenly spaced; the latest state within one standard error of the
            best is kept.
        patience: evaluations in a row without a state to keep after which training stops.
        epochs: passes over the training split, in place of `steps`; None = `steps` counts. The rows that do not fill a
            batch are left out of a pass.
        optimizer: "adamw", or "adam" with its weight decay in the gradient.
        schedule: "one-cycle", or "constant" at the highest rate.
        selection: "one-error" keeps the latest state within one standard error of the best, "best" the best one.

    Fields from `epochs` on are written only where they differ from their defaults, and `epochs` in place of `steps`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Whole = Field(default=700, ge=1)
    batch: Whole = Field(default=64, ge=2)
    learning_rate: Number = Field(default=3e-3, gt=0)
    weight_decay: Number = Field(default=1e-2, ge=0)
    dropout: Number = Field(default=0.1, ge=0, lt=1)
    width: Whole = Field(default=64, ge=2, le=16_384, multiple_of=2)
    evaluations: Whole = Field(default=10, ge=1)
    patience: Whole = Field(default=5, ge=1)
    epochs: Whole | None = Field(default=None, ge=1)
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    selection: Literal["one-error", "best"] = "one-error"

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:  # noqa: ANN401
        if isinstance(values, Mapping) and values.get("epochs") is not None and values.get("steps") is not None:
            raise ValueError("steps and epochs are two lengths of one training; name one of them")
        return values

    @model_serializer(mode="wrap")
    def _written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        for name in ("epochs", "optimizer", "schedule", "selection"):
            if values[name] == type(self).model_fields[name].default:
                del values[name]
        if self.epochs is not None:
            del values["steps"]
        return values

    def changed(self, fields: Mapping[str, Value]) -> Recipe:
        """Return the recipe with other values of some fields; a length in steps or epochs replaces the other.

        >>> Recipe(steps=100).changed({"epochs": 3}).model_dump()["epochs"]
        3
        """
        values = self.model_dump()
        for name, other in (("epochs", "steps"), ("steps", "epochs")):
            if fields.get(name) is not None:
                values.pop(other, None)
        return Recipe.model_validate({**values, **fields})

    def on_rows(self, rows: int) -> Recipe:
        """Return the recipe with its length in steps, for a training split of so many rows.

        >>> Recipe(epochs=3, batch=4).on_rows(10).steps
        6
        """
        if self.epochs is None:
            return self
        per_epoch = max(1, rows // min(self.batch, max(1, rows)))
        return self.model_copy(update={"steps": self.epochs * per_epoch, "epochs": None})


class Variant(NamedTuple):
    """One method of the comparison: a calibrator, and whether training perturbs the features."""

    calibrator: str
    perturbed: bool
    #: The modality that is trained without the others, as a baseline; empty for a method of the comparison.
    only: str = ""

    @classmethod
    def of(cls, label: str) -> Variant:
        """Return the variant of a label."""
        return cls("none", True) if label == TWIN else cls(label, CALIBRATORS[label].perturbed)

    @property
    def label(self) -> str:
        """Name in results: the calibrator, or "none+perturbed" for the twin trained with perturbations."""
        if self.only:
            return f"{self.only} alone"
        return TWIN if self.calibrator == "none" and self.perturbed else self.calibrator


class Config(BaseModel):
    """A paired experiment.

    Args:
        benchmark: one of `concordant list benchmarks`.
        fusion: one of `concordant list fusions`.
        calibrators: some of `concordant list calibrators`; "none" is trained on clean batches and "none+perturbed" with
            the perturbations of the others. Beside others that train with perturbations, "none" brings
            the latter along: they are compared with it.
        seeds: each has its own split, initial weights, order of batches and perturbations.
        protocol: how the benchmark is split.
        modalities: some of the benchmark's; a single one goes with "none" only.
        calibrate: position of the calibrator, one of the fusion's points: "features", or for convolutional
            fusions "maps" (before pooling) and, in some, "pooled".
        preset: sizes of the fusion: "small" trains on two cores, "medium" has widths of the papers' order;
            "published", which some fusions have, is the model and the recipe of the paper or its reference code.
        encoders: "small" ones for small inputs, or "resnet18" for images, spectrograms, depth and frames.
        method: how the modalities' training is balanced, one of `concordant list methods`.
        recipe: how each run is trained.
        tuned: label of a variant -> the fields of the recipe that a search chose for it; not written if empty.
        dataset: name of the prepared dataset that is run as the benchmark `own`; not written if None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: str
    fusion: str
    calibrators: tuple[str, ...] = Field(min_length=1)
    seeds: Count
    protocol: str
    modalities: tuple[str, ...] = Field(min_length=1)
    calibrate: str
    preset: Literal["small", "medium", "published"] = "small"
    encoders: Literal["small", "resnet18"] = "small"
    method: str = "none"
    recipe: Recipe = Recipe()
    tuned: dict[str, dict[str, Value]] = Field(default_factory=dict)
    dataset: str | None = None

    @model_serializer(mode="wrap")
    def _written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        for name in ("tuned", "dataset"):
            if not getattr(self, name):
                values.pop(name, None)
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        faults = [
            *fusion_faults(self.fusion, self.calibrators),
            *_unknown("benchmark", (self.benchmark,), BENCHMARKS),
            *_unknown("method", (self.method,), METHODS),
        ]
        if self.benchmark in BENCHMARKS:
            benchmark = BENCHMARKS[self.benchmark]
            faults += _unknown(f"protocol of {self.benchmark}", (self.protocol,), benchmark.protocols)
            if not benchmark.stored:  # the modalities of a prepared dataset are read when it is opened
                faults += _unknown(f"modality of {self.benchmark}", self.modalities, benchmark.modalities)
        for what, names in (("calibrators", self.calibrators), ("modalities", self.modalities)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                faults.append(f"{what} names {', '.join(twice)} more than once; name each once")
        if len(self.modalities) == 1 and self.calibrators != ("none",):
            faults.append(
                f"one modality alone has nothing to be compared with; name two or more, or calibrators none; "
                f"found {', '.join(self.calibrators)}"
            )
        if self.fusion in FUSIONS:
            entry, count = FUSIONS[self.fusion], len(self.modalities)
            if entry.most is not None and count > entry.most:
                faults.append(f"{self.fusion} joins at most {entry.most} modalities; found {count}")
            if self.preset == "published" and entry.published is None:
                faults.append(
                    f"{self.fusion} has no published preset ({', '.join(_published())} has one); choose small or medium"
                )
            if self.calibrate not in entry.points:
                faults.append(
                    f"{self.fusion} can be calibrated at {' or '.join(entry.points)}; found {self.calibrate!r}"
                )
        deciding = [name for name in self.calibrators if name in CALIBRATORS and CALIBRATORS[name].late]
        if deciding and self.method != "none":
            faults.append(
                f"{', '.join(deciding)} decides without the fusion, which {self.method} trains; leave one of them out"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Variants trained for every seed, in the order of the table."""
        names = list(self.calibrators)
        if "none" in names and TWIN not in names and any(CALIBRATORS[name].perturbed for name in names):
            names.insert(names.index("none") + 1, TWIN)
        return tuple(Variant.of(name) for name in names)

    @property
    def title(self) -> str:
        """Name of the data in tables and documents: of the prepared dataset, or of the benchmark."""
        return self.dataset or self.benchmark

    @property
    def alone(self) -> tuple[Variant, ...]:
        """Variants of each modality alone, trained clean, with which fusions are compared; none for one modality."""
        return tuple(Variant("none", False, name) for name in self.modalities) if len(self.modalities) > 1 else ()

    def of(self, variant: Variant) -> Config:
        """Return the experiment with the recipe that was tuned for a variant, if any, and with its modality alone."""
        found: dict[str, Any] = {}
        if self.tuned:
            tuned = self.tuned.get("none" if variant.only else variant.label, {})
            found = {"recipe": self.recipe.changed(tuned), "tuned": {}}
        if variant.only:
            found |= {"modalities": (variant.only,), "calibrators": ("none",), "method": "none"}
        return self.model_copy(update=found) if found else self


def make_config(benchmark: str, *, usual: Mapping[str, Any] | None = None, **fields: Any) -> Config:  # noqa: ANN401
    """Return the validated configuration of an experiment.

    Args:
        benchmark: its name.
        usual: fields of the recipe that replace the benchmark's, for data of one's own; None = none.
        fields: of `Config`; `recipe` holds fields of `Recipe` that differ from the benchmark's. What is left out or
            None is the default: the benchmark's fusion, first protocol and all modalities, the fusion's first point,
            the calibrators none, self, joint and context, and five seeds.

    Raises:
        UsageError: names all faults at once.

    >>> make_config("digits", seeds=2).fusion
    'concat'
    """
    entry = BENCHMARKS[benchmark]
    given = {name: value for name, value in fields.items() if value is not None}
    fusion, protocol = given.get("fusion", entry.fusion), given.get("protocol", entry.protocols[0])
    recipe, own = _usual_recipe(benchmark, protocol, fusion, given.get("preset"), usual), given.get("recipe", {})
    if "epochs" in recipe and own.get("epochs") is not None:
        recipe["evaluations"] = own["epochs"]  # one per epoch, as published
    if "steps" in own:
        recipe.pop("epochs", None)
    elif {"epochs"} & {*recipe, *own}:
        recipe.pop("steps", None)
    values = {
        "benchmark": benchmark,
        "fusion": fusion,
        "calibrators": ("none", "self", "joint", "context"),
        "seeds": 5,
        "protocol": protocol,
        "modalities": entry.modalities,
        "calibrate": first_point(fusion),
        **given,
        "recipe": {**recipe, **own},
    }
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        whose = ""
        if "modalities" not in given and not entry.modalities:
            whose = f"{benchmark} has the modalities of a dataset of your own: run that by its folder, or name them; "
        raise UsageError(f"{whose}{explain(error)}") from None


def command_words(values: Mapping[str, Any], *, fusion: str | None = None) -> list[str]:
    """Return the words of the command that runs an experiment.

    Args:
        values: its configuration, as results.json and grid.json hold it.
        fusion: replaces the configuration's, for the rows of a grid; None = no replacement.

    >>> command_words(make_config("digits", seeds=2).model_dump())[:7]
    ['concordant', 'run', 'digits', '--fusion', 'concat', '--calibrators', 'none,self,joint,context']
    """
    named = values.get("dataset") or values["benchmark"]  # a prepared dataset goes by its folder
    words = ["concordant", "run", str(named), "--fusion", fusion or str(values["fusion"])]
    for key in ("calibrators", "seeds", "protocol", "modalities", "calibrate", "method", "preset", "encoders"):
        value = values.get(key)
        if value is not None:
            words += [f"--{key}", ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)]
    usual = Recipe().model_dump() | _usual_recipe(*(values.get(key) for key in _RECIPE_OF))
    for key, value in values["recipe"].items():
        if key in OPTIONS and (key in ("steps", "epochs") or value != usual[key]):
            words += [OPTIONS[key], str(value)]
    return words


def data_words(data: Path | str | None) -> list[str]:
    """Return the option of a command that names a data folder or URL; nothing where none is given.

    >>> data_words("clips"), data_words(None)
    (['--data', 'clips'], [])
    """
    return [] if data is None else ["--data", str(data)]


_RECIPE_OF = ("benchmark", "protocol", "fusion", "preset")


def _usual_recipe(
    benchmark: Any,  # noqa: ANN401
    protocol: Any,  # noqa: ANN401
    fusion: Any,  # noqa: ANN401
    preset: Any,  # noqa: ANN401
    usual: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the fields of the recipe that a benchmark and a published preset change; nothing for unknown names."""
    known = benchmark in BENCHMARKS and protocol in BENCHMARKS[benchmark].protocols
    recipe = {**(BENCHMARKS[benchmark].recipe_for(protocol) if known else {}), **(usual or {})}
    published = FUSIONS[fusion].published if preset == "published" and fusion in FUSIONS else None
    return recipe if published is None else {**recipe, **published.recipe}


def first_point(fusion: str) -> str:
    """Return the default point of a fusion for a calibrator."""
    return FUSIONS[fusion].points[0] if fusion in FUSIONS else "features"


def scalar(value: Any) -> Any:  # noqa: ANN401
    """Return a scalar of NumPy or PyTorch as Python's number; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def fusion_faults(fusion: str, calibrators: Sequence[str]) -> list[str]:
    """Return one fault per unknown name, or per calibrator that cannot stand before the fusion."""
    faults = [*_unknown("fusion", (fusion,), FUSIONS), *_unknown("calibrator", calibrators, CALIBRATORS)]
    if faults:
        return faults
    deciding = [name for name in calibrators if CALIBRATORS[name].late]
    if deciding and not FUSIONS[fusion].late:
        late = ", ".join(name for name in FUSIONS if FUSIONS[name].late)
        faults.append(
            f"{', '.join(deciding)} decides for each modality alone and needs a late fusion, one of {late}; "
            f"found {fusion}"
        )
    behind = [name for name in calibrators if CALIBRATORS[name].fused]
    if behind and not FUSIONS[fusion].head:
        faults.append(
            f"{', '.join(behind)} stands before the head of the fusion, and {fusion} has no single one; "
            "choose another fusion"
        )
    return faults


def _published() -> list[str]:
    return [name for name in FUSIONS if FUSIONS[name].published is not None]


def _unknown(kind: str, names: Sequence[Any], choices: Registry[Any] | tuple[str, ...]) -> list[str]:
    """Return one fault per name that is not among the choices."""
    listed = ", ".join(choices)
    return [
        f"unknown {kind} {name!r}; choose from: {listed}"
        for name in names
        if not isinstance(name, str) or name not in choices
    ]
