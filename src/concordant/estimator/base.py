"""Base of the classifier and the regressor: parameters, reading of X, fit, passes, reliability and explanations.

A model is encoders, a calibrator and a fusion, as in `concordant run`; inputs are standardised on the training split.
Shapes: X by modality (N, ...); outputs of the model (N, C), or (N, 1) of a regression.
"""

from __future__ import annotations

import copy
import sys
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from concordant.benchmarks.prepared import recipe_for
from concordant.data.scaling import apply, fit_chunks
from concordant.data.split import Floats, Split
from concordant.estimator.columns import Group, apply_groups, group_columns, with_absent
from concordant.estimator.explanation import Explanation
from concordant.estimator.fitting import Plan, build, fit_model, new_optimizer, one_pass, tensors_of
from concordant.estimator.inputs import InputError, Modalities, foreign_errors, plain, read_again, read_first, refuse
from concordant.estimator.parameters import (
    CalibratorName,
    FusionName,
    faults_of,
    hold_out,
    recipe_fields,
    sample_weights,
    seed_of,
)
from concordant.rivals import CALIBRATORS
from concordant.robustness.predict import Predictions, predict
from concordant.training.config import Recipe
from concordant.visualisation.explain import Usual, explain
from concordant.visualisation.trace import Trace, trace_calibration

ALONE = "x"  # name of the only modality of a table without groups


