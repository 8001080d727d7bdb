"""What the classifier and the regressor share: parameters, reading of X, fit, passes, reliability and explanations.

A model is encoders, a calibrator and a fusion, as in `concordant run`; inputs are standardised on the training part.
Shapes: X by modality (N, ...); outputs of the model (N, C), or (N, 1) of a regression.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from concordant.data.scaling import apply, fit_chunks
from concordant.data.split import Floats, Split
from concordant.estimator.columns import Group, apply_groups, group_columns, with_absent
from concordant.estimator.container import Modalities
from concordant.estimator.explanation import Explanation, only
from concordant.estimator.faults import InputError, refuse
from concordant.estimator.fitting import Plan, build, fit_model, new_optimizer, one_pass, paired
from concordant.estimator.inputs import read_again, read_first
from concordant.estimator.parameters import faults_of, seed_of, steps_for
from concordant.estimator.splitting import hold_out
from concordant.estimator.weights import sample_weights
from concordant.rivals import CALIBRATORS
from concordant.robustness.predict import Predictions, predict
from concordant.visualisation.explain import Usual, explain
from concordant.visualisation.trace import observe

ALONE = "x"  # the modality that a table without groups is
FEW_ROWS = 500  # up to here dropout is strong


class CalibratedEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of `CalibratedClassifier`, which documents the parameters, and `CalibratedRegressor`."""

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
        modalities: Any = None,  # noqa: ANN401
        layouts: Mapping[str, str] | None = None,
        random_state: Any = None,  # noqa: ANN401
        device: str = "cpu",
        verbose: int = 0,
    ) -> None:
        self.fusion = fusion
        self.calibrator = calibrator
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.width = width
        self.validation = validation
        self.modalities = modalities
        self.layouts = layouts
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    @abstractmethod
    def _targets(self, y: Any, weights: Floats, *, first: bool) -> tuple[NDArray[Any], Floats]:  # noqa: ANN401
        """Check y; return class indices or standardised numbers (N,), and weights (N,)."""

    @abstractmethod
    def _outputs(self) -> int:
        """Return how many numbers come out of the model."""

    real = False  # whether numbers are predicted
    named_: bool  # whether X had modalities by name
    groups_: dict[str, Group]  # columns of each modality, of a table

    def reliability(self, X: Any) -> dict[str, Floats]:  # noqa: ANN401, N803
        """Return modality -> its reliability in each instance (N,): about 1 where it is believed, 0 where absent.

        Args:
            X: instances, as for `fit`; a modality that is left out is absent.

        Raises:
            InputError: X does not fit, or nothing is compared: a single modality, or a calibrator without reliability.
        """
        self._needs_reliability()
        answer = self._ask(X)
        found = np.zeros(answer.present.shape, np.float32) if answer.reliability is None else answer.reliability
        return {name: found[:, column] for column, name in enumerate(self.modality_names_)}

    def explain(self, X: Any) -> list[Explanation]:  # noqa: ANN401, N803
        """Return, for each instance, the prediction and a verdict on every modality.

        What is usual is taken from the held-out instances of the fit, or from those of the last `partial_fit`.

        Args:
            X: instances, as for `fit`.

        Raises:
            InputError: as for `reliability`.
        """
        self._needs_reliability()
        part = self._read(X)
        seen = observe(self.model_, part)
        predictions, confidences = self._decide(seen.logits, seen.present)
        found = []
        for row in range(len(part)):
            sure = None if confidences is None else float(confidences[row])
            found.append(Explanation(predictions[row], sure, explain(only(seen, row), 0, self.usual_)))
        return found

    @abstractmethod
    def _decide(self, logits: Any, present: NDArray[np.bool_]) -> tuple[NDArray[Any], Floats | None]:  # noqa: ANN401
        """Return predictions (N,) and, of a classifier, their probabilities."""

    def _fit(self, X: Any, y: Any, groups: Any, sample_weight: Any) -> None:  # noqa: ANN401, N803
        """Fit from the start."""
        refuse(faults_of(self))
        raw, targets, weights = self._begin(X, y, sample_weight, first=True)
        kept, held = hold_out(len(raw), None if self.real else targets, groups, self.validation, self.seed_)
        train = self._scaled(raw.take(kept), first=True)
        plan = self._plan(len(kept))
        self.model_ = build(self.forms_, plan)
        pair = paired(train, targets[kept], weights[kept], plan)
        valid, other = None, train
        if len(held):
            other = self._scaled(raw.take(held))
            valid = paired(other, targets[held], weights[held], plan)
        self.history_ = fit_model(self.model_, plan, pair, valid, self._say)
        self.n_iter_ = int(self.history_[-1]["step"])
        self._settle(plan, other)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> None:  # noqa: ANN401, N803
        """Go once through the instances."""
        refuse(faults_of(self))
        first = not hasattr(self, "model_")
        raw, targets, weights = self._begin(X, y, sample_weight, first=first)
        part = self._scaled(raw, first=first)
        if first:
            self.model_ = build(self.forms_, self._plan(len(raw)))
            self.n_iter_ = 0
        plan = self._plan(len(raw)) if first else self._plan_of_passes()
        if first or not hasattr(self, "_optimizer"):
            self._optimizer, self._passes = new_optimizer(self.model_, plan), 0
        self._passes += 1
        self.n_iter_ += one_pass(self.model_, plan, self._optimizer, paired(part, targets, weights, plan), self._passes)
        self._settle(plan, part, keep=True)

    def _begin(
        self,
        X: Any,  # noqa: ANN401, N803
        y: Any,  # noqa: ANN401
        sample_weight: Any,  # noqa: ANN401
        *,
        first: bool,
    ) -> tuple[Split, NDArray[Any], Floats]:
        """Return the instances as they are, targets and weights."""
        if y is None:
            name = type(self).__name__
            raise InputError(f"This {name} estimator requires y to be passed, but the target y is None.")
        if first:
            self.seed_ = seed_of(self.random_state)
        given = self._arrays(X, first=first)
        if first:
            self.forms_, raw = read_first(given, self.layouts)
            self.modality_names_ = tuple(self.forms_)
            self.calibrator_ = "none" if len(self.forms_) == 1 else self.calibrator
        else:
            raw = read_again(given, self.forms_)
        weights = sample_weights(sample_weight, len(raw))
        values = np.asarray(y)
        counted = len(values) if values.ndim else 0
        if counted != len(raw):
            raise InputError(f"y must have one entry an instance: X has {len(raw)}, inconsistent with {counted} in y")
        targets, weights = self._targets(values, weights, first=first)
        return raw, targets, weights

    def _arrays(self, X: Any, *, first: bool) -> Modalities:  # noqa: ANN401, N803
        """Return X as modalities by name, whatever it was given as."""
        # Of SciPy's sparse matrices one kind is a mapping too.
        named = isinstance(X, (Modalities, Mapping)) and not hasattr(X, "tocsr")
        if named and self.modalities is not None:
            raise InputError("modalities groups the columns of a table, and X has modalities by name; leave it out")
        if not first and named != self.named_:
            was = "modalities by name" if self.named_ else "one table"
            raise InputError(f"X must be {was}, as in the fit; found {type(X).__name__}")
        if first:
            self.named_ = named
        if named:
            if first:
                for name in ("n_features_in_", "feature_names_in_"):
                    self.__dict__.pop(name, None)
            return X if isinstance(X, Modalities) else Modalities(X)
        if self.modalities is None:
            return Modalities({ALONE: self._table(X, first=first)})
        if hasattr(X, "iloc"):
            named_before = not first and hasattr(self, "feature_names_in_")
            table = with_absent(X, self.groups_, self.feature_names_in_) if named_before else X
            validate_data(self, table, reset=first, skip_check_array=True)
        else:
            table = self._table(X, first=first, missing="allow-nan")
        if first:
            self.groups_, found = group_columns(table, self.modalities)
            return found
        return apply_groups(table, self.groups_)

    def _table(self, X: Any, *, first: bool, missing: bool | str = True) -> NDArray[Any]:  # noqa: ANN401, N803
        """Return a table as scikit-learn checks it."""
        dtypes = [np.float64, np.float32]
        return np.asarray(
            validate_data(
                self, X, reset=first, dtype=dtypes, ensure_all_finite=missing, ensure_min_samples=2 if first else 1
            )
        )

    def _scaled(self, part: Split, *, first: bool = False) -> Split:
        """Return instances standardised as the first ones tell."""
        layouts = {name: form.layout for name, form in self.forms_.items()}
        if first:
            self.scales_ = fit_chunks([part], layouts)
        inputs = {}
        for name, x in part.inputs.items():
            mask, here = part.masks.get(name), part.present.get(name)
            valid = here if mask is None else mask if here is None else mask & here[:, None]
            inputs[name] = apply(self.scales_[name], x, layouts[name], valid)
        return part.with_inputs(inputs)

    def _plan(self, rows: int) -> Plan:
        dropout = self.dropout
        if isinstance(dropout, str):
            dropout = 0.5 if rows <= FEW_ROWS else 0.1
        return Plan(
            fusion=self.fusion,
            calibrator=self.calibrator_,
            outputs=self._outputs(),
            real=self.real,
            steps=steps_for(rows) if self.steps is None else int(self.steps),
            batch=int(self.batch),
            learning_rate=float(self.learning_rate),
            weight_decay=float(self.weight_decay),
            dropout=float(dropout),
            width=int(self.width),
            seed=self.seed_,
            device=str(self.device),
        )

    def _plan_of_passes(self) -> Plan:
        """Return the plan of the model that is there, with the learning rate and batch of now."""
        return replace(
            self.plan_,
            batch=int(self.batch),
            learning_rate=float(self.learning_rate),
            weight_decay=float(self.weight_decay),
        )

    def _settle(self, plan: Plan, known: Split, *, keep: bool = False) -> None:
        """Note what is usual, and drop the state of passes after a fit from the start."""
        self.plan_ = plan
        if not keep:
            self.__dict__.pop("_optimizer", None)
        if self._has_reliability():
            self.usual_ = Usual.of(observe(self.model_, known))

    def _read(self, X: Any) -> Split:  # noqa: ANN401, N803
        """Return instances, standardised, to be asked about."""
        check_is_fitted(self)
        return self._scaled(read_again(self._arrays(X, first=False), self.forms_))

    def _ask(self, X: Any) -> Predictions:  # noqa: ANN401, N803
        return predict(self.model_, self._read(X))

    def _has_reliability(self) -> bool:
        return len(self.forms_) > 1 and CALIBRATORS[self.calibrator_].build.has_reliability

    def _needs_reliability(self) -> None:
        check_is_fitted(self)
        if not self._has_reliability():
            raise InputError(
                f"calibrator {self.calibrator_!r} on {', '.join(self.forms_)} compares nothing and gives no "
                "reliability; fit two modalities or more, with calibrator='context'"
            )

    def _say(self, line: str) -> None:
        if self.verbose:
            sys.stdout.write(f"[{type(self).__name__}] {line}\n")

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.modalities is not None
        tags.target_tags.required = True
        return tags
