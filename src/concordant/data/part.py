"""What a benchmark hands to an experiment: arrays by modality, labels, ids and groups.

Axis letters: N instances; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]
Strings = NDArray[np.str_]
LabelKind = Literal["class", "real"]


class AnyPart(Protocol):
    """Instances in memory (`Part`), or in a store on disk (`concordant.data.stored.StoredPart`)."""

    @property
    def labels(self) -> NDArray[Any]:
        """Class indices int64 (N,), or real numbers float32 (N,)."""

    @property
    def ids(self) -> Strings:
        """One name an instance (N,)."""

    @property
    def groups(self) -> Strings | None:
        """What an instance belongs to (N,), or None."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> the shape of one instance; of sequences the longest."""

    def __len__(self) -> int: ...

    def take(self, rows: Any) -> Part:  # noqa: ANN401 - whatever indexes an array
        """Return the instances at `rows`, in that order, in memory."""

    def pieces(self) -> Iterator[Part]:
        """Yield all instances in order, as many at a time as memory should hold."""


@dataclass(frozen=True)
class Part:
    """A set of instances (all of a dataset, or its training, validation or test part).

    Args:
        inputs: modality -> float32 (N, ...) in the modality's layout, batch first.
        labels: class indices from 0, int64 (N,), or real numbers, float32 (N,).
        ids: one name an instance (N,), unique within the dataset.
        groups: what an instance belongs to (speaker, subject, video) (N,); None where instances are
            independent. Statistics resample whole groups.
        masks: modality -> (N, T), True at valid steps; modalities without padding have no entry.
        present: modality -> (N,), True where the instance has the modality; no entry means always.
    """

    inputs: dict[str, Floats]
    labels: NDArray[Any]
    ids: Strings
    groups: Strings | None = None
    masks: dict[str, Bools] = field(default_factory=dict)
    present: dict[str, Bools] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> the shape of one instance."""
        return {name: x.shape[1:] for name, x in self.inputs.items()}

    def pieces(self) -> Iterator[Part]:
        """Yield the part itself: it is in memory as a whole."""
        yield self

    def take(self, rows: Any) -> Part:  # noqa: ANN401 - whatever indexes an array
        """Return the instances at `rows`, in that order."""
        return Part(
            inputs={name: values[rows] for name, values in self.inputs.items()},
            labels=self.labels[rows],
            ids=self.ids[rows],
            groups=None if self.groups is None else self.groups[rows],
            masks={name: mask[rows] for name, mask in self.masks.items()},
            present={name: here[rows] for name, here in self.present.items()},
        )

    def with_inputs(self, inputs: dict[str, Floats]) -> Part:
        """Return the same instances with other inputs."""
        return replace(self, inputs=inputs)


@dataclass(frozen=True)
class Task:
    """One split of a benchmark, scaled on its training part and ready to train on.

    Args:
        classes: class names, by index; of real labels, what is below 0 and what is not.
        layouts: modality -> layout of its inputs ("bd", "btd", "bchw" or "bcthw").
        train: the training part.
        valid: the validation part; model choice looks at it alone.
        test: the test part; scored once.
        kind: of the labels.
    """

    classes: tuple[str, ...]
    layouts: dict[str, str]
    train: AnyPart
    valid: AnyPart
    test: AnyPart
    kind: LabelKind = "class"

    @property
    def outputs(self) -> int:
        """How many numbers a model gives an instance: one a class, or the one that is predicted."""
        return len(self.classes) if self.kind == "class" else 1
