"""What a dataset on disk says of itself: `concordant.json`, beside the Arrow files of the store.

Axis letters: T steps of an instance, of any number; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concordant.errors import DataError
from concordant.faults import explain
from concordant.files import read_json, write_json

CARD = "concordant.json"
VERSION = 1
WHOLE = "all"  # the split of a dataset that has none
Layout = Literal["bd", "btd", "bchw", "bcthw"]
Kind = Literal["text", "audio", "vision", "motion", "other"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModalityCard(_Frozen):
    """One modality of a dataset.

    Args:
        kind: what it is of.
        layout: "bd", "btd", "bchw" or "bcthw".
        shape: of one instance, in the layout without its batch axis; None where the number of steps T stands.
        dtype: as it is stored; batches are float32.
        unit: of its values, where they have one: "g", "log power".
        rate: steps a second (Hz), where it is known.
        preprocessing: what made it of its source, with all parameters.
    """

    kind: Kind = "other"
    layout: Layout
    shape: tuple[int | None, ...]
    dtype: Literal["float32", "float16"] = "float32"
    unit: str | None = None
    rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    preprocessing: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _shape_fits_layout(self) -> ModalityCard:
        axes = self.layout[1:]
        if len(self.shape) != len(axes) or any(
            (size is None) != (axis == "t") or (size is not None and size < 1)
            for size, axis in zip(self.shape, axes, strict=True)
        ):
            raise ValueError(
                f"shape must have a size of 1 or more for each axis of {axes!r}, and None for t; found {self.shape}"
            )
        return self

    @property
    def time(self) -> int | None:
        """The place of T in the shape of an instance; None without."""
        return self.shape.index(None) if None in self.shape else None


class LabelCard(_Frozen):
    """What is to be predicted.

    Args:
        kind: "class", one class index an instance; "real", one number an instance; "segments", one class
            index a step.
        classes: class names, by index; none for "real".
    """

    kind: Literal["class", "real", "segments"] = "class"
    classes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _classes_fit_kind(self) -> LabelCard:
        twice = [name for name, count in Counter(self.classes).items() if count > 1]
        if twice:
            raise ValueError(f"every class may be named once; found {', '.join(map(repr, twice))} again")
        if self.kind == "real" and self.classes:
            raise ValueError("a real label has no classes; leave classes out")
        if self.kind != "real" and len(self.classes) < 2:
            raise ValueError(f"a label of kind {self.kind!r} needs two classes or more; found {len(self.classes)}")
        return self


class Source(_Frozen):
    """A file that the dataset was made of.

    Args:
        file: its name, relative to the folder that was named.
        sha256: of its bytes, hexadecimal.
    """

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Card(_Frozen):
    """A dataset.

    Args:
        name: as `concordant data list` has it, or the user's own.
        modalities: modality -> what it is, in the declared order.
        label: what is to be predicted.
        rows: how many instances.
        splits: the names that the instances' splits may have.
        groups: what the groups are (speaker, video); None where instances are independent.
        sources: the files that it was made of.
        repairs: modality -> what was replaced in its values, in words.
        notes: what a user should know before using it.
        version: of this format.
    """

    name: str = Field(min_length=1)
    modalities: dict[str, ModalityCard] = Field(min_length=1)
    label: LabelCard
    rows: int = Field(default=0, ge=0)
    splits: tuple[str, ...] = ("train", "valid", "test")
    groups: str | None = None
    sources: tuple[Source, ...] = ()
    repairs: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    version: int = VERSION


def read_card(folder: Path) -> Card:
    """Read `concordant.json` of a dataset folder.

    Raises:
        DataError: it is absent, no JSON, of another version, or says what cannot be; all faults at once.
    """
    path = folder / CARD
    if not path.is_file():
        raise DataError(
            f"{folder} is no dataset of Concordant: {CARD} is not there; make one with `concordant data prepare`"
            if folder.is_dir()
            else f"the dataset folder {folder} is not there"
        )
    values = read_json(path)
    version = values.get("version", VERSION)
    if version != VERSION:  # what else is in it need not be what this version knows
        raise DataError(f"{path} is of version {version}; this Concordant reads version {VERSION}: prepare it again")
    try:
        return Card.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{path} cannot be used: {explain(error)}") from None


def write_card(folder: Path, card: Card) -> None:
    """Write `concordant.json`, atomically."""
    write_json(folder / CARD, card.model_dump(mode="json"))
