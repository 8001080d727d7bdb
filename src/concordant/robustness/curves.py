"""Corruption: a model's score under every kind at five severities, and whether its reliability sees it.

An oracle goes with it: the same model told which modality is corrupted, and given it as absent. What a calibrator
covers of the way from its uncalibrated twin to that oracle is what knowing better could have saved.
Axis letters: N instances, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from concordant.benchmarks.benchmark import Waves
from concordant.data.scaling import fit_chunks
from concordant.data.split import AnySplit, Bools, Split
from concordant.errors import UsageError
from concordant.robustness.corrupting import Ground, check_kinds, corrupt_part, victims
from concordant.robustness.corruptions import KINDS, Kind
from concordant.robustness.detection import whether_auroc, which_auroc
from concordant.robustness.diagram import Diagram
from concordant.robustness.own_data import as_part, layouts_of
from concordant.robustness.predict import Answer, Model, ask
from concordant.robustness.removal import area, with_presence
from concordant.robustness.scoring import check_metric, score_of
from concordant.training.metrics import PRIMARY


def measure_corruption(
    model: Model,
    data: Any,  # noqa: ANN401
    labels: Any = None,  # noqa: ANN401
    *,
    valid: Any = None,  # noqa: ANN401
    kinds: Sequence[str] | None = None,
    layouts: Mapping[str, str] | None = None,
    natures: Mapping[str, str] | None = None,
    signals: Mapping[str, Waves] | None = None,
    standardised: bool = False,
    metric: str = PRIMARY,
    seed: int = 0,
    oracle: bool = True,
    masks: Mapping[str, Any] | None = None,
    present: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a trained model under corruption: one random modality of every instance, by each kind and severity.

    Args:
        model: `model(features) -> logits`, or an object with `.logits` and, for detection, `.reliability` (N, M).
        data: modality -> tensor or array (N, ...), a torch Dataset of (features by modality, label), or a part.
        labels: (N,), beside features by modality.
        valid: untouched instances of the same kind as `data`, features by modality or a part, which tell what
            reliability and what spread of the features is usual; None = `data`, untouched.
        kinds: some of `concordant.robustness.corruptions.KINDS`; None = all that can be applied.
        layouts: modality -> layout, batch first; None = read off the number of axes.
        natures: modality -> "image", or anything else for maps that are no images (spectrograms).
        signals: modality -> its waveforms, which audio kinds change.
        standardised: the features have mean 0 and standard deviation 1 each; otherwise `valid` tells both.
        metric: what is followed, one that is better when higher.
        seed: of what is drawn.
        oracle: score the model with the corrupted modality given as absent, too.
        masks: modality -> bool (N, T).
        present: modality -> bool (N,).

    Returns:
        "clean", "kinds" (kind -> scores, detection AUROCs "which" and "whether", area under the severity curve),
        "about" (what the kinds are), "mean", "area", "worst", "diagram" (of reliability), "oracle" (kind -> scores).

    Raises:
        UsageError: the data, a kind or the metric cannot be used, or no kind can be applied.
    """
    part = as_part(data, labels, masks=masks, present=present)
    check_metric(metric, part.labels)
    usual = _usual(valid, part)
    known = layouts_of(part, layouts)
    scales = {} if standardised else fit_chunks(usual.chunks(), known)
    ground = Ground(known, natures or {}, scales, signals or {})
    asked = check_kinds(kinds, KINDS)
    able = {kind.name: ground.able(kind, part.shapes) for kind in asked}
    if signals and not isinstance(part, Split):
        raise UsageError("signals go with data in memory; this part is read from disk piece by piece")
    applied = [kind for kind in asked if able[kind.name]]
    if not applied:
        raise UsageError(
            f"none of the corruptions {', '.join(kind.name for kind in asked)} can be applied to "
            f"{', '.join(f'{name} ({layout})' for name, layout in known.items())}"
        )
    runner = _Runner(model, part, ask(model, usual, more=_intact), ground, metric, seed)
    results = {kind.name: runner.under(kind, able[kind.name]) for kind in applied}
    found: dict[str, Any] = {
        "metric": metric,
        "modalities": list(part.shapes),
        "clean": runner.clean_score,
        "kinds": results,
        "about": [describe(kind, able[kind.name]) for kind in applied],
        **summary(runner.clean_score, results),
        "diagram": None if runner.clean.reliability is None else runner.diagram.record(),
    }
    if oracle:
        found["oracle"] = {kind.name: {"scores": runner.told(kind, able[kind.name])} for kind in applied}
    return found


