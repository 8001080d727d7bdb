import fcntl
import os
import shlex
import uuid
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from concordant import ContextualCalibrator, repeat_targets, with_copies
from concordant.training import processes
from tests.commands import concordant

# Runs and stress tests use one process unless a test names more: the tests themselves run side by side, and a process
# that is started imports all that this one has.
processes.cores = lambda: 1

# Most tests compare numbers to the last bit, as a CPU gives them; GPUs are for those that ask for one.
if os.environ.get("CONCORDANT_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# The cluster of tests/sweep/test_ray_engine.py admits drivers with this token alone. Ray reads its settings once, when
# it is imported, and a test of another file may be the first to import it in this process.
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=uuid.uuid4().hex * 2)

# These start commands or train for a long time; run first, they leave no process idle at the end.
LONG = tuple(f"tests/{name}/" for name in ("docs", "cli", "examples", "study", "sweep", "training"))


def pytest_collection_modifyitems(items):
    """Put what takes long first, and leave the order as it is otherwise."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.fixture(scope="session")
def data_folder():
    """The folder of real data: the one that CONCORDANT_DATA names, or shared/data beside the repository."""
    named = os.environ.get("CONCORDANT_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data are not in {folder}; CONCORDANT_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def film():
    """Return a function that encodes a real film: grey frames whose brightness counts up, and a tone."""
    av = pytest.importorskip("av")

    def encode(path, *, seconds=2.0, fps=25, size=(64, 48), rate=16000, sound=True, picture=True):
        kinds = {".flv": ("flv1", "mp3", 44100), ".mp4": ("mpeg4", "aac", rate), ".avi": ("mpeg4", "mp3", 44100)}
        video_codec, audio_codec, rate = kinds[path.suffix]
        with av.open(str(path), "w") as container:
            video = audio = None
            if picture:
                video = container.add_stream(video_codec, rate=fps)
                video.width, video.height = size
                video.pix_fmt = "yuv420p"
                video.bit_rate = 2_000_000
            if sound:
                audio = container.add_stream(audio_codec, rate=rate, layout="mono")
            if video is not None:
                for number in range(round(seconds * fps)):
                    grey = np.full((size[1], size[0], 3), brightness(number), np.uint8)
                    frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                    frame.pts = number
                    frame.time_base = Fraction(1, fps)
                    container.mux(video.encode(frame))
                container.mux(video.encode(None))
            if audio is not None:
                wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
                fifo = av.AudioFifo()
                whole = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
                whole.sample_rate = rate
                whole.pts = 0
                fifo.write(whole)
                size_of_frame = audio.codec_context.frame_size or 1024
                while (frame := fifo.read(size_of_frame, partial=True)) is not None:
                    container.mux(audio.encode(frame))
                container.mux(audio.encode(None))
        return path

    return encode


def brightness(number):
    """Return the grey of a frame: 4 brighter each, so that a codec does not blur one into the next."""
    return 16 + 4 * (number % 55)


@pytest.fixture(scope="session")
def shell():
    """Return a function that runs a line of a document as a shell would, in a folder."""

    return lambda line, folder: concordant(*shlex.split(line)[1:], cwd=folder)


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Return a function that gives a folder, filled once for all processes of pytest-xdist; do not change its files."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def filled(name, fill):
        folder = base / "once" / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "complete").exists():
                fill(folder)
                (folder / "complete").touch()
        return folder

    return filled


@pytest.fixture(scope="session")
def digits_run(once):
    """The folder of a short paired experiment on the embedded digits; copy it before changing it."""
    from concordant.study.experiment import study
    from concordant.training.config import make_config

    config = make_config("digits", calibrators=("none", "self", "context"), seeds=2, recipe={"steps": 60})
    return once("run", lambda folder: study(config, folder / "digits", jobs=1, baselines=False)) / "digits"


class Here:
    """Does trials in this process, one after the other: what a sweep does but for Ray."""

    local = True

    def __init__(self, outcomes=None, lacking=None, stop_after=None):
        self.outcomes = outcomes or {}  # name -> what becomes of it, without doing it
        self.lacking = lacking
        self.stop_after = stop_after
        self.done = []

    def __call__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *about):
        pass

    def shortage(self, resources):
        return self.lacking

    def run(self, trials, *, resources, retries, done, lost):
        from concordant.sweep.trial import perform

        waiting = list(trials)
        while waiting:
            if len(self.done) == self.stop_after:
                raise KeyboardInterrupt
            trial = waiting.pop(0)
            outcome = self.outcomes.get(trial.name) or perform(trial)
            self.done.append(trial.name)
            waiting += done(trial, {**outcome, "attempts": 1})


@pytest.fixture
def here():
    """The class of an engine that needs no Ray."""
    return Here


# A world where the truth is known: what is wrong, in which modality of which instance, in which dimensions.
CLASSES, WRONG = 4, slice(5, 10)
SIZES = {"a": 14, "b": 8, "c": 8}


def make_world(count, seed):
    """Modality b is noise for odd instances; dimensions 5 to 9 of modality a are another class's for every fourth."""
    draws = np.random.default_rng(seed)
    prototypes = {m: np.random.default_rng(99).normal(0, 1.5, (CLASSES, d)) for m, d in SIZES.items()}
    labels = draws.integers(0, CLASSES, count)
    x = {m: prototypes[m][labels] + 0.7 * draws.standard_normal((count, d)) for m, d in SIZES.items()}
    noisy = np.arange(count) % 2 == 1
    wrong = np.arange(count) % 4 == 0
    x["b"][noisy] = 1.5 * draws.standard_normal((noisy.sum(), SIZES["b"]))
    other = (labels + draws.integers(1, CLASSES, count)) % CLASSES
    x["a"][wrong, WRONG] = 2.0 * prototypes["a"][other[wrong], WRONG]
    return SimpleNamespace(
        x={m: values.astype(np.float32) for m, values in x.items()}, labels=labels, noisy=noisy, wrong=wrong
    )


