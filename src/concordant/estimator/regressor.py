"""CalibratedRegressor: fit and predict numbers on modalities by name. Shapes: X by modality (N, ...); y (N,)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d

from concordant.data.split import Floats
from concordant.estimator.base import CalibratedEstimator
from concordant.estimator.inputs import InputError


class CalibratedRegressor(RegressorMixin, CalibratedEstimator):  # type: ignore[misc]
    """Regressor of several modalities that weighs each by its agreement with the others.

    X, parameters and attributes are those of `CalibratedClassifier`, but for what concerns classes. It is trained on
    the squared error of y in standard deviations; `score` is R squared.

    >>> draws = np.random.default_rng(0)
    >>> y = draws.normal(size=120)
    >>> X = {"left": y[:, None] + draws.normal(size=(120, 3)), "right": y[:, None] + draws.normal(size=(120, 5))}
    >>> CalibratedRegressor(random_state=0, steps=60).fit(X, y).predict(X).shape
    (120,)
    """

    real = True

    def fit(
        self,
        X: Any,  # noqa: ANN401, N803
        y: Any,  # noqa: ANN401
        *,
        groups: Any = None,  # noqa: ANN401
        sample_weight: Any = None,  # noqa: ANN401
    ) -> CalibratedRegressor:
        """Fit from the start.

        Args:
            X: instances.
            y: numbers (N,).
            groups: of the instances; whole groups are held out for validation.
            sample_weight: of the instances (N,).

        Raises:
            InputError: all faults of X, y or the parameters at once.
            ConcordantError: training diverged.
        """
        self._fit(X, y, groups, sample_weight)
        return self

    def partial_fit(
        self,
        X: Any,  # noqa: ANN401, N803
        y: Any,  # noqa: ANN401
        *,
        sample_weight: Any = None,  # noqa: ANN401
    ) -> CalibratedRegressor:
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
        self._partial_fit(X, y, sample_weight)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401, N803
        """Return one number per instance (N,); for one without any modality the mean of y in training.

        Raises:
            InputError: all faults of X at once.
        """
        check_is_fitted(self)
        answer = self._ask(X)
        return self._decide(answer.logits, answer.present)[0]

    def _decide(self, logits: Any, present: NDArray[np.bool_]) -> tuple[NDArray[Any], Floats | None]:  # noqa: ANN401
        values = logits[:, 0].astype(np.float64) * self.target_std_ + self.target_mean_
        return np.where(present.any(1), values, self.target_mean_), None

    def _targets(self, y: Any, weights: Floats, *, first: bool) -> tuple[NDArray[Any], Floats]:  # noqa: ANN401
        values = column_or_1d(y, warn=True)
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"y must hold numbers ({error})") from None
        if not np.isfinite(values).all():
            raise InputError("Input y contains NaN, infinity or a value too large; leave those instances out")
        if first:
            self.target_mean_ = float(np.average(values, weights=weights))
            spread = float(np.sqrt(np.average((values - self.target_mean_) ** 2, weights=weights)))
            self.target_std_ = spread if spread > 0 else 1.0
        return ((values - self.target_mean_) / self.target_std_).astype(np.float32), weights

    def _outputs(self) -> int:
        return 1
