"""docs/performance-gpu.md, made of what `python -m benchmarks.speed --device cuda` measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
Table = Callable[..., str]

HEAD = """# Performance on a GPU

Made by `{command} --json results/speed-gpu.json --page docs/performance-gpu.md`; the numbers are
those of the JSON file. All are ratios of things that took turns in one run, medians over turns, by the wall clock,
which is read once the device has done what it was given.
{made}
"""

READ = """The device is done with these features before the host has started the operators: the bound is a fraction of a
millisecond, and starting an operator takes the host some ten microseconds. Eager code is therefore bound by the number
of operators, as on small vectors on a CPU. `torch.compile` joins them, and with mode `reduce-overhead` starts all
of them at once as a CUDA graph, for which PyTorch first copies the features to where the graph reads them. Not reached:
1.3 times the bound.
"""


def accelerator_sections(document: Document, *, table: Table) -> list[str]:
    """Return the sections of the page that are an accelerator's own.

    Args:
        document: of `python -m benchmarks.speed --device`.
        table: from columns and rows to Markdown.
    """
    return [text for text in (_bound(document, table),) if text]


def seeds(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is said of many seeds at once on an accelerator, line by line."""
    loss, score = (max(r[f"{name}_apart"] for r in records) for name in ("loss", "score"))
    return [
        "A step of all seeds, their draws, forward and backward, is one CUDA graph, which the",
        "host starts at once instead of operator by operator. One after another every operator is started by",
        "the host, which the device waits for. To prepare a pass takes a second or two; the more steps, the",
        "less that weighs. Draws are those of single runs to the last bit; sums are not, and what rounding there does",
        f"grows with training: a mean loss was {loss:.2g} apart at the most, and a validation score {score:.2g}.",
        "",
    ]


def _bound(document: Document, table: Table) -> str:
    records = document.get("bandwidth_bound", [])
    if not records:
        return ""
    rows = [[_shape(r), "yes" if r["masked"] else "", _how(r), _spread(r), _bound_of(r)] for r in records]
    columns = ["shape", "masked", "run", "over the bound", "bound, ms"]
    lines = [
        "## The calibrator alone, against memory\n",
        "Evaluation, float32, `context`, three modalities of each shape, over one read of all features and one copy.\n",
        table(columns, rows, words=3),
        "",
        *([f"{document['remark']}\n"] if document.get("remark") else []),
        READ,
    ]
    return "\n".join(lines)


def _how(record: Mapping[str, Any]) -> str:
    if not record["compiled"]:
        return "eager"
    return "compiled" if record.get("mode") is None else f"compiled, {record['mode']}"


def _shape(record: Mapping[str, Any]) -> str:
    sizes: Sequence[int] = record["shape"]
    return f"({', '.join(map(str, sizes))})"


def _spread(record: Mapping[str, Any]) -> str:
    return f"{record['ratio']:.2f} ({record['ratio_low']:.2f} to {record['ratio_high']:.2f})"


def _bound_of(record: Mapping[str, Any]) -> float:
    return float(record["bound_milliseconds"])
