"""MultimodalClassifier: fit, predict and predict_proba on modalities by name.

Shapes: X by modality (N, ...); probabilities (N, C), columns as `classes_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from concordant.data.split import Floats
from concordant.estimator.base import MultimodalEstimator
from concordant.estimator.inputs import InputError, foreign_errors
from concordant.estimator.parameters import class_weights


@dataclass(kw_only=True, eq=False, repr=False)
class MultimodalClassifier(ClassifierMixin, MultimodalEstimator):  # type: ignore[misc]
    """Classifier of several modalities that weighs each by its agreement with the others.

    X is `Modalities({"text": ..., "audio": ...})`, or the dictionary itself: modality -> vectors (N, D), sequences
    (N, T, D) padded with NaN, images (N, C, H, W), films (N, C, T, H, W), or a list of N arrays; lengths of sequences
    may differ. None, or NaN throughout, marks an absent modality. `cross_val_score`, `GridSearchCV` and
    `train_test_split` need the `Modalities`: scikit-learn takes the length of a dictionary for the number of rows. Or X
    is one table, a DataFrame or an array, whose columns `modalities` groups. A table without groups is a single
    modality without anything to compare it with: a small network.

    Inputs are standardised on the training instances. Training is that of `concordant run`: half of the features are
    perturbed, and held-out instances are scored ten times, select the state, and end training after five scores in a
    row without a state to keep.

    Args:
        fusion: joins the modalities; one of `concordant list fusions`.
        calibrator: weighs them; one of `concordant list calibrators`.
        max_iter: steps of the optimiser, one mini-batch each, at the most (not passes through the data, as in
            `MLPClassifier`); None = 21 times the root of the number of rows, up to 3000, and at least 700, or, where
            the features of all modalities outnumber the rows, 200.
        batch_size: instances per step.
        learning_rate: the highest of the one-cycle schedule; constant in `partial_fit`.
        weight_decay: of AdamW.
        dropout: "auto" = 0.5 where the features of all modalities outnumber the training rows, else 0.1.
        width: features per encoder, an even number.
        validation_fraction: share held out for early stopping and for the usual reliability; 0 for none. Fewer than
            10 rows are not held out.
        class_weight: None, "balanced", or class -> weight.
        modalities: which columns of a table are which modality: a separator ("_" makes text_0 and text_1 the modality
            text), modality -> columns or prefix, or a list of (modality, transformer, columns). A later DataFrame may
            lack all columns of a modality, which is then absent.
        layouts: modality -> "bd", "btd", "bdt", "bchw", "bhwc", "bcthw" or "bthwc", where the number of axes misleads.
        random_state: an integer makes fits repeatable, in several threads too, whose steps take turns; PyTorch's
            global generator is left alone.
        device: of training and prediction.
        verbose: 1 = one line per evaluation.

    Attributes:
        classes_: the classes, sorted.
        class_prior_: their weighted frequencies in training (C,), the answer where an instance has no modality.
        modality_names_: the modalities, in the order of X.
        calibrator_: the calibrator in use: "none" for a single modality.
        model_: the network, a `torch.nn.Module`.
        history_: one entry per evaluation: step, loss and, where instances are held out, their score.
        n_iter_: steps done; training may stop before `max_iter`.
        seed_: the integer drawn from `random_state`.
        n_features_in_, feature_names_in_: columns of a table and their names; not there where X has modalities by name.

    On tables all of scikit-learn's `check_estimator` passes but check_sample_weight_equivalence_on_dense_data:
    mini-batches of a repeated instance differ from those of one instance with twice the weight. For X as modalities by
    name, which `check_estimator` does not cover, `n_features_in_` and `feature_names_in_` are not set.

    >>> from concordant import Modalities, MultimodalClassifier
    >>> draws = np.random.default_rng(0)
    >>> y = draws.integers(2, size=120)
    >>> left, right = y[:, None] + draws.normal(size=(120, 3)), y[:, None] + draws.normal(size=(120, 5))
    >>> X = Modalities({"left": left, "right": right})
    >>> model = MultimodalClassifier(random_state=0, max_iter=60).fit(X, y)
    >>> model.predict_proba(X[:4]).shape, sorted(model.reliability(X))
    ((4, 2), ['left', 'right'])
    """

    class_weight: Mapping[Any, float] | Literal["balanced"] | None = None

    def partial_fit(self, X: Any, y: Any, classes: Any = None, *, sample_weight: Any = None) -> Self:
        """Go once through these instances, from where the last call or `fit` ended.

        The first call should hold typical instances: it fixes the classes and their frequencies, the modalities and
        their sizes, and mean and standard deviation of every input. Nothing is held out, and the learning rate is
        constant: many passes are needed, and `fit` is better where all instances are at hand.

        Args:
            X: instances.
            y: classes (N,).
            classes: all classes of all calls; needed in the first one.
            sample_weight: of the instances (N,).

        Raises:
            InputError: all faults of X, y or the parameters; unknown classes.
        """
        with foreign_errors("classes cannot be used"):
            known = None if classes is None else np.unique(np.asarray(classes))
        if hasattr(self, "model_"):
            if known is not None and not np.array_equal(known, self.classes_):
                raise InputError(f"classes must be those of the first call, {self.classes_.tolist()}; found {classes}")
            return self._partial_fit(X, y, sample_weight)
        if known is None:
            raise InputError("classes must be passed on the first call to partial_fit: all that there will ever be")
        return self._partial_fit(X, y, sample_weight, classes_=known)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (N, C); of an instance without any modality the classes' frequencies in training.

        Raises:
            InputError: all faults of X at once.
        """
        answer = self._ask(X)
        return self._probabilities(answer.logits, answer.present)

    def _probabilities(self, logits: Any, present: NDArray[np.bool_]) -> NDArray[np.float64]:
        values = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        values /= values.sum(1, keepdims=True)
        return np.asarray(np.where(present.any(1, keepdims=True), values, self.class_prior_))

    def _decide(self, logits: Any, present: NDArray[np.bool_]) -> tuple[NDArray[Any], Floats | None]:
        found = self._probabilities(logits, present)
        return self.classes_[found.argmax(1)], found.max(1).astype(np.float32)

    def _targets(self, y: NDArray[Any], weights: Floats, *, first: bool) -> tuple[NDArray[Any], Floats]:
        check_classification_targets(y)
        if first:
            self.classes_ = getattr(self, "classes_", np.unique(y))
            if len(self.classes_) < 2:
                raise InputError(
                    f"y must hold two classes or more; found one class, {str(self.classes_[0])!r}, which leaves "
                    "nothing to learn"
                )
        unknown = sorted({str(one) for one in y[~np.isin(y, self.classes_)].tolist()})
        if unknown:
            raise InputError(f"y holds unknown classes {unknown[:5]}; they were fixed as {self.classes_.tolist()}")
        labels = np.searchsorted(self.classes_, y).astype(np.int64)
        if self.class_weight is not None:
            weights = weights * class_weights(self.class_weight, self.classes_, y)[labels]
        if first:
            counts = np.bincount(labels, weights, minlength=len(self.classes_))
            self.class_prior_ = counts / max(counts.sum(), 1e-12)
        return labels, weights.astype(np.float32)

    def _outputs(self) -> int:
        return len(self.classes_)
