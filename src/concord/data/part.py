"""What a benchmark hands to an experiment: arrays by modality, labels, ids and groups.

Axis letters: N instances; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]
Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Part:
    """A set of instances (all of a dataset, or its training, validation or test part).

    Args:
        inputs: modality -> float32 (N, ...) in the modality's layout, batch first.
        labels: class indices (N,), from 0.
        ids: one name an instance (N,), unique within the dataset.
        groups: what an instance belongs to (speaker, subject, video) (N,); None where instances are
            independent. Statistics resample whole groups.
        masks: modality -> (N, T), True at valid steps; modalities without padding have no entry.
        present: modality -> (N,), True where the instance has the modality; no entry means always.
    """

    inputs: dict[str, Floats]
    labels: Integers
    ids: Strings
    groups: Strings | None = None
    masks: dict[str, Bools] = field(default_factory=dict)
    present: dict[str, Bools] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Integers) -> Part:
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
        classes: class names, by index.
        layouts: modality -> layout of its inputs ("bd", "btd", "bchw" or "bcthw").
        train: the training part.
        valid: the validation part; model choice looks at it alone.
        test: the test part; scored once.
    """

    classes: tuple[str, ...]
    layouts: dict[str, str]
    train: Part
    valid: Part
    test: Part
