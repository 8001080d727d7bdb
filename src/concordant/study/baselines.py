"""Two baselines that tell whether fusion is worth it: the best single modality, and late fusion by scikit-learn.

The first is the fusion's own encoder of one modality, trained alone and clean by the recipe of the others; of all
modalities, the one with the highest validation score counts, seed by seed. The second fits a logistic regression per
modality (for real labels a ridge regression), standardised, with scikit-learn's defaults, and averages the
probabilities (the numbers) of the modalities that an instance has. Both are scored under the conditions of the other
methods; without its only modality a single one has no score.
Shapes: pooled features (N, F); probabilities (N, C), or numbers (N, 1).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from concordant.calibration.ops import pool
from concordant.data.split import AnySplit, Split, Task
from concordant.training.batches import to_tensors
from concordant.training.config import Variant

BEST_ALONE = "best single modality"
LATE_FUSION = "late fusion (scikit-learn)"
BASELINES = (BEST_ALONE, LATE_FUSION)  # in the order of the table

LATE = Variant("late fusion", False)
_GRID = 8  # maps are averaged down to at most so many rows and columns
_TINY = 1e-12


class LateFusion:
    """One linear model of scikit-learn per modality; the mean of what the present ones predict.

    Args:
        task: whose training split it is fitted on.
        iterations: of a logistic regression, at the most.
    """

    def __init__(self, task: Task, *, iterations: int = 300) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.layouts, self.outputs, self.real = task.layouts, task.outputs, task.kind == "real"
        labels = np.asarray(task.train.labels)
        features, present = pooled_features(task.train.chunks(), task.layouts)
        prior = labels.mean(keepdims=True) if self.real else np.bincount(labels, minlength=self.outputs) / len(labels)
        self.prior = prior.astype(np.float64)  # the answer where no modality is present
        self.models = {}
        for name, x in features.items():
            rows = present[name]
            if len(np.unique(labels[rows])) > 1:
                model = Ridge() if self.real else LogisticRegression(max_iter=iterations)
                with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):  # nearly converged serves
                    self.models[name] = make_pipeline(StandardScaler(), model).fit(x[rows], labels[rows])

    def __call__(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] = MappingProxyType({}),
        present: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Tensor:
        """Return logarithms of mean probabilities (B, C), or mean numbers (B, 1)."""
        count = len(next(iter(inputs.values())))
        total, votes = np.zeros((count, self.outputs)), np.zeros((count, 1))
        for name, model in self.models.items():
            here = present[name].numpy() if name in present else np.ones(count, np.bool_)
            if here.any():
                total[here] += self._predict(model, pooled(inputs[name], self.layouts[name], masks.get(name))[here])
                votes[here] += 1
        mean = np.where(votes > 0, total / np.maximum(votes, 1), self.prior)
        return torch.from_numpy(mean if self.real else np.log(mean + _TINY))

    def votes(self, split: AnySplit) -> dict[str, NDArray[Any]]:
        """Return modality -> probabilities, or numbers, of each instance, whether it has the modality or not."""
        features, _ = pooled_features(split.chunks(), self.layouts)
        return {name: self._predict(model, features[name]) for name, model in self.models.items()}

    def _predict(self, model: Any, x: NDArray[Any]) -> NDArray[Any]:  # noqa: ANN401 - a pipeline of scikit-learn
        if self.real:
            return np.asarray(model.predict(x)).reshape(-1, 1)
        found = np.zeros((len(x), self.outputs))
        found[:, model.classes_] = model.predict_proba(x)
        return found


def pooled(x: Tensor, layout: str, mask: Tensor | None = None) -> NDArray[Any]:
    """Return features for a linear model, (N, F).

    Vectors are taken as they are, sequences by mean and standard deviation over valid steps, maps averaged down to
    8 x 8 where they are larger, films first over time.

    Args:
        x: in its layout, batch first.
        layout: "bd", "btd", "bchw" or "bcthw".
        mask: bool (N, T) of a sequence.
    """
    if layout == "btd":
        x = pool(x, mask)
    elif "h" in layout:
        x = x.mean(layout.index("t")) if "t" in layout else x
        x = F.adaptive_avg_pool2d(x, (min(_GRID, x.shape[-2]), min(_GRID, x.shape[-1])))
    return x.flatten(1).numpy()


def pooled_features(
    chunks: Iterable[Split], layouts: Mapping[str, str]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
    """Return the pooled features of each modality (N, F), and which instances have it (N,)."""
    features: dict[str, list[NDArray[Any]]] = {}
    present: dict[str, list[NDArray[np.bool_]]] = {}
    for chunk in chunks:
        batch = to_tensors(chunk)
        for name, x in batch.inputs.items():
            features.setdefault(name, []).append(pooled(x, layouts[name], batch.masks.get(name)))
            present.setdefault(name, []).append(chunk.present.get(name, np.ones(len(chunk), np.bool_)))
    return ({name: np.concatenate(one) for name, one in each.items()} for each in (features, present))  # type: ignore[return-value]
