"""Metadata of a prepared dataset: `concordant.json`, beside the Arrow files of the store.

Axis letters: T steps of an instance, of any number; the remaining axes follow the modality's layout without its batch
axis.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from concordant.documents import Number, Whole
from concordant.errors import DataError, explain, quoted
from concordant.files import read_json, sha256, write_json

CARD = "concordant.json"
VERSION = 1
BARE = ("id", "split", "group", "label")  # columns of the store beside the modalities
LONGEST = 100  # characters of a name
WHOLE = "all"  # the split of a dataset without splits
Layout = Literal["bd", "btd", "bchw", "bcthw"]
Kind = Literal["text", "audio", "vision", "motion", "other"]
# Public attributes of torch.nn.ModuleDict, which cannot be its keys; a test compares.
_OF_PYTORCH = re.compile(
    "T_destination|add_module|apply|bfloat16|buffers|call_super_init|children|clear|compile|cpu|cuda|"
    "double|dump_patches|eval|extra_repr|float|forward|get_buffer|get_extra_state|get_parameter|"
    "get_submodule|half|ipu|items|keys|load_state_dict|modules|mtia|named_buffers|named_children|"
    "named_modules|named_parameters|parameters|pop|register_backward_hook|register_buffer|"
    "register_forward_hook|register_forward_pre_hook|register_full_backward_hook|"
    "register_full_backward_pre_hook|register_load_state_dict_post_hook|register_load_state_dict_pre_hook|"
    "register_module|register_parameter|register_state_dict_post_hook|register_state_dict_pre_hook|"
    "requires_grad_|set_extra_state|set_submodule|share_memory|state_dict|to|to_empty|train|training|"
    "type|update|values|xpu|zero_grad"
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModalityCard(_Frozen):
    """One modality of a dataset.

    Args:
        kind: of its source.
        layout: "bd", "btd", "bchw" or "bcthw".
        shape: of one instance, in the layout without its batch axis; None in the place of T.
        dtype: in the store; batches are float32. float64 is for values that float32 could not tell apart before they
            are standardised.
        unit: of its values, if any: "g", "log power".
        rate: steps per second (Hz), where known.
        preprocessing: how it was made from its source, with all parameters.
    """

    kind: Kind = "other"
    layout: Layout
    shape: tuple[Whole | None, ...]
    dtype: Literal["float32", "float16", "float64"] = "float32"
    unit: str | None = None
    rate: Number | None = Field(default=None, gt=0, allow_inf_nan=False)
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
        """Axis of T in the shape of an instance; None without T."""
        return self.shape.index(None) if None in self.shape else None

    @property
    def channel(self) -> int:
        """Axis of the features in the shape of an instance."""
        return self.layout.index("c" if "c" in self.layout else "d") - 1


class LabelCard(_Frozen):
    """What is to be predicted.

    Args:
        kind: "class", one class index per instance; "real", one number per instance; "segments", one class
            index per step; "none", no labels: -1 per instance.
        classes: class names, by index; none for "real" and "none".
    """

    kind: Literal["class", "real", "segments", "none"] = "class"
    classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the task as a phrase."""
        if self.kind == "none":
            return "no labels"
        if self.kind == "real":
            return "regression: one number per instance"
        some = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        where = "per step" if self.kind == "segments" else "per instance"
        return f"classification: one of {len(self.classes)} classes ({some}) {where}"

    @model_validator(mode="after")
    def _classes_fit_kind(self) -> LabelCard:
        twice = [name for name, count in Counter(self.classes).items() if count > 1]
        if twice:
            raise ValueError(f"every class may be named once; found {', '.join(map(repr, twice))} again")
        if self.kind in ("real", "none") and self.classes:
            raise ValueError("a real label has no classes; leave classes out")
        if self.kind not in ("real", "none") and len(self.classes) < 2:
            raise ValueError(f"a label of kind {self.kind!r} needs two classes or more; found {len(self.classes)}")
        return self


class Source(_Frozen):
    """A file that the dataset was made from.

    Args:
        file: its name, relative to the source folder.
        sha256: of its bytes, hexadecimal.
    """

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


def sources(folder: Path, files: Iterable[Path | str]) -> tuple[Source, ...]:
    """Return the entries of files of a folder, with their digests.

    Raises:
        DataError: one cannot be read.
    """
    return tuple(Source(file=Path(file).as_posix(), sha256=sha256(folder / file)) for file in files)


class Card(_Frozen):
    """A dataset.

    Args:
        name: as in `concordant data list`, or the user's own.
        modalities: modality -> its card, in the declared order.
        label: what is to be predicted.
        rows: number of instances.
        splits: names that the splits of the instances may have.
        groups: meaning of the groups (speaker, video); None where instances are independent.
        sources: files that it was made from.
        repairs: modality -> what was replaced in its values, as a sentence.
        notes: what a user should know before using it.
        version: of this format.
    """

    name: str = Field(min_length=1)
    modalities: dict[str, ModalityCard] = Field(min_length=1)
    label: LabelCard
    rows: Whole = Field(default=0, ge=0)
    splits: tuple[str, ...] = ("train", "valid", "test")
    groups: str | None = None
    sources: tuple[Source, ...] = ()
    repairs: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    version: Whole = VERSION

    @field_validator("name")
    @classmethod
    def _is_no_path(cls, name: str) -> str:
        """Refuse a name that could lead out of the folder in which it names another."""
        if name.startswith(".") or re.search(r"[/\\]", name) or not name.isprintable() or len(name) > LONGEST:
            raise ValueError(
                f"a dataset cannot be called {quoted(name)}: use up to {LONGEST} printable characters without slashes, "
                "not beginning with a dot"
            )
        return name

    @field_validator("modalities")
    @classmethod
    def _are_names(cls, modalities: dict[str, ModalityCard]) -> dict[str, ModalityCard]:
        for name in modalities:
            if name in BARE:
                raise ValueError(f"a modality cannot be called {name!r}; these names are taken: {', '.join(BARE)}")
            plain = name.isprintable() and 0 < len(name) <= LONGEST and not re.search(r"[./\\]|^[_\s]|\s$", name)
            if not plain or _OF_PYTORCH.fullmatch(name):
                raise ValueError(
                    f"a modality cannot be called {quoted(name)}: use a plain word, unknown to PyTorch, without "
                    "dots and slashes"
                )
        return modalities

    @field_validator("splits")
    @classmethod
    def _are_splits(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        if not splits or len(set(splits)) < len(splits):
            raise ValueError(f"there must be a split, each named once; found {quoted(splits)}")
        return splits


def read_card(folder: Path) -> Card:
    """Read `concordant.json` of a dataset folder.

    Raises:
        DataError: it is absent, not JSON, of another version, or has impossible values; all faults at once.
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
    if version != VERSION:  # the other fields need not be those of this version
        raise DataError(f"{path} is of version {version}; this Concordant reads version {VERSION}: prepare it again")
    try:
        return Card.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{path} cannot be used: {explain(error)}") from None


def write_card(folder: Path, card: Card) -> None:
    """Write `concordant.json`, atomically."""
    write_json(folder / CARD, card.model_dump(mode="json"))
