"""docs/performance.md and docs/performance-gpu.md, made of a document of `python -m benchmarks.speed`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from concordant.report.record import Cell
from concordant.speed import PHASES, overhead_section, table

Document = Mapping[str, Any]
Record = Mapping[str, Any]
Columns = Mapping[str, Callable[[Record], Any]]  # heading -> function from a record to a cell

HEAD = """# Performance

What a calibrator costs in time and memory. Every time is a ratio of two things that were measured in turns in one
run: the median over turns, in processor time of one thread, and for [loading](#loading) by the wall clock. Such ratios
can be measured on a shared machine, where times alone cannot.

Made by `{command} --json results/speed.json --page docs/performance.md`.
{made}
"""

COMPILE = """## Compile where the cost matters

Eager, compiled, vectorised and exported code is one computation, which is not tuned for small inputs. Where a
calibrator takes a large share of the time, compile the model, or the calibrator alone:

```python
calibrate = torch.compile(calibrate)  # on a CPU, and on a GPU
calibrate = torch.compile(calibrate, mode="reduce-overhead")  # on a GPU: all operators start at once, as a CUDA graph
```

On a CPU this needs a C++ compiler. Compiling joins the small operators of the comparison, and fuses the operators on
features. NaN and infinity raise an error as in eager code; on a GPU this check waits for the device once per call.
With `nonfinite="absent"` nothing is checked, and nothing waits.
"""

TRIED = """This is why the bounds on vectors are missed: a bound of 1.5 leaves the calibrator half as many operators
as the whole model has, for its comparison, unimodal predictions, losses and backward pass. `torch.compile` of the
calibrator lowers the cost of the step (above) and does not reach the bound. Two other attempts gained nothing: fewer
guards around compiled code, and other settings of the memory allocator. `context` costs more than `joint` because two
losses teach it, the contrastive loss and that of the unimodal predictions.

Several seeds in one pass are faster where operators are small. Operators of a transformer are large enough to keep a
processor busy, and all seeds together need more cache; `auto` therefore trains such a model run by run. On a
[GPU](performance-gpu.md) operators wait for the host that starts them, and ten seeds in one pass are several times
faster.
"""

GPU_HEAD = """# Performance on a GPU

What a calibrator costs on a GPU. Every time is a ratio of two things that were measured in turns in one run: the
median over turns, by the wall clock, which is read after the device has finished.

Made by `{command} --json results/speed-gpu.json --page docs/performance-gpu.md`.
{made}
"""

READ = """The device finishes these features before the host has started the operators: the bound is a fraction of a
millisecond, and the host takes about ten microseconds to start one operator. Eager code is therefore limited by the
number of operators, as on small vectors on a CPU. `torch.compile` joins operators. With mode `reduce-overhead` it
starts all of them at once as a CUDA graph, for which PyTorch first copies the features to where the graph reads them.
The goal of 1.3 times the bound was not reached.
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

    def measured(self, document: Document) -> list[float]:
        """Return the numbers that the bound is for; none where they were not measured."""
        return [
            record[self.field]
            for record in document.get(self.section, [])
            if all(record.get(key) == value for key, value in self.where.items())
        ]

    def kept(self, value: float) -> bool:
        """Return whether a number keeps to the bound."""
        return value >= self.limit if self.at_least else value <= self.limit


MAPS = ("sum", "concat", "film", "gated", "mmtm", "centralnet", "attention")
# Model, fusion, setting, and the bounds on a training step and on inference.
OVERHEADS = (
    *((f"`{fusion}` of ResNet-18 at 112 pixels", fusion, "audio-visual", 1.05, 1.03) for fusion in MAPS),
    ("`mult` at the lengths of CMU-MOSI", "mult", "unaligned", 1.08, 1.05),
    ("`lf-dnn` on vectors", "lf-dnn", "vectors", 1.5, 1.4),
)
TARGETS = (
    *(
        Target(
            f"{model}, {PHASES[phase].lower()}, `context` over `none`",
            "overhead",
            {"preset": "small", "calibrator": "context", "phase": phase, "fusion": fusion, "setting": setting},
            limits[place],
        )
        for place, phase in enumerate(PHASES)
        for model, fusion, setting, *limits in OVERHEADS
    ),
    *(
        Target(
            f"the calibrator alone on three modalities of (64, 500, 512), evaluation, over the bound {memory}",
            "bandwidth_bound",
            {"calibrator": "context", "shape": [64, 500, 512], "masked": False, "compiled": False},
            1.5,
            field,
        )
        for field, memory in (("ratio", "with results in new memory"), ("warm_ratio", "in memory written before"))
    ),
    *(
        Target(
            f"ten seeds at once over one after another, `{where['fusion']}` on `{where['benchmark']}`",
            "vectorised_seeds",
            {**where, "seeds": 10},
            limit,
            "speedup",
            at_least=True,
        )
        for where, limit in (
            ({"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "calibrator": "context"}, 4.0),
            (
                {"benchmark": "utd-mhad", "fusion": "transformer", "modalities": ["skeleton", "inertial", "depth"]},
                2.5,
            ),
        )
    ),
)


def page(document: Document) -> str:
    """Return the page of one document."""
    gpu = document.get("device", "cpu") != "cpu"
    hardware = document["hardware"]
    made = [f"{hardware['processor']}, {hardware['cores']} cores, accelerator {hardware['accelerator']}"]
    made += [f"{name} {version}" for name, version in document["versions"].items()]
    texts = [(GPU_HEAD if gpu else HEAD).format(command=document["command"], made=f"Here: {', '.join(made)}.")]
    texts += [f"{document['remark_of_all']}\n"] if document.get("remark_of_all") else []
    texts += [] if gpu else [_targets(document)]
    for name, section in (GPU_SECTIONS if gpu else SECTIONS).items():
        if document.get(name):
            texts.append(section(document[name]))
            texts += [f"{document['remark']}\n"] if name == "bandwidth_bound" and document.get("remark") else []
            texts += [READ] if name == "bandwidth_bound" and gpu else []
            texts += [_apart(document[name])] if name == "vectorised_seeds" and gpu else []
    texts.append("".join(f"Not measured: {line}.\n" for line in document.get("skipped", [])))
    texts += [COMPILE] if document.get("overhead") else []
    return "\n".join(text for text in texts if text).rstrip("\n") + "\n"


def _targets(document: Document) -> str:
    rows: list[list[Any]] = []
    for target in TARGETS:
        bound = f"{'at least' if target.at_least else 'at most'} {target.limit:g}"
        rows += [[target.what, bound, _kept(target.kept(value)), value] for value in target.measured(document)]
    over = [one for one in dearer_than_joint(document) if one["preset"] == "small"]
    for phase, title in PHASES.items():
        dearest = max((one for one in over if one["phase"] == phase), key=itemgetter("ratio"), default=None)
        if dearest is not None:
            place = f"`{dearest['fusion']}`, {dearest['setting']}"
            what = f"{title.lower()}, `context` over `joint`, at its dearest ({place})"
            rows.append([what, "at most 1.1", _kept(dearest["ratio"] <= 1.1), dearest["ratio"]])
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


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and a table with one row per record.

    Args:
        title: the heading.
        text: the paragraph, in which {field} stands for a field of the first record.
        words: leading columns that hold text.
        columns: heading -> function from a record to a cell.
    """

    title: str
    text: str
    words: int
    columns: Columns

    def __call__(self, records: Sequence[Record]) -> str:
        """Return the section as Markdown."""
        rows = [[cell(record) for cell in self.columns.values()] for record in records]
        text = self.text.format(**records[0])
        return f"## {self.title}\n\n{text}\n\n{table(list(self.columns), rows, words=self.words)}"


def _kept(kept: bool) -> Cell:
    return Cell("kept") if kept else Cell("missed", strong=True)


def _code(record: Record) -> str:
    return f"`{record['fusion']}`"


def _yes(field: str) -> Callable[[Record], str]:
    return lambda record: "yes" if record[field] else ""


def _shape(record: Record) -> str:
    return f"({', '.join(map(str, record['shape']))})"


def _number(field: str) -> Callable[[Record], float]:
    return lambda record: float(record[field])


def _spread(field: str = "ratio") -> Callable[[Record], str]:
    def cell(record: Record) -> str:
        if f"{field}_low" not in record:
            return f"{record[field]:.2f}"
        return f"{record[field]:.2f} ({record[f'{field}_low']:.2f} to {record[f'{field}_high']:.2f})"

    return cell


def _overhead(records: Sequence[Record]) -> str:
    compiled = [record for record in records if "compiled" in record]
    columns = ["fusion", "preset", "inputs", "calibrator", "over `none` as it is", "over `none` compiled"]
    spreads = (_spread("compiled"), _spread("compiled_over_none"))
    rows = [[_code(r), r["preset"], r["setting"], r["calibrator"], *(cell(r) for cell in spreads)] for r in compiled]
    beside = [
        "Inference of a model compiled as a whole, over that of the model with `none`, eager and compiled:\n",
        table(columns, rows, words=4),
    ]
    return "\n".join([overhead_section(records), *(beside if rows else [])])


def _how(record: Record) -> str:
    return ", ".join(["compiled", *filter(None, [record.get("mode")])]) if record["compiled"] else "eager"


def _apart(records: Sequence[Record]) -> str:
    loss, score = (max(r[f"{name}_apart"] for r in records) for name in ("loss", "score"))
    return (
        "A step of all seeds, with draws, forward and backward pass, is one CUDA graph, which the host starts\n"
        "at once. Where seeds are trained one after another, the host starts every operator, and the device waits\n"
        "for it. A pass takes a second or two to prepare. Random draws equal those of single runs bit for bit. Sums\n"
        "differ by rounding, which grows with training: mean losses differed by "
        f"{loss:.2g} at most, validation scores by {score:.2g}.\n"
    )


def _growth(records: Sequence[Record]) -> str:
    text = [
        "## Growth\n",
        "The calibrator alone, forward and backward in training, forward in evaluation. Numbers are times over that at",
        "the smallest value. The exponent is that between the two largest values (1 = linear growth; below 1 = fixed",
        "costs still count).\n",
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


_PLACE: Columns = {"fusion": _code, "inputs": itemgetter("setting")}
_COUNTED: Columns = {**_PLACE, "phase": itemgetter("phase"), "calibrator": itemgetter("calibrator")}
_BANDWIDTH: Columns = {"shape": _shape, "masked": _yes("masked")}
_OPERATORS = Section(
    "Operators",
    "PyTorch takes some microseconds to start an operator, whatever its size. For a model on vectors this is most\n"
    "of the time, so the cost of a calibrator is the number of its operators. On sequences and maps it is small\n"
    "beside the work of the model.",
    4,
    {**_COUNTED, "operators": itemgetter("operators"), "over `none`": _number("ratio")},
)
_SEEDS = Section(
    "Many seeds at once",
    "Whole trainings one after another, over the same trainings in one vectorised pass (median, least, most).\n"
    "Where operators are large, starting them together saves nothing, and `concordant run` trains run by run\n"
    "(*auto*: no).",
    4,
    {
        "benchmark": itemgetter("benchmark"),
        "fusion": _code,
        "modalities": lambda record: ", ".join(record["modalities"]),
        "calibrator": itemgetter("calibrator"),
        "seeds": itemgetter("seeds"),
        "steps": itemgetter("steps"),
        "times faster": _spread("speedup"),
        "auto": lambda record: "yes" if record["chosen"] else "no",
    },
)
SECTIONS: dict[str, Callable[[Sequence[Record]], str]] = {
    "whole_step": Section(
        "Whole training steps",
        "Forward pass, backward pass and optimiser with `context`, over those with `none` on the same perturbed\n"
        "batch, measured apart from the table above: where the two differ, it is undecided whether the bound is\n"
        "kept. A bound in bold was missed. *compiled*: the calibrator alone is compiled by `torch.compile`.",
        4,
        {
            **_PLACE,
            "calibrator": itemgetter("calibrator"),
            "bound": lambda r: (
                "" if r["limit"] is None else Cell(f"at most {r['limit']:g}", strong=r["ratio"] > r["limit"])
            ),
            "over `none`": _spread(),
        },
    ),
    "overhead": _overhead,
    "bandwidth_bound": Section(
        "The calibrator alone, against memory",
        "Evaluation, float32, three modalities of each shape. Every calibrator has to read all features to summarise\n"
        "them, read them again to scale them, and write the result. The bound is the time of one such read and one\n"
        "copy into new memory. For the *warm* bound the copy goes into memory that was written before, which is\n"
        "faster, because the system need not provide new pages.",
        3,
        {
            **_BANDWIDTH,
            "compiled": _yes("compiled"),
            "over the bound": _spread(),
            "over the warm bound": _spread("warm_ratio"),
        },
    ),
    "vectorised_seeds": _SEEDS,
    "epoch": Section(
        "Loading",
        "The time of an epoch (`{fusion}`, `context`, {instances} sequences with the sizes of CMU-MOSI) by the wall\n"
        "clock, over that with all data in memory, and the share of it that is spent waiting for data. The plain loop\n"
        "is PyTorch's DataLoader over tensors in memory.",
        1,
        {"data": itemgetter("route"), "over in memory": _spread(), "waiting": lambda r: f"{r['loading_share']:.1%}"},
    ),
    "operators": lambda records: f"{_OPERATORS(records)}\n{TRIED}",
    "memory": Section(
        "Peaks of memory",
        "The most memory that was allocated at a time, beyond that from before the step or call.",
        4,
        {**_COUNTED, "peak, MiB": itemgetter("peak_mebibytes"), "over `none`": _number("ratio")},
    ),
    "growth": _growth,
    "rows": _rows,
}
GPU_SECTIONS: dict[str, Callable[[Sequence[Record]], str]] = {
    "bandwidth_bound": Section(
        "The calibrator alone, against memory",
        "Evaluation, float32, `context`, three modalities of each shape, over one read of all features and one copy.",
        3,
        {**_BANDWIDTH, "run": _how, "over the bound": _spread(), "bound, ms": _number("bound_milliseconds")},
    ),
    "vectorised_seeds": _SEEDS,
    "overhead": _overhead,
}