def describe(kind: Kind, able: Sequence[str], at: str = "inputs") -> dict[str, Any]:
    """Return what a report says of a kind."""
    return {
        "name": kind.name,
        "summary": kind.summary,
        "group": kind.group,
        "unit": kind.unit,
        "severities": list(kind.severities),
        "seen": kind.seen,
        "modalities": list(able),
        "at": "signal" if kind.group == "audio" else at,
    }


def summary(clean: float, kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over kinds and severities, the mean area under the severity curves, and the worst case."""
    scores = {name: found["scores"] for name, found in kinds.items()}
    name, place = min(((n, k) for n, s in scores.items() for k in range(len(s))), key=lambda at: scores[at[0]][at[1]])
    return {
        "mean": float(np.mean([np.mean(one) for one in scores.values()])),
        "area": float(np.mean([found["area"] for found in kinds.values()])),
        "worst": {"kind": name, "severity": place + 1, "score": scores[name][place]},
    }


class _Runner:
    """One model on one part, under one kind after the other."""

    def __init__(self, model: Model, part: AnySplit, usual: Answer, ground: Ground, metric: str, seed: int) -> None:
        self.model, self.part, self.usual = model, part, usual
        self.ground, self.metric, self.seed = ground, metric, seed
        self.clean = ask(model, part, more=_intact)
        self.clean_score = score_of(part.labels, self.clean, metric)
        self.diagram = Diagram()
        self._told: dict[tuple[str, ...], float] = {}

    def under(self, kind: Kind, able: Sequence[str]) -> dict[str, Any]:
        """Return the scores of a kind at every severity, and whether reliability tells it."""
        scores, which, whether = [], [], []
        hit = self._hit(able)
        for severity in kind.severities:

            def change(piece: Split, number: int | None, severity: float = severity) -> Split:
                here = victims(piece, able, self.seed, number)
                return corrupt_part(piece, kind, severity, self.ground, seed=self.seed, hit=here, number=number).part

            answer = ask(self.model, self.part, change=change, more=_intact)
            scores.append(score_of(self.part.labels, answer, self.metric))
            told = self._detected(answer, hit)
            which.append(told["which"])
            whether.append(told["whether"])
        known = self.clean.reliability is not None
        curve = [self.clean_score, *scores]
        return {
            "scores": scores,
            "which": which if known else None,
            "whether": whether if known else None,
            "area": area(list(range(len(curve))), curve),
        }

    def told(self, kind: Kind, able: tuple[str, ...]) -> list[float]:
        """Return the score of the model that gets the corrupted modality as absent, the same at every severity.

        It is the same for all kinds that can hit the same modalities, and computed once for them.
        """
        if able not in self._told:
            self._told[able] = self._score_told(able)
        return [self._told[able]] * len(kind.severities)

    def _score_told(self, able: Sequence[str]) -> float:

        def change(piece: Split, number: int | None) -> Split:
            here = victims(piece, able, self.seed, number)
            present = {
                name: piece.present.get(name, np.ones(len(piece), np.bool_)) & ~here[:, column]
                for column, name in enumerate(piece.inputs)
            }
            return with_presence(piece, present)

        return score_of(self.part.labels, ask(self.model, self.part, change=change), self.metric)

    def _hit(self, able: Sequence[str]) -> Bools:
        whole = isinstance(self.part, Split)
        pieces = enumerate(self.part.chunks())
        return np.concatenate([victims(piece, able, self.seed, None if whole else n) for n, piece in pieces])

    def _detected(self, answer: Answer, hit: Bools) -> dict[str, float | None]:
        if answer.reliability is None or self.clean.reliability is None or self.usual.reliability is None:
            return {"which": None, "whether": None}
        for one, where in ((answer, hit), (self.clean, np.zeros_like(hit))):
            intact = one.extra["intact"] if "intact" in one.extra else np.asarray(one.reliability)
            self.diagram.add(intact, where, one.present & hit.any(1, keepdims=True))
        common: dict[str, Any] = {
            "reference": self.usual.reliability,
            "corrupted": hit & answer.present,
            "present": answer.present,
            "reference_present": self.usual.present,
        }
        return {
            "which": which_auroc(answer.reliability, **common),
            "whether": whether_auroc(answer.reliability, self.clean.reliability, **common),
        }


def _intact(out: Any) -> dict[str, Tensor]:  # noqa: ANN401 - whatever a model returns
    """Return a calibrator's own probability of being intact, where an output has it."""
    calibration = getattr(out, "calibration", None)
    return {} if calibration is None else {"intact": calibration.logits.sigmoid()}


def _usual(valid: Any, part: AnySplit) -> AnySplit:  # noqa: ANN401
    if valid is None:
        return part
    if isinstance(valid, Mapping):
        count = len(next(iter(valid.values()))) if valid else 0
        return as_part(valid, np.zeros(count, np.int64))
    return as_part(valid)
