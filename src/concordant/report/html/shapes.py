"""The shapes of the JSON documents that the report reads, and what one lacks in a sentence.

A shape is a type (`float` takes every number), `Maybe(shape)` where null may stand, `[shape]` for a list,
`Some(shape)` for a list with one entry or more, `{key: shape}` for an object with these keys and perhaps
others, and `{"*": shape}` for one with any keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Maybe:
    """A value of this shape, or null."""

    shape: Any


@dataclass(frozen=True)
class Some:
    """A list of one value or more of this shape."""

    shape: Any


_COMPARISON = {
    "of": str,
    "to": str,
    "condition": str,
    "difference": float,
    "ci95": [float],
    "p_holm": float,
    "p_wilcoxon": Maybe(float),
}
_SCORE = {"accuracy": float}
_RATE = {"rate": float, "score": float, "retained": Maybe(float)}
_TWO = {"before": Maybe(float), "after": Maybe(float)}
_MAP = {"before": [Maybe([float])], "after": [Maybe([float])]}
_SPREAD = {"mean": Maybe(float), "std": Maybe(float)}
_AROUND = {"versions": {"*": Maybe(str)}, "hardware": {}}

SHAPES: dict[str, Any] = {
    "sweep": {"state": str, "experiments": [{"name": str, "group": str}]},
    "results": {
        "benchmark": str,
        "fusion": str,
        "config": {},
        **_AROUND,
        "runs": Some(
            {
                "calibrator": str,
                "perturbed_training": bool,
                "seed": int,
                "parameters": int,
                "clean": _SCORE,
                "corruption": {"*": _SCORE},
                "removal": {"*": _SCORE},
                "detection_auroc": {"*": {"which": Maybe(float), "whether": Maybe(float)}},
            }
        ),
        "comparisons": [_COMPARISON],
    },
    "grid": {
        "benchmark": str,
        "config": {"modalities": [str], "seeds": int, "method": str},
        **_AROUND,
        "rows": Some(
            {
                "row": str,
                "fusion": str,
                "calibrate": str,
                "scores": {"*": {"clean": Some(float), "corruption.mean": Some(float)}},
                "comparisons": [_COMPARISON],
                "majority": float,
                "alone": {"*": [float]},
                "best_alone": Maybe(str),
                "against_alone": {"*": {"difference": float, "p_holm": float}},
            }
        ),
        "overall": [_COMPARISON],
    },
    "removal": {
        "benchmark": str,
        "fusion": str,
        "metric": str,
        "modalities": [str],
        **_AROUND,
        "runs": Some(
            {
                "label": str,
                "seed": int,
                "empty": float,
                "full": float,
                "subsets": [{"present": [str], "score": float, "retained": Maybe(float)}],
                "shapley": {"*": float},
                "shapley_error": Maybe({"*": Maybe(float)}),
                "rates": [_RATE],
                "rate_area": float,
            }
        ),
        "command": str,
    },
    "corruption": {
        "benchmark": str,
        "fusion": str,
        "metric": str,
        "modalities": [str],
        **_AROUND,
        "kinds": [
            {
                "name": str,
                "summary": str,
                "group": str,
                "unit": str,
                "severities": [float],
                "seen": bool,
                "modalities": [str],
                "at": str,
            }
        ],
        "runs": Some(
            {
                "label": str,
                "seed": int,
                "clean": float,
                "kinds": {
                    "*": {
                        "scores": [Maybe(float)],
                        "which": Maybe([Maybe(float)]),
                        "whether": Maybe([Maybe(float)]),
                        "area": Maybe(float),
                    }
                },
                "mean": float,
                "area": float,
                "mean_corruption_error": Maybe(float),
                "worst": {"kind": str, "severity": int, "score": float},
                "diagram": Maybe(
                    {
                        "edges": [float],
                        "predicted": [Maybe(float)],
                        "intact": [Maybe(float)],
                        "count": [int],
                        "error": Maybe(float),
                    }
                ),
            }
        ),
        "oracle": [{"label": str, "seed": int, "kinds": {"*": {"scores": [Maybe(float)]}}, "mean": float}],
        "covered": [{"label": str, "twin": str, "share": Maybe(float), "by_kind": {"*": Maybe(float)}}],
        "command": str,
    },
    "dynamics": {
        "benchmark": str,
        "fusion": str,
        "modalities": [str],
        **_AROUND,
        "runs": Some(
            {
                "label": str,
                "seed": int,
                "seconds": float,
                "observing_seconds": float,
                "series": [{"quantity": str, "of": str, "step": [int], "value": [Maybe(float)]}],
                "stability": {
                    "loss_variance": Maybe(float),
                    "spikes": int,
                    "final_score": Maybe(float),
                    "sharpness": Maybe(float),
                },
            }
        ),
        "summary": [
            {
                "label": str,
                "seeds": int,
                "loss_variance": _SPREAD,
                "spikes": _SPREAD,
                "final_score": _SPREAD,
                "sharpness": _SPREAD,
            }
        ],
        "command": str,
    },
    "features": {
        "benchmark": str,
        "fusion": str,
        "label": str,
        "seed": int,
        "modalities": [str],
        "classes": [str],
        **_AROUND,
        "points": {
            "id": [str],
            "label": [int],
            "prediction": [int],
            "reliability": {"*": [Maybe(float)]},
            "maps": {"*": {"*": _MAP}},
        },
        "separation": {"*": {"silhouette": _TWO, "probe": _TWO}},
        "gates": {
            "by_class": {"*": [[Maybe(float)]]},
            "by_corruption": {"kinds": [str], "values": {"*": [[Maybe(float)]]}},
        },
        "agreement": [{"condition": str, "support": [[Maybe(float)]], "conflict": [[Maybe(float)]]}],
        "distrusted": [
            {
                "id": str,
                "modality": str,
                "reliability": float,
                "usual": float,
                "z": float,
                "label": str,
                "prediction": str,
                "right": bool,
                "supported_by": Maybe(str),
                "contradicted_by": Maybe(str),
            }
        ],
        "command": str,
    },
    "check": {"folder": str, "failed": bool, "findings": [{"level": str, "subject": str, "text": str}]},
}

_WORDS = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}


def fault_of(value: Any, shape: Any, place: str = "") -> str | None:  # noqa: ANN401 - a document holds anything
    """Return what is wrong with a document in a phrase, e.g. "lacks runs[0].seed"; None where nothing is.

    Args:
        value: the document, or a part of it.
        shape: what it should be.
        place: where the part stands.
    """
    if isinstance(shape, Maybe):
        return None if value is None else fault_of(value, shape.shape, place)
    if isinstance(shape, dict):
        return _fault_of_object(value, shape, place)
    if isinstance(shape, (list, Some)):
        inner = shape.shape if isinstance(shape, Some) else shape[0]
        if not isinstance(value, list):
            return _other(place, "a list", value)
        if isinstance(shape, Some) and not value:
            return f"holds nothing in {place}"
        faults = (fault_of(one, inner, f"{place}[{number}]") for number, one in enumerate(value))
        return next((fault for fault in faults if fault is not None), None)
    wanted = (int, float) if shape is float else shape
    if not isinstance(value, wanted) or (isinstance(value, bool) and shape is not bool):
        return _other(place, _WORDS[shape], value)
    return None


def _fault_of_object(value: Any, shape: dict[str, Any], place: str) -> str | None:  # noqa: ANN401
    if not isinstance(value, dict):
        return _other(place, "an object", value)
    wanted = dict.fromkeys(value, shape["*"]) if "*" in shape else shape
    for key, inner in wanted.items():
        path = f"{place}.{key}" if place else key
        if key not in value:
            return f"lacks {path}"
        fault = fault_of(value[key], inner, path)
        if fault is not None:
            return fault
    return None


def _other(place: str, wanted: str, found: object) -> str:
    return f"must hold {wanted} as {place or 'a whole'}; found {type(found).__name__}"
