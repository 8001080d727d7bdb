"""Estimators in the manner of scikit-learn: `MultimodalClassifier` and `MultimodalRegressor`.

`fit(X, y)` takes modalities by name (arrays, ragged sequences, images), or one table whose columns are grouped.
`predict`, `predict_proba` and `score` are as usual; `reliability(X)` and `explain(X)` show how much each modality is
trusted. Needs the extra `experiments`.
"""

from __future__ import annotations

from concordant.errors import needs_extra

with needs_extra("experiments", "the estimators need"):
    from concordant.estimator.classifier import MultimodalClassifier
    from concordant.estimator.explanation import Explanation
    from concordant.estimator.inputs import InputError, Modalities
    from concordant.estimator.regressor import MultimodalRegressor

__all__ = ["Explanation", "InputError", "Modalities", "MultimodalClassifier", "MultimodalRegressor"]
