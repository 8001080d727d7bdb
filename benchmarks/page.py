"""docs/performance.md and docs/performance-gpu.md, made of a document of `python -m benchmarks.speed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.report.record import Cell
from concordant.speed import overhead_section, table

Document = Mapping[str, Any]
Record = Mapping[str, Any]

HEAD = """# Performance

Made by `{command} --json results/speed.json --page docs/performance.md`; the numbers are
those of the JSON file. All are ratios of things that took turns in one run, medians over turns, on one thread, in the
processor's seconds: machines are shared, and a time by itself says little.
{made}
"""

COMPILE = """## Compile where the cost matters

A calibrator has one computation for eager, compiled, vectorised and exported code; it is not tuned for small inputs.
Where its share of a step matters, compile the model, or the calibrator alone:

```python
calibrate = torch.compile(calibrate)  # on a CPU, and on a GPU
calibrate = torch.compile(calibrate, mode="reduce-overhead")  # on a GPU: all operators start at once, as a CUDA graph
```

On a CPU that takes a C++ compiler. It joins the small operators of the comparison and fuses those on features. NaN and
infinity are refused as in eager code, for which a GPU is waited for once; with `nonfinite="absent"` there is no wait.
"""

TRIED = """That is why the bounds on vectors are missed: 1.5 leaves a calibrator, with its comparison, unimodal
predictions, losses and their backward, half as many operators as the whole model has. The numbers are those of an
earlier version, which had a second computation for vectors of one size; one path replaced both, at the expense of small
vectors. Tried without gain: `torch.compile` of the calibrator in training, whose random numbers cost what it saves;
freezing, and fewer guards; the memory allocator's settings. Seeds at once gain where operators are small; a
transformer's are large enough to be bound by their work, and one pass over all seeds then only asks more of the caches,
therefore `auto` trains such a model run by run. On [a GPU](performance-gpu.md) operators wait for the host that starts
them, and there both bounds on seeds are kept. `context` is dearer than `joint` by the losses that teach it, the
contrastive one and that of the unimodal predictions.
"""

GPU_HEAD = """# Performance on a GPU

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


@dataclass(frozen=True)
class Target:
    """A bound on one number of the records of a section that have the fields `where`."""

    what: str
    section: str
    where: Mapping[str, Any]
    limit: float
    field: str = "ratio"
    at_least: bool = False

    def measured(self, document: Mapping[str, Any]) -> list[float]:
        """Return the numbers that the bound is for; none where they were not measured."""
        return [
            record[self.field]
            for record in document.get(self.section, [])
            if all(record.get(key) == value for key, value in self.where.items())
        ]

    def kept(self, value: float) -> bool:
        """Say whether a number keeps to the bound."""
        return value >= self.limit if self.at_least else value <= self.limit


def _overheads(what: str, phase: str, limit: float, **where: str) -> Target:
    step = "training step" if phase == "train" else "inference"
    fields = {"preset": "small", "calibrator": "context", "phase": phase, **where}
    return Target(f"{what}, {step}, `context` over `none`", "overhead", fields, limit)


_MULT = {"fusion": "mult", "setting": "unaligned"}
_VECTORS = {"fusion": "lf-dnn", "setting": "vectors"}
_MAPS = [
    {"fusion": fusion, "setting": "audio-visual"}
    for fusion in ("sum", "concat", "film", "gated", "mmtm", "centralnet", "attention")
]
TARGETS = (
    *(_overheads(f"`{where['fusion']}` of ResNet-18 at 112 pixels", "train", 1.05, **where) for where in _MAPS),
    _overheads("`mult` at the lengths of CMU-MOSI", "train", 1.08, **_MULT),
    _overheads("`lf-dnn` on vectors", "train", 1.5, **_VECTORS),
    *(_overheads(f"`{where['fusion']}` of ResNet-18 at 112 pixels", "inference", 1.03, **where) for where in _MAPS),
    _overheads("`mult` at the lengths of CMU-MOSI", "inference", 1.05, **_MULT),
    _overheads("`lf-dnn` on vectors", "inference", 1.4, **_VECTORS),
    *(
        Target(
            f"the calibrator alone on three modalities of (64, 500, 512), evaluation, over the bound {memory}",
            "bandwidth_bound",
            {"calibrator": "context", "shape": [64, 500, 512], "masked": False, "compiled": False},
            1.5,
            field=field,
        )
        for field, memory in (("ratio", "with results in new memory"), ("warm_ratio", "in memory written before"))
    ),
    Target(
        "ten seeds at once over one after another, `lf-dnn` on `cmu-mosi-utterance`",
        "vectorised_seeds",
        {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "calibrator": "context", "seeds": 10},
        4.0,
        field="speedup",
        at_least=True,
    ),
    Target(
        "ten seeds at once over one after another, `transformer` on `utd-mhad`",
        "vectorised_seeds",
        {
            "benchmark": "utd-mhad",
            "fusion": "transformer",
            "modalities": ["skeleton", "inertial", "depth"],
            "seeds": 10,
        },
        2.5,
        field="speedup",
        at_least=True,
    ),
)


