"""MultimodalRegressor: fit and predict numbers on modalities by name. Shapes: X by modality (N, ...); y (N,)."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from concordant.data.split import Floats
from concordant.estimator.base import MultimodalEstimator
from concordant.estimator.inputs import InputError, foreign_errors


class MultimodalRegressor(RegressorMixin, MultimodalEstimator):  # type: ignore[misc]
    """Regressor of several modalities that weighs each by its agreement with the others.

    X, parameters and attributes are those of `MultimodalClassifier`, but for what concerns classes. It is trained on
    the squared error of y in standard deviations; `score` is R squared.

    Attributes:
        target_mean_: mean of y in training, the answer where an instance has no modality.
        target_std_: its standard deviation.

    >>> draws = np.random.default_rng(0)
    >>> y = draws.normal(size=120)
    >>> X = {"left": y[:, None] + draws.normal(size=(120, 3)), "right": y[:, None] + draws.normal(size=(120, 5))}
    >>> MultimodalRegressor(random_state=0, max_iter=60).fit(X, y).predict(X).shape
    (120,)
    """

    real = True

    def partial_fit(self, X: Any, y: Any, *, sample_weight: Any = None) -> Self:
        """Go once through these instances, from where the last call or `fit` ended.

        The first call should hold typical instances: it fixes the modalities and their sizes, and mean and standard
        deviation of every input and of y. Nothing is held out, and the learning rate is constant.

        Args:
            X: instances.
            y: numbers (N,).
            sample_weight: of the instances (N,).

        Raises:
            InputError: all faults of X, y or the parameters at once.
        """
        return self._partial_fit(X, y, sample_weight)

    def _decide(self, logits: Any, present: NDArray[np.bool_]) -> tuple[NDArray[Any], Floats | None]:
        values = logits[:, 0].astype(np.float64) * self.target_std_ + self.target_mean_
        return np.where(present.any(1), values, self.target_mean_), None

    def _targets(self, y: NDArray[Any], weights: Floats, *, first: bool) -> tuple[NDArray[Any], Floats]:
        with foreign_errors("y must hold numbers"):
            if y.dtype.kind in "mM":
                raise TypeError(f"found {y.dtype}")
            values = y.astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError("Input y contains NaN, infinity or a value too large; leave those instances out")
        if first:
            unit = 2.0 ** (math.frexp(np.abs(values).max())[1] - 1)  # squares of values in it are exact, and finite
            mean = np.average(values / unit, weights=weights)
            spread = np.sqrt(np.average((values / unit - mean) ** 2, weights=weights))
            self.target_mean_, self.target_std_ = float(mean * unit), float(spread * unit) or 1.0
        return ((values - self.target_mean_) / self.target_std_).astype(np.float32), weights

    def _outputs(self) -> int:
        return 1
