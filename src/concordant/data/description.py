"""Data card of a prepared dataset in Markdown: `concordant data describe`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from concordant.data.store import Store
from concordant.files import markdown_text


def describe(folder: Path) -> str:
    """Return the data card of a dataset.

    Raises:
        DataError: the folder is not a dataset.
    """
    store = Store(folder)
    card = store.card
    count = f"one of {len(card.label.classes)} classes"
    label = {
        "class": f"{count}: {', '.join(card.label.classes)}",
        "segments": f"{count} per segment: {', '.join(card.label.classes)}",
        "real": "one real number",
        "none": "none; for `concordant predict`",
    }[card.label.kind]
    groups = "instances are independent"
    if store.groups is not None:
        groups = f"{len(np.unique(store.groups)):,}, by {card.groups}"
    made = {name: known.preprocessing for name, known in card.modalities.items() if known.preprocessing}
    sections: dict[str, list[str]] = {
        "Modalities": _table(
            ("modality", "kind", "layout", "shape", "stored as", "unit", "rate", "absent", "length"),
            (_modality(store, name) for name in card.modalities),
        ),
        "How they were made": [f"- {name}: `{_code(options)}`" for name, options in made.items()],
        "What was repaired": [f"- {markdown_text(f'{name}: {text}')}" for name, text in card.repairs.items()],
        "What to know": [f"- {markdown_text(note)}" for note in card.notes],
        "Made of": _table(("file", "SHA-256"), ((f"`{one.file}`", f"`{one.sha256}`") for one in card.sources)),
        "Reading it": [
            *("```python", "from concordant.data.store import Store", ""),
            *(f'store = Store("{folder.as_posix()}")', "store[0].features  # modality -> array", "```"),
        ],
    }
    lines = [
        *(f"# {markdown_text(card.name)}", ""),
        *(f"{len(store):,} instances of {len(card.modalities)} modalities; label: {markdown_text(label)}.", ""),
        *_table(("split", "instances"), ((split, f"{len(store.rows(split)):,}") for split in card.splits)),
        *("", f"Groups: {markdown_text(groups)}.", ""),
    ]
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""] if content else []
    return "\n".join(lines)


def _modality(store: Store, name: str) -> tuple[str, ...]:
    known, lengths = store.card.modalities[name], store.lengths(name)
    present = lengths[lengths > 0]
    length = "-"
    if known.time is not None and len(present):
        length = f"{present.min()} to {present.max()}, median {np.median(present):g}"
    shape = " x ".join("T" if size is None else str(size) for size in known.shape)
    rate = "-" if known.rate is None else f"{known.rate:g} Hz"
    absent = f"{100 * float((lengths == 0).mean()):.1f} %"
    return name, known.kind, known.layout, shape, known.dtype, known.unit or "-", rate, absent, length


def _code(options: object) -> str:
    return markdown_text(json.dumps(options, sort_keys=True)).replace("`", "'")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    found = list(rows)
    lines = [header, ("---",) * len(header), *found] if found else []
    return ["| " + " | ".join(map(markdown_text, line)) + " |" for line in lines]