def page(document: Document) -> str:
    """Return the page of one document."""
    gpu = document.get("device", "cpu") != "cpu"
    hardware = document["hardware"]
    made = [f"{hardware['processor']}, {hardware['cores']} cores, accelerator {hardware['accelerator']}"]
    made += [f"{name} {version}" for name, version in document["versions"].items()]
    head = (GPU_HEAD if gpu else HEAD).format(command=document["command"], made=f"Here: {', '.join(made)}.")
    names = ("bandwidth_bound", "vectorised_seeds", "overhead") if gpu else tuple(SECTIONS)
    makers = {**SECTIONS, "bandwidth_bound": _bound_of_accelerator} if gpu else SECTIONS
    texts = [head]
    texts += [f"{document['remark_of_all']}\n"] if document.get("remark_of_all") else []
    texts += [] if gpu else [_targets(document)]
    for name in names:
        if document.get(name):
            texts.append(makers[name](document[name]))
            if name == "bandwidth_bound":
                texts += [f"{document['remark']}\n"] if document.get("remark") else []
                texts += [READ] if gpu else []
            if name == "vectorised_seeds" and gpu:
                texts.append(_apart(document[name]))
    texts.append("".join(f"Not measured: {line}.\n" for line in document.get("skipped", [])))
    texts += [COMPILE] if document.get("overhead") else []
    return "\n".join(text for text in texts if text).rstrip("\n") + "\n"


def _targets(document: Document) -> str:
    rows: list[list[Any]] = []

    def row(what: str, bound: str, kept: bool, value: float) -> None:
        rows.append([what, bound, Cell("kept") if kept else Cell("missed", strong=True), value])

    for target in TARGETS:
        for value in target.measured(document):
            row(
                target.what,
                f"{'at least' if target.at_least else 'at most'} {target.limit:g}",
                target.kept(value),
                value,
            )
    over = [one for one in dearer_than_joint(document) if one["preset"] == "small"]
    for phase, step in (("train", "training step"), ("inference", "inference")):
        dearest = max((one for one in over if one["phase"] == phase), key=lambda one: one["ratio"], default=None)
        if dearest is not None:
            what = f"{step}, `context` over `joint`, at its dearest (`{dearest['fusion']}`, {dearest['setting']})"
            row(what, "at most 1.1", dearest["ratio"] <= 1.1, dearest["ratio"])
    lines = table(["what", "bound", "", "measured"], rows, words=3)
    return f"## What it is held to\n\n{lines}" if rows else ""


def dearer_than_joint(document: Document) -> list[dict[str, Any]]:
    """Return the time of `context` over that of `joint` per fusion and phase; it is held to 1.1."""
    keys, records = ("setting", "fusion", "preset", "phase"), document.get("overhead", [])
    joint = {tuple(r[key] for key in keys): r["ratio"] for r in records if r["calibrator"] == "joint"}
    places = {tuple(r[key] for key in keys): r["ratio"] for r in records if r["calibrator"] == "context"}
    return [
        {**dict(zip(keys, place, strict=True)), "ratio": round(ratio / joint[place], 3)}
        for place, ratio in places.items()
        if place in joint
    ]


def _overhead(records: Sequence[Record]) -> str:
    rows = [
        [
            *(f"`{r['fusion']}`", r["preset"], r["setting"], r["calibrator"]),
            *(_spread(r, field) for field in ("compiled", "compiled_over_none")),
        ]
        for r in records
        if "compiled" in r
    ]
    columns = ["fusion", "preset", "inputs", "calibrator", "over `none` as it is", "over `none` compiled"]
    compiled = [
        "Inference compiled as a whole by `torch.compile`, which joins small operators, over that of `none` as it is",
        "and compiled too:\n",
        table(columns, rows, words=4),
    ]
    return "\n".join([overhead_section(records), *(compiled if rows else [])])


def _bandwidth(records: Sequence[Record]) -> str:
    rows = [[_shape(r), _yes(r["masked"]), _yes(r["compiled"]), _spread(r), _spread(r, "warm_ratio")] for r in records]
    return _section(
        "The calibrator alone, against memory",
        "Evaluation, float32, three modalities of each shape. The bound is what no calibrator can do without: read\n"
        "every feature to summarise it, read it again to scale it, and write the result, measured beside it as one\n"
        "read and one copy into new memory, as any result; *warm*: into memory that was written before, which is\n"
        "faster by what the system takes to provide new pages.",
        ["shape", "masked", "compiled", "over the bound", "over the warm bound"],
        rows,
        words=3,
    )


