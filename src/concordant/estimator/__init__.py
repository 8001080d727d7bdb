"""Estimators in the manner of scikit-learn, for those who have arrays and labels.

`fit(X, y)` takes modalities by name (arrays, ragged sequences, images), or one table whose columns are grouped;
`predict`, `predict_proba` and `score` are as usual, `reliability(X)` and `explain(X)` tell which modality was believed.
Needs the extra `experiments`.
"""

from __future__ import annotations

from concordant.estimator.classifier import CalibratedClassifier
from concordant.estimator.container import Modalities
from concordant.estimator.explanation import Explanation
from concordant.estimator.faults import InputError
from concordant.estimator.regressor import CalibratedRegressor

__all__ = ["CalibratedClassifier", "CalibratedRegressor", "Explanation", "InputError", "Modalities"]
