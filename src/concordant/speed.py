"""The cost of a calibrator on this machine: training step and inference relative to the model without one.

Inputs are random numbers with the shapes of published benchmarks: the cost of a step does not depend on what it learns.
The base, "none", is trained with the same perturbations on the same 2B rows; "none, clean" on the B rows alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from concordant import seeding
from concordant.calibration import Perturbation
from concordant.data.split import LabelKind, Split, Task
from concordant.encoders import Encoder
from concordant.errors import DataError, UsageError
from concordant.fusion import FUSIONS
from concordant.report.record import Cell, Table, markdown, number
from concordant.rivals import CALIBRATORS
from concordant.timing import Clock, calls_for, clock_of, interleaved, one_thread, ratios, spread
from concordant.training.batches import Tensors, to_tensors
from concordant.training.config import Recipe, Variant, make_config
from concordant.training.model import MultimodalModel, build_model
from concordant.training.progress import Progress
from concordant.training.provenance import hardware, versions
from concordant.training.step import LOSSES, TrainingStep

SCHEMA = "concordant.speed/1"
CLEAN = "none, clean"
PHASES = {"train": "Training step", "inference": "Inference"}
LARGEST = 30_000_000  # parameters; several models of one size are held at once
BRIEF_CALIBRATORS = ("none", "self", "joint", "context")
NEAREST = ("none", "joint", "context")

Section = Mapping[str, Callable[[], Any]]  # description -> function that returns a record, or a list of records


@dataclass(frozen=True)
class Setting:
    """Inputs of one benchmark's shapes.

    Args:
        name: as tables show it.
        layout: of every modality.
        shapes: modality -> shape of one instance.
        classes: number of logits.
        source: the benchmark.
        encoders: "small" or "resnet18".
        masked: sequences have masks; on average a quarter of the steps is padding.
        batch: instances per training step and per call in inference.
    """

    name: str
    layout: str
    shapes: Mapping[str, tuple[int, ...]]
    classes: int
    source: str
    encoders: str = "small"
    masked: bool = False
    batch: int = 64


_VECTORS = {"text": (100,), "audio": (73,), "video": (100,)}
_ALIGNED = {"text": (50, 300), "audio": (50, 5), "vision": (50, 20)}
_UNALIGNED = {"text": (50, 300), "audio": (375, 5), "vision": (500, 20)}
_MAPS = {"audio": (1, 112, 112), "image": (3, 112, 112)}
_FRAMES = "spectrograms and frames of 112 pixels"
VECTORS = Setting("vectors", "bd", _VECTORS, 2, "cmu-mosi-utterance")
ALIGNED = Setting("aligned", "btd", _ALIGNED, 2, "CMU-MOSI of MulT, aligned", masked=True, batch=16)
UNALIGNED = Setting("unaligned", "btd", _UNALIGNED, 2, "CMU-MOSI of MulT, unaligned", masked=True, batch=8)
AUDIO_VISUAL = Setting("audio-visual", "bchw", _MAPS, 6, _FRAMES, encoders="resnet18", batch=8)
SETTINGS = {setting.name: setting for setting in (VECTORS, ALIGNED, UNALIGNED, AUDIO_VISUAL)}
BY_FUSION = {"vector": VECTORS, "sequence": ALIGNED, "convolutional": AUDIO_VISUAL}
BRIEF = {"lf-dnn": VECTORS, "mult": UNALIGNED, "concat": AUDIO_VISUAL}  # one fusion of each kind


def measure_all(*, quick: bool = False, device: str = "cpu", progress: Progress | None = None) -> dict[str, Any]:
    """Measure the overhead of calibrators before every fusion; return the document.

    Args:
        quick: three fusions and four calibrators: about two minutes.
        device: "cpu", on one thread, or an accelerator such as "cuda".
        progress: called with the number of finished measurements, their total, and the next one.

    Raises:
        UsageError: the device is not available.
    """
    sections = {"overhead": overhead(quick=quick, device=device)}
    return measure_sections(sections, "concordant speed", quick=quick, device=device, progress=progress)


def measure_sections(
    sections: Mapping[str, Section],
    command: str,
    *,
    quick: bool,
    device: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure sections, by name, on one thread; return the document, whose "skipped" lists those without their data.

    The command is the one that measures, without its options; other arguments are those of `measure_all`.

    Raises:
        UsageError: the device is not available.
    """
    check_device(device)
    steps = [(name, what, action) for name, section in sections.items() for what, action in section.items()]
    found: dict[str, Any] = {name: [] for name in sections}
    skipped: list[str] = []
    with one_thread():
        for done, (name, what, action) in enumerate(steps):
            if progress is not None:
                progress(done, len(steps), f"{name}: {what}")
            try:
                records = action()
            except DataError as error:
                skipped.append(f"{name}, {what} ({error})")
                continue
            found[name] += records if isinstance(records, list) else [records]
    if "overhead" in sections and not quick and device == "cpu":
        skipped += too_large()
    words = [command, *([] if device == "cpu" else ["--device", device]), *(["--quick"] if quick else [])]
    return {
        "schema": SCHEMA,
        "quick": quick,
        "device": device,
        "threads": 1,
        **found,
        "skipped": skipped,
        "versions": versions(),
        "hardware": hardware(),
        "command": " ".join(words),
    }


