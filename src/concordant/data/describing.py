"""A prepared dataset as a data card in Markdown: `concordant data describe`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from concordant.data.store import Store


def describe(folder: Path) -> str:
    """Return the data card of a dataset.

    Raises:
        DataError: the folder is no dataset.
    """
    store = Store(folder)
    card = store.card
    label = {
        "class": f"one of {len(card.label.classes)} classes: {', '.join(card.label.classes)}",
        "segments": f"one of {len(card.label.classes)} classes a segment: {', '.join(card.label.classes)}",
        "real": "one real number",
    }[card.label.kind]
    groups = "instances are independent"
    if store.groups is not None:
        groups = f"{len(np.unique(store.groups)):,}, by {card.groups}"
    lines = [
        f"# {card.name}",
        "",
        f"{len(store):,} instances of {len(card.modalities)} modalities; label: {_plain(label)}.",
        "",
        *_table(("split", "instances"), [(split, f"{len(store.rows(split)):,}") for split in card.splits]),
        "",
        f"Groups: {groups}.",
        "",
        "## Modalities",
        "",
        *_table(("modality", "kind", "layout", "shape", "stored as", "unit", "rate", "absent", "length"), _rows(store)),
    ]
    made = {name: known.preprocessing for name, known in card.modalities.items() if known.preprocessing}
    if made:
        lines += ["", "## How they were made", ""]
        lines += [f"- {name}: `{json.dumps(options, sort_keys=True)}`" for name, options in made.items()]
    if card.repairs:
        lines += ["", "## What was repaired", "", *(f"- {name}: {text}" for name, text in card.repairs.items())]
    if card.notes:
        lines += ["", "## What to know", "", *(f"- {_plain(note)}" for note in card.notes)]
    if card.sources:
        lines += ["", "## Made of", ""]
        lines += _table(("file", "SHA-256"), [(f"`{one.file}`", f"`{one.sha256}`") for one in card.sources])
    lines += ["", "## Reading it", "", "```python", "from concordant.data.store import Store", ""]
    lines += [f'store = Store("{folder.as_posix()}")', "store[0].features  # modality -> array", "```", ""]
    return "\n".join(lines)


def _rows(store: Store) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, known in store.card.modalities.items():
        lengths = store.lengths(name)
        there = lengths[lengths > 0]
        length = "-"
        if known.time is not None and len(there):
            length = f"{there.min()} to {there.max()}, median {np.median(there):g}"
        shape = " x ".join("T" if size is None else str(size) for size in known.shape)
        rate = "-" if known.rate is None else f"{known.rate:g} Hz"
        absent = f"{100 * float((lengths == 0).mean()):.1f} %"
        found.append((name, known.kind, known.layout, shape, known.dtype, known.unit or "-", rate, absent, length))
    return found


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [header, tuple("---" for _ in header), *rows]
    return ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines]


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
