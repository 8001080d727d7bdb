"""CalibratedClassifier: fit, predict and predict_proba on modalities by name.

Shapes: X by modality (N, ...); probabilities (N, C), columns as `classes_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from concordant.data.split import Floats
from concordant.estimator.base import CalibratedEstimator
from concordant.estimator.faults import InputError
from concordant.estimator.weights import class_weights


class CalibratedClassifier(ClassifierMixin, CalibratedEstimator):  # type: ignore[misc]
    """A classifier of several modalities that weighs each by what the others say of it.

    X is a dictionary from modality to rows: vectors (n, d), sequences (n, t, d) padded with NaN, images (n, c, h, w),
    films (n, c, t, h, w), or a list of n arrays, whose lengths may differ where they are sequences. None, or NaN
    throughout, says that an instance lacks the modality. `Modalities(X)` has rows, which `cross_val_score`,
    `GridSearchCV` and `train_test_split` need. Or X is one table, a DataFrame or an array, whose columns `modalities`
    groups. A table without groups is a single modality, with which nothing is compared: a small network.

    Every input is standardised on the training instances. Training goes as in `concordant run`: half of what it sees is
    perturbed, and the state is chosen on held-out instances.

    Args:
        fusion: what joins the modalities, one of `concordant list fusions`.
        calibrator: what weighs them, one of `concordant list calibrators`.
        steps: of the optimiser; None = 21 times the root of the number of rows, 200 to 3000.
        batch: instances a step.
        learning_rate: the highest of the one-cycle schedule; `partial_fit` keeps to it.
        weight_decay: of AdamW.
        dropout: "auto" = 0.5 up to 500 training rows, else 0.1.
        width: features that each encoder hands over, an even number.
        validation: share that is held out for early stopping and for what reliability is usual; 0 for none, and none
            where it would be fewer than 10 rows.
        class_weight: None, "balanced", or class -> weight.
        modalities: which columns of a table are which modality: a separator ("_" makes text_0 and text_1 the modality
            text), modality -> columns or prefix, or a list of (modality, transformer, columns). A later DataFrame may
            lack all columns of a modality, which is then absent.
        layouts: modality -> "bd", "btd", "bdt", "bchw" or "bcthw", where the number of axes misleads.
        random_state: an integer makes fits repeatable; PyTorch's global generator is left alone.
        device: where it is trained and asked.
        verbose: 1 = a line an evaluation.

    Attributes:
        classes_: the classes, sorted.
        modality_names_: the modalities, in the order of X.
        calibrator_: the calibrator that is used: "none" for a single modality.
        model_: the network, a `torch.nn.Module`.
        history_: one entry an evaluation: step, loss and, where instances are held out, their score.
        n_iter_: steps that were taken.
        n_features_in_: columns of a table; not there where X has modalities by name.

    All of scikit-learn's `check_estimator` passes on tables but one check, which cannot hold:
    check_sample_weight_equivalence_on_dense_data, since mini-batches of a repeated instance are drawn otherwise than
    those of an instance with twice the weight. What `check_estimator` does not look at is X as modalities by name:
    `n_features_in_` and `feature_names_in_` are not set for it, and its rows are counted only as `Modalities(X)`.

    >>> draws = np.random.default_rng(0)
    >>> y = draws.integers(2, size=120)
    >>> X = {"left": y[:, None] + draws.normal(size=(120, 3)), "right": y[:, None] + draws.normal(size=(120, 5))}
    >>> model = CalibratedClassifier(random_state=0, steps=60).fit(X, y)
    >>> model.predict_proba(X).shape, sorted(model.reliability(X))
    ((120, 2), ['left', 'right'])
    """

    def __init__(
        self,
        *,
        fusion: str = "lf-dnn",
        calibrator: str = "context",
        steps: int | None = None,
        batch: int = 64,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        dropout: float | str = "auto",
        width: int = 64,
        validation: float = 0.15,
        class_weight: Mapping[Any, float] | str | None = None,
        modalities: Any = None,  # noqa: ANN401
        layouts: Mapping[str, str] | None = None,
        random_state: Any = None,  # noqa: ANN401
        device: str = "cpu",
        verbose: int = 0,
    ) -> None:
        super().__init__(
            fusion=fusion,
            calibrator=calibrator,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            dropout=dropout,
            width=width,
            validation=validation,
            modalities=modalities,
            layouts=layouts,
            random_state=random_state,
            device=device,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(
        self,
        X: Any,  # noqa: ANN401, N803
        y: Any,  # noqa: ANN401
        *,
        groups: Any = None,  # noqa: ANN401
        sample_weight: Any = None,  # noqa: ANN401
    ) -> CalibratedClassifier:
        """Fit from the start.

        Args:
            X: instances.
            y: classes (N,), of any type.
            groups: what each instance belongs to (speaker, subject); whole groups are held out for validation.
            sample_weight: what each instance counts (N,).

        Raises:
            InputError: all faults of X, y or the parameters at once.
            ConcordantError: training diverged.
        """
        self._given: NDArray[Any] | None = None
        self._fit(X, y, groups, sample_weight)
        return self

    def partial_fit(
        self,
        X: Any,  # noqa: ANN401, N803
        y: Any,  # noqa: ANN401
        classes: Any = None,  # noqa: ANN401
        *,
        sample_weight: Any = None,  # noqa: ANN401
    ) -> CalibratedClassifier:
        """Go once through these instances, from where the last call or `fit` ended.

        What is fixed by the first call, which should hold typical instances: the classes, the modalities and their
        sizes, mean and standard deviation of every input, and frequencies of classes. Nothing is held out, and the
        learning rate is constant, so many passes are needed, and `fit` is better where all instances are at hand.

        Args:
            X: instances.
            y: classes (N,).
            classes: all classes there will ever be; needed in the first call.
            sample_weight: what each instance counts (N,).

        Raises:
            InputError: all faults of X, y or the parameters; classes that were not announced.
        """
        if hasattr(self, "classes_") and hasattr(self, "model_"):
            if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
                raise InputError(f"classes must be those of the first call, {self.classes_.tolist()}; found {classes}")
        elif classes is None:
            raise InputError("classes must be passed on the first call to partial_fit: all that there will ever be")
        self._given = None if classes is None else np.unique(np.asarray(classes))
        self._partial_fit(X, y, sample_weight)
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: ANN401, N803
        """Return the most probable class of each instance (N,); a modality that X lacks is absent.

        Raises:
            InputError: all faults of X at once.
        """
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401, N803
        """Return probabilities (N, C); of an instance without any modality the classes' frequencies in training.

        Raises:
            InputError: all faults of X at once.
        """
        check_is_fitted(self)
        answer = self._ask(X)
        return self._probabilities(answer.logits, answer.present)

    def _probabilities(self, logits: Any, present: NDArray[np.bool_]) -> NDArray[np.float64]:  # noqa: ANN401
        values = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        values /= values.sum(1, keepdims=True)
        return np.asarray(np.where(present.any(1, keepdims=True), values, self.prior_))

    def _decide(self, logits: Any, present: NDArray[np.bool_]) -> tuple[NDArray[Any], Floats | None]:  # noqa: ANN401
        found = self._probabilities(logits, present)
        return self.classes_[found.argmax(1)], found.max(1).astype(np.float32)

    def _targets(self, y: Any, weights: Floats, *, first: bool) -> tuple[NDArray[Any], Floats]:  # noqa: ANN401
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(y) if self._given is None else self._given
            if len(self.classes_) < 2:
                raise InputError(
                    f"y must hold two classes or more; found one class, {str(self.classes_[0])!r}, with which nothing "
                    "is to be learnt"
                )
        unknown = sorted({str(one) for one in y[~np.isin(y, self.classes_)].tolist()})
        if unknown:
            raise InputError(f"y holds unknown classes {unknown[:5]}; they were fixed as {self.classes_.tolist()}")
        labels = np.searchsorted(self.classes_, y).astype(np.int64)
        if self.class_weight is not None:
            weights = weights * class_weights(self.class_weight, self.classes_, y)[labels]
        if first:
            counts = np.bincount(labels, weights, minlength=len(self.classes_))
            self.prior_ = counts / max(counts.sum(), 1e-12)
        return labels, weights.astype(np.float32)

    def _outputs(self) -> int:
        return len(self.classes_)