def check_device(device: str) -> None:
    """Raise UsageError where PyTorch finds no accelerator of this type; "cpu" is always available."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device != "cpu" and (found is None or found.type != torch.device(device).type):
        raise UsageError(
            f"--device {device}: PyTorch sees {'no accelerator' if found is None else found.type} here; use cpu"
        )


def overhead(*, quick: bool, device: str = "cpu") -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """Return description -> function that measures one fusion in one phase and returns a record per calibrator."""
    return {
        f"{fusion}, {preset}, {setting.name}, {phase}": partial(
            measure, setting, fusion, preset=preset, calibrators=calibrators, phase=phase, device=device
        )
        for fusion, setting, preset, calibrators in _plan(quick, device)
        for phase in PHASES
    }


def _plan(quick: bool, device: str) -> list[tuple[str, Setting, str, Sequence[str]]]:
    """Return fusions with inputs, preset and calibrators.

    On a CPU every calibrator is measured before the small presets of vectors and sequences; the contextual one and its
    nearest rival before the medium sizes, and before ResNet-18, where a turn takes seconds.
    """
    if device != "cpu":
        names = ("lf-dnn", "concat") if quick else tuple(FUSIONS)
        return [(name, BY_FUSION[FUSIONS[name].setting], "small", NEAREST) for name in names]
    if quick:
        return [(fusion, setting, "small", BRIEF_CALIBRATORS) for fusion, setting in BRIEF.items()]
    found: list[tuple[str, Setting, str, Sequence[str]]] = []
    for fusion in FUSIONS:
        setting = BY_FUSION[FUSIONS[fusion].setting]
        heavy = setting is AUDIO_VISUAL
        found.append((fusion, setting, "small", NEAREST if heavy else fitting(fusion)))
        if not heavy and parameters_of(fusion) <= LARGEST:
            found.append((fusion, setting, "medium", NEAREST))
    return [*found, *(("mult", UNALIGNED, preset, NEAREST) for preset in ("small", "medium"))]


def too_large() -> list[str]:
    """Return one line per medium size that is not measured."""
    return [
        f"overhead, {fusion}, medium (a model of {parameters_of(fusion) / 1e6:.0f} million parameters)"
        for fusion in FUSIONS
        if parameters_of(fusion) > LARGEST
    ]


def measure(
    setting: Setting,
    fusion: str,
    *,
    preset: str = "small",
    calibrators: Sequence[str] | None = None,
    phase: str = "train",
    device: str = "cpu",
    repetitions: int = 5,
    seconds: float = 0.05,
    clock: Clock | None = None,
) -> list[dict[str, Any]]:
    """Time every calibrator before one fusion, in turns; return one record per calibrator.

    Sizes of the fusion are "small", "medium" and "published"; phases "train" and "inference". Calibrators are all that
    fit, or those named and "none". Each takes about so many `seconds` per turn, by default on the device's clock.
    """
    clock = clock or clock_of(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        actions = actions_of(setting, fusion, fitting(fusion, calibrators), phase, preset=preset, device=device)
        count = calls_for(actions["none"], seconds=seconds, clock=clock)
        times = interleaved(actions, repetitions=repetitions, calls=count, clock=clock)
    return [
        {
            "setting": setting.name,
            "fusion": fusion,
            "preset": preset,
            "calibrator": name,
            "phase": phase,
            **spread("ratio", ratios(values, times["none"])),
            "milliseconds": round(1e3 * statistics.median(values), 4),
        }
        for name, values in times.items()
    ]


def fitting(fusion: str, calibrators: Sequence[str] | None = None) -> list[str]:
    """Return calibrators, "none" first; None = all that can stand before a fusion."""
    if calibrators is None:
        calibrators = [name for name in CALIBRATORS if FUSIONS[fusion].late or not CALIBRATORS[name].late]
    return ["none", *(name for name in calibrators if name != "none")]


def example_split(setting: Setting, *, instances: int, seed: int = 0) -> Split:
    """Return random inputs with the shapes of a setting."""
    draws = np.random.default_rng(seed)
    inputs = {name: draws.standard_normal((instances, *shape), np.float32) for name, shape in setting.shapes.items()}
    masks = {}
    for name, shape in setting.shapes.items() if setting.masked else ():
        lengths = draws.integers(shape[0] // 2, shape[0] + 1, instances)
        masks[name] = np.arange(shape[0]) < lengths[:, None]
    labels = draws.integers(0, setting.classes, instances)
    return Split(inputs, labels, np.array([str(n) for n in range(instances)]), masks=masks)


def models_of(
    setting: Setting, fusion: str, calibrators: Sequence[str], *, preset: str = "small", device: str = "cpu"
) -> dict[str, MultimodalModel]:
    """Return calibrator -> model; encoders and fusion are shared, since where weights lie in memory affects times."""
    split = example_split(setting, instances=2)
    layouts = dict.fromkeys(setting.shapes, setting.layout)
    task = Task(tuple(str(n) for n in range(setting.classes)), layouts, split, split, split)
    modalities, recipe = tuple(setting.shapes), {"batch": setting.batch}
    sizes: dict[str, Any] = {"preset": preset, "encoders": setting.encoders, "recipe": recipe}
    config = make_config("own", fusion=fusion, modalities=modalities, **sizes)
    base = build_model(task, config, Variant("none", perturbed=True), seed=0)
    return {
        name: MultimodalModel(
            encoders=cast(dict[str, Encoder], dict(base.encoders.items())),
            calibrator=build_model(task, config, Variant(name, perturbed=True), seed=0).calibrator,
            fusion=base.fusion,
        ).to(device)
        for name in calibrators
    }


@cache
def parameters_of(fusion: str) -> int:
    """Return the number of parameters of the published size without a calibrator; no memory is allocated for it."""
    with torch.device("meta"):
        setting = BY_FUSION[FUSIONS[fusion].setting]
        model = models_of(setting, fusion, ["none"], preset="medium", device="meta")["none"]
    return sum(parameter.numel() for parameter in model.parameters())


def batch_of(setting: Setting, device: str = "cpu") -> Tensors:
    """Return one batch of random inputs."""
    return to_tensors(example_split(setting, instances=setting.batch)).to(device)


def actions_of(
    setting: Setting,
    fusion: str,
    calibrators: Sequence[str],
    phase: str,
    *,
    preset: str = "small",
    device: str = "cpu",
) -> dict[str, Callable[[], object]]:
    """Return calibrator -> the action that is timed; in training "none, clean" beside "none"."""
    batch, recipe = batch_of(setting, device), Recipe(batch=setting.batch)
    models = models_of(setting, fusion, [*calibrators, "none"], preset=preset, device=device)
    if phase == "inference":
        return {name: inference(models[name], batch) for name in calibrators}
    steps = {name: training_step(models[name], recipe, perturbed=True, device=device) for name in calibrators}
    steps[CLEAN] = training_step(models["none"], recipe, perturbed=False, device=device)
    return {name: partial(step, batch) for name, step in steps.items()}


def training_step(
    model: MultimodalModel, recipe: Recipe, *, perturbed: bool, kind: LabelKind = "class", device: str = "cpu"
) -> Callable[[Tensors], Tensor]:
    """Return a whole training step of `concordant run` from a batch to its loss: forward, backward, optimiser."""
    step = TrainingStep(model.train(), LOSSES[kind], perturbation=Perturbation() if perturbed else None)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    draws = seeding.generator(0, "perturbations", device=torch.device(device))

    def run(batch: Tensors) -> Tensor:
        loss: Tensor = step(batch.inputs, batch.masks, batch.present, batch.labels, draws)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return run


def inference(model: MultimodalModel, batch: Tensors) -> Callable[[], object]:
    """Return one call of the model in evaluation mode, without gradients."""
    model.eval()
    return torch.inference_mode()(lambda: model(batch.inputs, batch.masks, batch.present))


def page(document: Mapping[str, Any]) -> str:
    """Return a document of `measure_all` as Markdown."""
    skipped = [f"Not measured: {line}." for line in document["skipped"]]
    return "\n".join([overhead_section(document["overhead"]), *skipped])


def overhead_section(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the ratios of all calibrators as Markdown, one table per phase."""
    calibrators = list(dict.fromkeys(record["calibrator"] for record in records if record["calibrator"] != "none"))
    inputs = "; ".join(
        f"*{one.name}* of {one.source} ("
        + ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in one.shapes.items())
        + f"; batches of {one.batch})"
        for one in map(SETTINGS.get, dict.fromkeys(record["setting"] for record in records))
        if one is not None
    )
    text = [
        "## What a calibrator adds to a model\n",
        "A whole training step, or a call in inference, over that of the same model with `none` in place of the",
        "calibrator. Both are trained on a clean and a perturbed copy of the batch; `none, clean` is trained on the",
        f"clean copy alone. Inputs: {inputs}.\n",
    ]
    for phase, title in PHASES.items():
        rows: dict[tuple[str, str, str], dict[str, float]] = {}
        for record in records:
            if record["phase"] == phase:
                key = (f"`{record['fusion']}`", record["preset"], record["setting"])
                rows.setdefault(key, {})[record["calibrator"]] = record["ratio"]
        shown = [name for name in calibrators if any(name in row for row in rows.values())]
        cells = [[*key, *(row.get(name) for name in shown)] for key, row in rows.items()]
        text += [f"{title}:\n", table(["fusion", "preset", "inputs", *shown], cells, words=3)]
    return "\n".join(text)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, words: int = 1) -> str:
    """Return a Markdown table; the first `words` columns hold text, the others numbers.

    >>> print(table(["what", "ratio"], [["a", 1.5]]), end="")
    | what | ratio |
    | --- | ---: |
    | a | 1.50 |
    """
    cells = [
        [number(x, 2, scale=1) if isinstance(x, float) else x if isinstance(x, Cell) else str(x or "") for x in row]
        for row in rows
    ]
    return markdown(Table("", "", columns, cells, left=words))
