"""What a calibrator adds to a model: its training step and its inference against those of the model without it.

Inputs are random numbers of a published benchmark's shapes: what a step costs does not depend on what it learns.
The base, "none", is trained with the same perturbations, on the same 2B rows, so that the only difference is the
calibrator; "none, clean" beside it is trained on the B rows alone.
Shapes: inputs in their layouts, batch first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F

from concordant import seeding
from concordant.calibration import Perturbation, repeat_targets
from concordant.data.split import Split, Task
from concordant.encoders import Encoder
from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS
from concordant.speed.timing import Spread, calls_for, interleaved, ratios, spread
from concordant.training.config import Config, Recipe, Variant
from concordant.training.model import MultimodalModel, build_model

CLEAN = "none, clean"
PHASES = ("train", "inference")


@dataclass(frozen=True)
class Setting:
    """Inputs on which models are timed.

    Args:
        name: what a table calls it.
        layouts: modality -> layout.
        shapes: modality -> the shape of one instance.
        classes: number of logits.
        encoders: "small" or "resnet18".
        masked: sequences have masks, of which a quarter is padding on average.
        batch: instances a training step and a call in inference.
        source: where the shapes are from.
    """

    name: str
    layouts: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    classes: int
    source: str
    encoders: str = "small"
    masked: bool = False
    batch: int = 64


VECTORS = Setting(
    "vectors",
    {"text": "bd", "audio": "bd", "video": "bd"},
    {"text": (100,), "audio": (73,), "video": (100,)},
    classes=2,
    source="cmu-mosi-utterance",
)
ALIGNED = Setting(
    "aligned",
    {"text": "btd", "audio": "btd", "vision": "btd"},
    {"text": (50, 300), "audio": (50, 5), "vision": (50, 20)},
    classes=2,
    source="CMU-MOSI of MulT, aligned",
    masked=True,
    batch=16,
)
UNALIGNED = Setting(
    "unaligned",
    {"text": "btd", "audio": "btd", "vision": "btd"},
    {"text": (50, 300), "audio": (375, 5), "vision": (500, 20)},
    classes=2,
    source="CMU-MOSI of MulT, unaligned",
    masked=True,
    batch=8,
)
AUDIO_VISUAL = Setting(
    "audio-visual",
    {"audio": "bchw", "image": "bchw"},
    {"audio": (1, 112, 112), "image": (3, 112, 112)},
    classes=6,
    source="spectrograms and frames of 112 pixels",
    encoders="resnet18",
    batch=8,
)
SETTINGS = {setting.name: setting for setting in (VECTORS, ALIGNED, UNALIGNED, AUDIO_VISUAL)}
BY_FUSION = {"vector": VECTORS, "sequence": ALIGNED, "convolutional": AUDIO_VISUAL}


def example(setting: Setting, *, instances: int, seed: int = 0) -> Task:
    """Return a task of random inputs with a setting's shapes; all its parts are the same."""
    draws = np.random.default_rng(seed)
    inputs = {name: draws.standard_normal((instances, *shape), np.float32) for name, shape in setting.shapes.items()}
    masks = {}
    if setting.masked:
        for name, shape in setting.shapes.items():
            lengths = draws.integers(shape[0] // 2, shape[0] + 1, instances)
            masks[name] = np.arange(shape[0]) < lengths[:, None]
    labels = draws.integers(0, setting.classes, instances)
    part = Split(inputs, labels, np.array([str(n) for n in range(instances)]), masks=masks)
    return Task(tuple(str(n) for n in range(setting.classes)), dict(setting.layouts), part, part, part)


def configure(setting: Setting, fusion: str, preset: str, calibrate: str | None = None) -> Config:
    """Return the configuration of the models that are timed; what it says of data is not used."""
    # Checked piece by piece where it was chosen; the benchmark's own modalities are not these.
    return Config.model_construct(
        benchmark=setting.source,
        fusion=fusion,
        calibrators=tuple(CALIBRATORS),
        seeds=1,
        protocol="",
        modalities=tuple(setting.shapes),
        calibrate=calibrate if calibrate is not None else FUSIONS[fusion].points[0],
        preset=preset,
        encoders=setting.encoders,
        method="none",
        recipe=Recipe(batch=setting.batch),
    )


def training_step(
    model: MultimodalModel, task: Task, config: Config, *, perturbed: bool, device: str = "cpu"
) -> Callable[[], object]:
    """Return one whole training step as `concordant run` makes it: forward, losses, backward, optimiser."""
    recipe, settings = config.recipe, Perturbation() if perturbed else None
    optimizer = torch.optim.AdamW(
        model.train().parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    draws = seeding.generator(0, "perturbations", device=torch.device(device))
    inputs, masks, labels = _tensors(task, recipe.batch, device)
    targets = repeat_targets(labels) if perturbed else labels

    def step() -> None:
        out = model(inputs, masks, {}, labels=labels, perturbation=settings, generator=draws)
        loss = F.cross_entropy(out.logits, targets) + out.calibration.auxiliary_loss
        loss = loss + model.fusion.auxiliary_loss(targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def inference(model: MultimodalModel, task: Task, config: Config, *, device: str = "cpu") -> Callable[[], object]:
    """Return one call of the model in evaluation mode, without gradients."""
    inputs, masks, _ = _tensors(task, config.recipe.batch, device)
    model.eval()

    def call() -> None:
        with torch.inference_mode():
            model(inputs, masks, {})

    return call


def _tensors(
    task: Task, batch: int, device: str
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
    part = task.train.take(slice(0, batch))
    inputs = {name: torch.from_numpy(x).to(device) for name, x in part.inputs.items()}
    masks = {name: torch.from_numpy(mask).to(device) for name, mask in part.masks.items()}
    return inputs, masks, torch.from_numpy(part.labels).to(device)


def fitting(fusion: str) -> list[str]:
    """Return the calibrators that can stand before a fusion, "none" first."""
    names = [name for name in CALIBRATORS if FUSIONS[fusion].late or not CALIBRATORS[name].late]
    return ["none", *(name for name in names if name != "none")]


def models_of(setting: Setting, config: Config, calibrators: Sequence[str]) -> dict[str, MultimodalModel]:
    """Return calibrator -> a model around it.

    Encoders and fusion are the same objects for all: where weights lie in memory is no part of a ratio.
    """
    task = example(setting, instances=config.recipe.batch)
    base = build_model(task, config, Variant("none", perturbed=True), seed=0)
    return {
        name: MultimodalModel(
            encoders=cast(dict[str, Encoder], dict(base.encoders.items())),
            calibrator=build_model(task, config, Variant(name, perturbed=True), seed=0).calibrator,
            fusion=base.fusion,
        )
        for name in calibrators
    }


def actions_of(
    setting: Setting, config: Config, calibrators: Sequence[str], phase: str, *, device: str = "cpu"
) -> dict[str, Callable[[], object]]:
    """Return calibrator -> what is timed in a phase; in training "none, clean" beside "none"."""
    task = example(setting, instances=config.recipe.batch)
    built = models_of(setting, config, [*calibrators, "none"])
    models = {name: model.to(device) for name, model in built.items()}
    if phase == "inference":
        return {name: inference(models[name], task, config, device=device) for name in calibrators}
    make = {name: training_step(models[name], task, config, perturbed=True, device=device) for name in calibrators}
    make[CLEAN] = training_step(models["none"], task, config, perturbed=False, device=device)
    return make


def parameters_of(setting: Setting, fusion: str, preset: str) -> int:
    """Return the parameters of the model without a calibrator, which is not built for that."""
    task = example(setting, instances=2)
    with torch.device("meta"):
        model = build_model(task, configure(setting, fusion, preset), Variant("none", perturbed=False), seed=0)
    return sum(parameter.numel() for parameter in model.parameters())


def counted_for_each(
    setting: Setting,
    fusion: str,
    preset: str,
    calibrators: Sequence[str] | None,
    count: Callable[[Callable[[], object]], int],
) -> list[tuple[dict[str, str], int, float]]:
    """Count something of a training step and of a call in inference, for each calibrator before a fusion.

    Args:
        setting: the inputs.
        fusion: what joins the features.
        preset: sizes of the fusion.
        calibrators: which; None = all that fit. "none" is always among them.
        count: from what is done to a number.

    Returns:
        What was done, in words; its number; and the ratio to that of "none".
    """
    chosen = fitting(fusion) if calibrators is None else ["none", *(n for n in calibrators if n != "none")]
    config = configure(setting, fusion, preset)
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for phase in PHASES:
            numbers = {name: count(work) for name, work in actions_of(setting, config, chosen, phase).items()}
            for name, number in numbers.items():
                record = {
                    "setting": setting.name,
                    "fusion": fusion,
                    "preset": preset,
                    "calibrator": name,
                    "phase": phase,
                }
                found.append((record, number, round(number / numbers["none"], 3)))
    return found


@dataclass(frozen=True)
class Overhead:
    """What one calibrator costs before one fusion.

    Args:
        setting: name of the inputs.
        fusion: name.
        preset: "small" or "paper".
        calibrator: name; "none, clean" is the twin without perturbations.
        phase: "train" or "inference".
        ratio: its time over that of "none", turn by turn.
        seconds: of one step or call.
    """

    setting: str
    fusion: str
    preset: str
    calibrator: str
    phase: str
    ratio: Spread
    seconds: Spread

    def record(self) -> dict[str, Any]:
        """Return it as a dictionary, for a file."""
        return {
            "setting": self.setting,
            "fusion": self.fusion,
            "preset": self.preset,
            "calibrator": self.calibrator,
            "phase": self.phase,
            **self.ratio.record("ratio"),
            "milliseconds": round(1e3 * self.seconds.median, 4),
        }


def measure(
    setting: Setting,
    fusion: str,
    *,
    preset: str = "small",
    calibrators: Sequence[str] | None = None,
    phase: str = "train",
    device: str = "cpu",
    repetitions: int = 9,
    seconds: float = 0.1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Overhead]:
    """Time every calibrator before one fusion, in turns.

    Args:
        setting: the inputs.
        fusion: what joins the features.
        preset: sizes of the fusion.
        calibrators: which; None = all that fit. "none" is always among them.
        phase: "train" or "inference".
        device: where; on an accelerator give `device_clock`.
        repetitions: turns.
        seconds: how long each is timed in a turn, about.
        clock: see `interleaved`.
    """
    chosen = fitting(fusion) if calibrators is None else ["none", *(n for n in calibrators if n != "none")]
    config = configure(setting, fusion, preset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        actions = actions_of(setting, config, chosen, phase, device=device)
        count = calls_for(actions["none"], seconds=seconds, clock=clock)
        times = interleaved(actions, repetitions=repetitions, calls=count, clock=clock)
    return [
        Overhead(setting.name, fusion, preset, name, phase, ratios(values, times["none"]), spread(values))
        for name, values in times.items()
    ]
