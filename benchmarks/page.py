"""docs/performance.md and docs/performance-gpu.md, made of a document of `python -m benchmarks.speed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.page_accelerator import HEAD as GPU_HEAD
from benchmarks.page_accelerator import accelerator_sections
from benchmarks.page_accelerator import seeds as _seeds_on_gpu
from benchmarks.targets import TARGETS, dearer_than_joint
from concordant.speed import overhead_section, table

Document = Mapping[str, Any]

HEAD = """# Performance

Made by `{command} --json results/speed.json --page docs/performance.md`; the numbers are
those of the JSON file. All are ratios of things that took turns in one run, medians over turns, on one thread, in the
processor's seconds: machines are shared, and a time by itself says little.
{made}
"""

TRIED = """That is why the bounds on vectors are missed: 1.5 leaves a calibrator, with its comparison, opinions,
losses and their backward, half as many operators as the whole model has. What was done about it: modalities of one
size go through one operation each, comparison and opinions are one product, all cues are picked by one index,
statistics are learnt together, the contrastive loss has its gradient written out, vectors are perturbed all at once
(which makes `none` cheaper by as much, so that the time falls and the ratio rises), finite features are told from
their summaries. Tried without gain: `torch.compile` of the calibrator in training, whose random numbers cost what it
saves; freezing, and fewer guards; the memory allocator's settings. Compiled as a whole, inference takes about half as
long (above), which is not enough. Seeds at once gain where operators are small: of a step of ten on vectors much is
matrix products by now, and the random draws of every seed by itself, which nothing is shared of, so that sparing a
single step its operators makes the gain smaller. A transformer's are large enough to be bound by their work, and one
pass over all seeds then only asks more of the caches, so `auto` trains such a model run by run. On [a
GPU](performance-gpu.md) operators wait for the host that starts them, and there both bounds on seeds are kept.
`context` is dearer than `joint` by the losses that teach it, the contrastive one and that of the opinions.
"""


def page(document: Document) -> str:
    """Return the page of one document of `python -m benchmarks.speed`."""
    sections = (_targets, _overhead, _bandwidth, _vectorised, _epoch, _operators, _memory, _growth, _rows, _skipped)
    gpu = document.get("device", "cpu") != "cpu"
    hardware = document["hardware"]
    made = [f"{hardware['processor']}, {hardware['cores']} cores, accelerator {hardware['accelerator']}"]
    made += [f"{name} {version}" for name, version in document["versions"].items()]
    head = (GPU_HEAD if gpu else HEAD).format(command=document["command"], made=f"Here: {', '.join(made)}.")
    if gpu:
        own = accelerator_sections(document, table=table)
        texts = [*own, _vectorised(document), _overhead(document), _skipped(document)]
    else:
        texts = [section(document) for section in sections]
    said = [f"{document['remark_of_all']}\n"] if document.get("remark_of_all") else []
    return "\n".join([head, *said, *(text for text in texts if text)]).rstrip("\n") + "\n"


def _spread(record: Mapping[str, Any], field: str = "ratio") -> str:
    if f"{field}_low" not in record:
        return f"{record[field]:.2f}"
    return f"{record[field]:.2f} ({record[f'{field}_low']:.2f} to {record[f'{field}_high']:.2f})"


def _targets(document: Document) -> str:
    rows = []
    for target in TARGETS:
        for value in target.measured(document):
            bound = f"{'at least' if target.at_least else 'at most'} {target.limit:g}"
            rows.append([target.what, bound, "kept" if target.kept(value) else "**missed**", value])
    over = [one for one in dearer_than_joint(document) if one["preset"] == "small"]
    for phase, step in (("train", "training step"), ("inference", "inference")):
        dearest = max((one for one in over if one["phase"] == phase), key=lambda one: one["ratio"], default=None)
        if dearest is not None:
            what = f"{step}, `context` over `joint`, at its dearest (`{dearest['fusion']}`, {dearest['setting']})"
            rows.append([what, "at most 1.1", "kept" if dearest["ratio"] <= 1.1 else "**missed**", dearest["ratio"]])
    if not rows:
        return ""
    return "## What it is held to\n\n" + table(["what", "bound", "", "measured"], rows, words=3) + "\n"


def _overhead(document: Document) -> str:
    records = document.get("overhead", [])
    return "\n".join([overhead_section(records), *_compiled(records)]) if records else ""


def _compiled(records: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            f"`{record['fusion']}`",
            record["preset"],
            record["setting"],
            record["calibrator"],
            _spread(record, "compiled"),
            _spread(record, "compiled_over_none"),
        ]
        for record in records
        if "compiled" in record
    ]
    if not rows:
        return []
    columns = ["fusion", "preset", "inputs", "calibrator", "over `none` as it is", "over `none` compiled"]
    return [
        "Inference compiled as a whole by `torch.compile`, which joins small operators, over that of `none` as it is",
        "and compiled too:\n",
        table(columns, rows, words=4),
        "",
    ]


def _bandwidth(document: Document) -> str:
    records = document.get("bandwidth_bound", [])
    if not records:
        return ""
    rows = [
        [
            f"({', '.join(map(str, record['shape']))})",
            "yes" if record["masked"] else "",
            "yes" if record["compiled"] else "",
            _spread(record),
            _spread(record, "warm_ratio"),
        ]
        for record in records
    ]
    return "\n".join(
        [
            "## The calibrator alone, against memory\n",
            "Evaluation, float32, three modalities of each shape. The bound is what no calibrator can do without: read",
            "every feature to summarise it, read it again to scale it, and write the result, measured beside it as one",
            "read and one copy into new memory, as any result; *warm*: into memory that was written before, which is",
            "faster by what the system takes to provide new pages.\n",
            table(["shape", "masked", "compiled", "over the bound", "over the warm bound"], rows, words=3),
            "",
            *([f"{document['remark']}\n"] if document.get("remark") else []),
        ]
    )


def _vectorised(document: Document) -> str:
    records = document.get("vectorised_seeds", [])
    if not records:
        return ""
    rows = [
        [
            r["benchmark"],
            f"`{r['fusion']}`",
            ", ".join(r["modalities"]),
            r["calibrator"],
            r["seeds"],
            r["steps"],
            _spread(r, "speedup"),
            "yes" if r["chosen"] else "no",
        ]
        for r in records
    ]
    columns = ["benchmark", "fusion", "modalities", "calibrator", "seeds", "steps", "times faster", "auto"]
    return "\n".join(
        [
            "## Many seeds at once\n",
            "Whole trainings in one vectorised pass, over the same trainings one after another (median, least, most).",
            "Where operators are large, sharing their start saves nothing, and `concordant run` trains run by run",
            "(*auto*: no).\n",
            table(columns, rows, words=4),
            "",
            *(_seeds_on_gpu(records) if document.get("device", "cpu") != "cpu" else []),
        ]
    )


def _epoch(document: Document) -> str:
    records = document.get("epoch", [])
    if not records:
        return ""
    first = records[0]
    rows = [[record["route"], _spread(record), f"{record['loading_share']:.1%}"] for record in records]
    return "\n".join(
        [
            "## Loading\n",
            f"An epoch (`{first['fusion']}`, `context`, {first['instances']} sequences of CMU-MOSI's sizes)",
            "by how its batches come, by the clock: over the epoch with the data in memory, and the share of it",
            "that is spent waiting for data. The plain loop is PyTorch's DataLoader over tensors in memory.\n",
            table(["data", "over in memory", "waiting"], rows, words=1),
            "",
        ]
    )


def _operators(document: Document) -> str:
    records = document.get("operators", [])
    if not records:
        return ""
    rows = [
        [f"`{r['fusion']}`", r["setting"], r["phase"], r["calibrator"], r["operators"], float(r["ratio"])]
        for r in records
    ]
    columns = ["fusion", "inputs", "phase", "calibrator", "operators", "over `none`"]
    return "\n".join(
        [
            "## Operators\n",
            "PyTorch takes some microseconds to start an operator, whatever its size. A model on vectors is bound by",
            "that, and there a calibrator's cost is the number of its operators; on sequences and maps they vanish",
            "beside the model's own work.\n",
            table(columns, rows, words=4),
            "",
            TRIED,
        ]
    )


def _memory(document: Document) -> str:
    records = document.get("memory", [])
    if not records:
        return ""
    rows = [
        [f"`{r['fusion']}`", r["setting"], r["phase"], r["calibrator"], float(r["peak_mebibytes"]), float(r["ratio"])]
        for r in records
    ]
    columns = ["fusion", "inputs", "phase", "calibrator", "peak, MiB", "over `none`"]
    return "\n".join(
        [
            "## Peaks of memory\n",
            "What the allocator had handed out at most, beyond what was there before the step or call.\n",
            table(columns, rows, words=4),
            "",
        ]
    )


def _growth(document: Document) -> str:
    records = document.get("growth", [])
    if not records:
        return ""
    text = [
        "## Growth\n",
        "The calibrator alone, forward and backward in training or forward in evaluation: time over that at the",
        "smallest value, and the exponent between the two largest (1 = linear, below 1 = fixed costs still show).\n",
    ]
    for axis in dict.fromkeys(record["axis"] for record in records):
        mine = [record for record in records if record["axis"] == axis]
        fixed = ", ".join(f"{value:,} {name}" for name, value in mine[0]["fixed"].items())
        columns = ["calibrator", "phase", *(f"{value:,}" for value in mine[0]["values"]), "exponent", "peak/features"]
        rows = [
            [r["calibrator"], r["phase"], *map(float, r["ratio"]), float(r["exponent"]), max(r["peak_over_features"])]
            for r in mine
        ]
        text += [f"{axis.capitalize()} ({fixed}):\n", table(columns, rows, words=2), ""]
    return "\n".join(text)


def _rows(document: Document) -> str:
    records = document.get("rows", [])
    if not records:
        return ""
    (record,) = records
    columns = [f"{count:,} rows" for count in record["rows"]]
    return "\n".join(
        [
            "A training step (`lf-dnn`, `context`, data in memory) over that on the smallest dataset:\n",
            table(columns, [[float(value) for value in record["ratio"]]], words=0),
            "",
        ]
    )


def _skipped(document: Document) -> str:
    return "".join(f"Not measured: {line}.\n" for line in document.get("skipped", []))