@dataclass(kw_only=True, eq=False, repr=False)  # scikit-learn reads the parameters off the generated constructor
class MultimodalEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of `MultimodalClassifier`, which documents the parameters, and `MultimodalRegressor`."""

    fusion: FusionName | str = "lf-dnn"
    calibrator: CalibratorName | str = "context"
    max_iter: int | None = None
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    dropout: float | Literal["auto"] = "auto"
    width: int = 64
    validation_fraction: float = 0.15
    modalities: Any = None
    layouts: Mapping[str, str] | None = None
    random_state: Any = None
    device: str = "cpu"
    verbose: int = 0

    real: ClassVar[bool] = False  # whether numbers are predicted
    _named_: bool = field(init=False)  # whether X had modalities by name
    _groups_: dict[str, Group] = field(init=False)  # columns of each modality of a table

    @abstractmethod
    def _targets(self, y: NDArray[Any], weights: Floats, *, first: bool) -> tuple[NDArray[Any], Floats]:
        """Check y; return class indices or standardised numbers (N,), and weights (N,)."""

    @abstractmethod
    def _outputs(self) -> int:
        """Return C, or 1 of a regression."""

    @abstractmethod
    def _decide(self, logits: Any, present: NDArray[np.bool_]) -> tuple[NDArray[Any], Floats | None]:
        """Return predictions (N,) and, of a classifier, their probabilities."""

    def fit(self, X: Any, y: Any, *, groups: Any = None, sample_weight: Any = None) -> Self:
        """Fit from the start. A fit that fails leaves the estimator as it was.

        Args:
            X: instances.
            y: classes of any type, or numbers of a regression (N,).
            groups: of the instances (speaker, subject); whole groups are held out for validation.
            sample_weight: of the instances (N,).

        Raises:
            InputError: all faults of X, y or the parameters at once.
            ConcordantError: training diverged.
        """
        new = copy.copy(self)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(new, name)
        raw, targets, weights = new._begin(X, y, sample_weight, first=True)
        kept, held = hold_out(len(raw), None if self.real else targets, groups, self.validation_fraction, new.seed_)
        plan = new._plan_ = new._planned(len(kept))
        last = new._scaled(raw.take(kept), first=True)
        train, valid = tensors_of(last, targets[kept], weights[kept], plan), None
        if len(held):
            last = new._scaled(raw.take(held))
            valid = tensors_of(last, targets[held], weights[held], plan)
        new.model_ = build(new._forms_, plan)
        new.history_ = fit_model(new.model_, plan, train, valid, self._say)
        new.n_iter_ = int(new.history_[-1]["step"])
        new._note_usual(last)
        self.__dict__ = new.__dict__
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class, or the number, of each instance (N,); a modality that X lacks is absent.

        An instance without any modality gets the most frequent class in training, or the mean of y.

        Raises:
            InputError: all faults of X at once.
        """
        answer = self._ask(X)
        return self._decide(answer.logits, answer.present)[0]

    def reliability(self, X: Any) -> dict[str, Floats]:
        """Return modality -> its reliability per instance (N,): about 1 where it is trusted, 0 where absent.

        Args:
            X: instances, as for `fit`; a modality that X lacks is absent.

        Raises:
            InputError: X does not fit, or there is no reliability: a single modality, or a calibrator without it.
        """
        self._needs_reliability()
        answer = self._ask(X)
        found = np.zeros(answer.present.shape, np.float32) if answer.reliability is None else answer.reliability
        return {name: found[:, column] for column, name in enumerate(self.modality_names_)}

    def explain(self, X: Any) -> list[Explanation]:
        """Return the prediction of each instance with a verdict on every modality.

        The usual reliability is that of the held-out instances of the fit, or of the last `partial_fit`.

        Args:
            X: instances, as for `fit`.

        Raises:
            InputError: as for `reliability`.
        """
        self._needs_reliability()
        seen = trace_calibration(self.model_, self._read(X))
        predictions, confidences = self._decide(seen.logits, seen.present)
        sure = [None] * len(predictions) if confidences is None else [float(one) for one in confidences]
        verdicts = (explain(_only(seen, row), 0, self._usual_) for row in range(len(predictions)))
        return [Explanation(*one) for one in zip(predictions, sure, verdicts, strict=True)]

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, **known: Any) -> Self:
        """Go once through the instances, from where the last pass ended; `known` are attributes of the first pass."""
        new, first = copy.copy(self), not hasattr(self, "model_")
        new.__dict__.update(known)
        raw, targets, weights = new._begin(X, y, sample_weight, first=first)
        split = new._scaled(raw, first=first)
        if first:
            new._plan_, new.n_iter_ = new._planned(len(raw)), 0
            new.model_ = build(new._forms_, new._plan_)
        now = {name: recipe_fields(self)[name] for name in ("batch", "learning_rate", "weight_decay")}
        plan = new._plan_ = replace(new._plan_, recipe=Recipe(**(new._plan_.recipe.model_dump() | now)))
        # A copy of what is trained in place; a first pass after `fit` has an optimiser of its own.
        optimizer, passes = getattr(self, "_passes_", (None, 0))
        new.model_, optimizer = copy.deepcopy((new.model_, optimizer))
        optimizer = new_optimizer(new.model_, plan) if optimizer is None else optimizer
        for group in optimizer.param_groups:
            group.update(lr=plan.recipe.learning_rate, weight_decay=plan.recipe.weight_decay)
        train = tensors_of(split, targets, weights, plan)
        new.n_iter_ += one_pass(new.model_, plan, optimizer, train, passes + 1)
        new._passes_ = optimizer, passes + 1
        new._note_usual(split)
        self.__dict__ = new.__dict__
        return self

    def _begin(self, X: Any, y: Any, sample_weight: Any, *, first: bool) -> tuple[Split, NDArray[Any], Floats]:
        """Check the parameters, X, y and the weights; return the instances as they are, targets and weights."""
        refuse(faults_of(self))
        if y is None:
            name = type(self).__name__
            raise InputError(f"This {name} estimator requires y to be passed, but the target y is None.")
        if first:
            self.seed_ = seed_of(self.random_state)
        given = self._arrays(X, first=first)
        if first:
            self._forms_, raw = read_first(given, self.layouts)
            self.modality_names_ = tuple(self._forms_)
            self.calibrator_ = "none" if len(self._forms_) == 1 else self.calibrator
        else:
            raw = read_again(given, self._forms_)
        weights = sample_weights(sample_weight, len(raw))
        with foreign_errors("y cannot be used"):
            values = np.asarray(plain(y))
            counted = len(values) if values.ndim else 0
            if counted != len(raw):
                raise InputError(
                    f"y must have one entry per instance: X has {len(raw)}, inconsistent with {counted} in y"
                )
            if values.dtype == object and any(one is None or one != one for one in values.ravel()):
                raise InputError("Input y contains NaN or None; leave those instances out")
            targets, weights = self._targets(column_or_1d(values, warn=True), weights, first=first)
        return raw, targets, weights

    def _arrays(self, X: Any, *, first: bool) -> Modalities:
        """Return X as modalities by name."""
        if hasattr(X, "tocsr") and self.modalities is not None:
            X = X.toarray()
        # One kind of SciPy's sparse matrices is a mapping too.
        named = isinstance(X, (Modalities, Mapping)) and not hasattr(X, "tocsr")
        if named and self.modalities is not None:
            raise InputError("modalities groups the columns of a table, and X has modalities by name; leave it out")
        if not first and named != self._named_:
            was = "modalities by name" if self._named_ else "one table"
            raise InputError(f"X must be {was}, as in the fit; found {type(X).__name__}")
        if first:
            self._named_ = named
        if named:
            return X if isinstance(X, Modalities) else Modalities(X)
        if self.modalities is None:
            return Modalities({ALONE: self._table(X, first=first)})
        if hasattr(X, "iloc"):
            named_before = not first and hasattr(self, "feature_names_in_")
            table = with_absent(X, self._groups_, self.feature_names_in_) if named_before else X
            validate_data(self, table, reset=first, skip_check_array=True)
        else:
            table = self._table(X, first=first, missing="allow-nan")
        if first:
            self._groups_, found = group_columns(table, self.modalities)
            return found
        return apply_groups(table, self._groups_)

    def _table(self, X: Any, *, first: bool, missing: bool | str = True) -> NDArray[Any]:
        """Return a table as scikit-learn checks it."""
        dtypes = [np.float64, np.float32]
        least = 2 if first else 1
        with foreign_errors():
            return np.asarray(
                validate_data(self, X, reset=first, dtype=dtypes, ensure_all_finite=missing, ensure_min_samples=least)
            )

    def _scaled(self, part: Split, *, first: bool = False) -> Split:
        """Return instances standardised by the mean and deviation of the first ones."""
        layouts = {name: form.layout for name, form in self._forms_.items()}
        if first:
            self._scales_ = fit_chunks([part], layouts)
        inputs = {}
        for name, x in part.inputs.items():
            mask, here = part.masks.get(name), part.present.get(name)
            valid = here if mask is None else mask if here is None else mask & here[:, None]
            inputs[name] = apply(self._scales_[name], x, layouts[name], valid)
        return part.with_inputs(inputs)

    def _planned(self, rows: int) -> Plan:
        values = recipe_fields(self)
        usual = recipe_for(rows, sum(form.features for form in self._forms_.values()))
        if self.dropout == "auto":
            values["dropout"] = usual["dropout"]
        if self.max_iter is None:
            values["steps"] = usual["steps"]
        return Plan(
            recipe=Recipe(**values),
            fusion=self.fusion,
            calibrator=self.calibrator_,
            outputs=self._outputs(),
            real=self.real,
            seed=self.seed_,
            device=str(self.device),
        )

    def _note_usual(self, split: Split) -> None:
        if self._has_reliability():
            self._usual_ = Usual.of(trace_calibration(self.model_, split))

    def _read(self, X: Any) -> Split:
        """Return standardised instances, to predict."""
        check_is_fitted(self)
        return self._scaled(read_again(self._arrays(X, first=False), self._forms_))

    def _ask(self, X: Any) -> Predictions:
        split = self._read(X)
        return predict(self.model_, split)

    def _has_reliability(self) -> bool:
        return len(self._forms_) > 1 and CALIBRATORS[self.calibrator_].build.has_reliability

    def _needs_reliability(self) -> None:
        check_is_fitted(self)
        if not self._has_reliability():
            raise InputError(
                f"calibrator {self.calibrator_!r} on {', '.join(self._forms_)} compares nothing and gives no "
                "reliability; fit two modalities or more, with calibrator='context'"
            )

    def _say(self, line: str) -> None:
        if self.verbose:
            sys.stdout.write(f"[{type(self).__name__}] {line}\n")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.modalities is not None
        tags.target_tags.required = True
        return tags


def _only(seen: Trace, row: int) -> Trace:
    """Return one instance of a trace."""

    def at(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: x[row : row + 1] for name, x in value.items()}
        return value[row : row + 1] if isinstance(value, np.ndarray) else value

    return Trace(**{one.name: at(getattr(seen, one.name)) for one in fields(seen)})