class Calibrated(nn.Module):
    """A calibrator before a linear head on all features side by side; the twin is the head alone."""

    def __init__(self, calibrator):
        super().__init__()
        self.calibrator = calibrator
        self.head = nn.Linear(sum(SIZES.values()), CLASSES)

    def forward(self, features, masks=None, present=None):
        if self.calibrator is None:
            return SimpleNamespace(logits=self.join(features))
        out = self.calibrator(features, present=present)
        return SimpleNamespace(logits=self.join(out.features), calibration=out)

    def join(self, features):
        return self.head(torch.cat([features[m] for m in SIZES], 1))


def train(model, world):
    """Train on clean and perturbed copies, the calibrator with its own loss; the twin on the same features."""
    torch.manual_seed(0)
    judge = model.calibrator if model.calibrator is not None else ContextualCalibrator(SIZES, layouts="bd", seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    x = {m: torch.from_numpy(values) for m, values in world.x.items()}
    y = torch.from_numpy(world.labels)
    draws = torch.Generator().manual_seed(0)
    for _ in range(300):
        rows = torch.randint(len(y), (128,), generator=draws)
        batch = judge.gather({m: values[rows] for m, values in x.items()})
        hurt = with_copies(batch, ContextualCalibrator(SIZES).perturbation, generator=draws)
        targets = repeat_targets(y[rows])
        loss = torch.zeros(())
        features = hurt.batch.features
        if model.calibrator is not None:
            out = model.calibrator(hurt.batch, labels=targets, perturbed=hurt.perturbed)
            features, loss = out.features, out.auxiliary_loss
        loss = loss + nn.functional.cross_entropy(model.join(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def planted(once):
    """A calibrated model and its uncalibrated twin, trained in the planted world, with a test part of it."""
    world = make_world(2000, 0)
    make = {
        "twin": lambda: Calibrated(None),
        "ours": lambda: Calibrated(ContextualCalibrator(SIZES, layouts="bd", seed=0)),
    }

    def fill(folder):
        torch.save({name: train(new(), world).state_dict() for name, new in make.items()}, folder / "trained")

    with torch.random.fork_rng():
        torch.manual_seed(1)
        trained = torch.load(once("planted", fill) / "trained", weights_only=True)
        models = {name: new().eval() for name, new in make.items()}
    for name, model in models.items():
        model.load_state_dict(trained[name])
    return SimpleNamespace(train=world, test=make_world(800, 1), wrong=WRONG, **models)