def _bound_of_accelerator(records: Sequence[Record]) -> str:
    def how(r: Record) -> str:
        return "eager" if not r["compiled"] else ", ".join(["compiled", *([r["mode"]] if r.get("mode") else [])])

    return _section(
        "The calibrator alone, against memory",
        "Evaluation, float32, `context`, three modalities of each shape, over one read of all features and one copy.",
        ["shape", "masked", "run", "over the bound", "bound, ms"],
        [[_shape(r), _yes(r["masked"]), how(r), _spread(r), float(r["bound_milliseconds"])] for r in records],
        words=3,
    )


def _vectorised(records: Sequence[Record]) -> str:
    rows = [
        [
            *(r["benchmark"], f"`{r['fusion']}`", ", ".join(r["modalities"]), r["calibrator"], r["seeds"], r["steps"]),
            *(_spread(r, "speedup"), "yes" if r["chosen"] else "no"),
        ]
        for r in records
    ]
    return _section(
        "Many seeds at once",
        "Whole trainings in one vectorised pass, over the same trainings one after another (median, least, most).\n"
        "Where operators are large, sharing their start saves nothing, and `concordant run` trains run by run\n"
        "(*auto*: no).",
        ["benchmark", "fusion", "modalities", "calibrator", "seeds", "steps", "times faster", "auto"],
        rows,
        words=4,
    )


def _apart(records: Sequence[Record]) -> str:
    loss, score = (max(r[f"{name}_apart"] for r in records) for name in ("loss", "score"))
    return (
        "A step of all seeds, their draws, forward and backward, is one CUDA graph, which the\n"
        "host starts at once instead of operator by operator. One after another every operator is started by\n"
        "the host, which the device waits for. To prepare a pass takes a second or two; the more steps, the\n"
        "less that weighs. Draws are those of single runs to the last bit; sums are not, and what rounding there does\n"
        f"grows with training: a mean loss was {loss:.2g} apart at the most, and a validation score {score:.2g}.\n"
    )


def _epoch(records: Sequence[Record]) -> str:
    first = records[0]
    return _section(
        "Loading",
        f"An epoch (`{first['fusion']}`, `context`, {first['instances']} sequences of CMU-MOSI's sizes)\n"
        "by how its batches come, by the clock: over the epoch with the data in memory, and the share of it\n"
        "that is spent waiting for data. The plain loop is PyTorch's DataLoader over tensors in memory.",
        ["data", "over in memory", "waiting"],
        [[r["route"], _spread(r), f"{r['loading_share']:.1%}"] for r in records],
        words=1,
    )


def _operators(records: Sequence[Record]) -> str:
    return (
        _counted(
            records,
            "Operators",
            "PyTorch takes some microseconds to start an operator, whatever its size. A model on vectors is bound by\n"
            "that, and there a calibrator's cost is the number of its operators; on sequences and maps they vanish\n"
            "beside the model's own work.",
            "operators",
            "operators",
        )
        + f"\n{TRIED}"
    )


def _memory(records: Sequence[Record]) -> str:
    text = "What the allocator had handed out at most, beyond what was there before the step or call."
    return _counted(records, "Peaks of memory", text, "peak_mebibytes", "peak, MiB")


def _counted(records: Sequence[Record], title: str, text: str, field: str, column: str) -> str:
    rows = [
        [f"`{r['fusion']}`", r["setting"], r["phase"], r["calibrator"], r[field], float(r["ratio"])] for r in records
    ]
    columns = ["fusion", "inputs", "phase", "calibrator", column, "over `none`"]
    return _section(title, text, columns, rows, words=4)


def _growth(records: Sequence[Record]) -> str:
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
        text += [f"{axis.capitalize()} ({fixed}):\n", table(columns, rows, words=2)]
    return "\n".join(text)


def _rows(records: Sequence[Record]) -> str:
    (record,) = records
    columns = [f"{count:,} rows" for count in record["rows"]]
    lines = table(columns, [[float(value) for value in record["ratio"]]], words=0)
    return f"A training step (`lf-dnn`, `context`, data in memory) over that on the smallest dataset:\n\n{lines}"


SECTIONS = {
    "overhead": _overhead,
    "bandwidth_bound": _bandwidth,
    "vectorised_seeds": _vectorised,
    "epoch": _epoch,
    "operators": _operators,
    "memory": _memory,
    "growth": _growth,
    "rows": _rows,
}


def _section(title: str, text: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, words: int) -> str:
    return f"## {title}\n\n{text}\n\n{table(columns, rows, words=words)}"


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _shape(record: Record) -> str:
    return f"({', '.join(map(str, record['shape']))})"


def _spread(record: Record, field: str = "ratio") -> str:
    if f"{field}_low" not in record:
        return f"{record[field]:.2f}"
    return f"{record[field]:.2f} ({record[f'{field}_low']:.2f} to {record[f'{field}_high']:.2f})"
