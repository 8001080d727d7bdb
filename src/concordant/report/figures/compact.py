"""Plain JSON values without their repetitions, so that a page of many figures stays small.

A list or object that occurs more than once is kept once, in a pool; {"$": n} stands for entry n. What traces have
in common, their style, is set apart under "&", so that it can be one. The page's script puts all of it back.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

SHORT = 24  # characters below which a repetition costs nothing


def compact(value: Any) -> dict[str, Any]:  # noqa: ANN401 - plain JSON
    """Return {"pool": [...], "value": ...} without repetitions.

    >>> row = list(range(20))
    >>> compact({"a": row, "b": row})["value"]
    {'a': {'$': 0}, 'b': {'$': 0}}
    """
    counts: Counter[str] = Counter()
    _count(value, counts)
    pool: list[Any] = []
    places: dict[str, int] = {}

    def shorten(one: Any) -> tuple[Any, str]:  # noqa: ANN401
        if not isinstance(one, (dict, list)):
            return one, json.dumps(one)
        if isinstance(one, dict):
            pairs = {key: shorten(inner) for key, inner in one.items()}
            short: Any = {key: inner for key, (inner, _) in pairs.items()}
            text = _object({key: inner for key, (_, inner) in pairs.items()})
        else:
            entries = [shorten(inner) for inner in one]
            short, text = [inner for inner, _ in entries], _list([inner for _, inner in entries])
        if len(text) <= SHORT or counts[text] < 2:
            return short, text
        if text not in places:
            places[text] = len(pool)
            pool.append(short)
        return {"$": places[text]}, text

    return {"value": shorten(value)[0], "pool": pool}


def apart(trace: dict[str, Any]) -> dict[str, Any]:
    """Return a trace with its style, all that is no list, set apart from its values.

    >>> apart({"type": "bar", "y": [1, 2]})
    {'&': {'type': 'bar'}, 'y': [1, 2]}
    """
    values = {key: one for key, one in trace.items() if isinstance(one, list)}
    return {"&": {key: one for key, one in trace.items() if key not in values}, **values}


def expanded(found: dict[str, Any]) -> Any:  # noqa: ANN401 - plain JSON
    """Return the value that `compact` was given, with what was set apart put back."""

    def put_back(one: Any) -> Any:  # noqa: ANN401
        if isinstance(one, list):
            return [put_back(inner) for inner in one]
        if not isinstance(one, dict):
            return one
        if "$" in one:
            return put_back(found["pool"][one["$"]])
        style = put_back(one["&"]) if "&" in one else {}
        return {**style, **{key: put_back(inner) for key, inner in one.items() if key != "&"}}

    return put_back(found["value"])


def _count(value: Any, counts: Counter[str]) -> str:  # noqa: ANN401
    """Count how often every list and object occurs; return the value's text."""
    if isinstance(value, dict):
        text = _object({key: _count(one, counts) for key, one in value.items()})
    elif isinstance(value, list):
        text = _list([_count(one, counts) for one in value])
    else:
        return json.dumps(value)
    counts[text] += 1
    return text


def _object(texts: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in texts.items()) + "}"


def _list(texts: list[str]) -> str:
    return f"[{','.join(texts)}]"
