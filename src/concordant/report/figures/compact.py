"""Plain JSON without its repetitions, which keeps a page of many figures small.

A list or object that occurs more than once is kept once, in a pool; {"$": n} stands for entry n. The style of a trace
is set apart from its values under "&", since many traces share it. The page's script puts both back.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

SHORT = 24  # characters below which a repetition costs nothing


def compact(value: Any) -> dict[str, Any]:  # noqa: ANN401 - plain JSON
    """Return {"value": ..., "pool": [...]} without repetitions.

    >>> row = list(range(20))
    >>> compact({"a": row, "b": row})["value"]
    {'a': {'$': 0}, 'b': {'$': 0}}
    """
    counts: Counter[str] = Counter()
    pool: list[Any] = []
    places: dict[str, int] = {}

    def count(one: Any) -> None:  # noqa: ANN401
        if isinstance(one, (dict, list)):
            counts[json.dumps(one)] += 1
            for inner in one.values() if isinstance(one, dict) else one:
                count(inner)

    def shorten(one: Any) -> Any:  # noqa: ANN401
        if not isinstance(one, (dict, list)):
            return one
        text = json.dumps(one)
        if text not in places:
            short: Any = [*map(shorten, one)] if isinstance(one, list) else {key: shorten(x) for key, x in one.items()}
            if len(text) <= SHORT or counts[text] < 2:
                return short
            places[text] = len(pool)
            pool.append(short)
        return {"$": places[text]}

    count(value)
    return {"value": shorten(value), "pool": pool}


def apart(trace: dict[str, Any]) -> dict[str, Any]:
    """Return a trace with its style, everything but lists, set apart from its values.

    >>> apart({"type": "bar", "y": [1, 2]})
    {'&': {'type': 'bar'}, 'y': [1, 2]}
    """
    values = {key: one for key, one in trace.items() if isinstance(one, list)}
    return {"&": {key: one for key, one in trace.items() if key not in values}, **values}
