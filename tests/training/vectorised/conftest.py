"""A small task made for the purpose: a sequence with padding, a vector that is absent now and then, an image."""

from dataclasses import dataclass

import numpy as np
import pytest

from concordant.data.split import Split, Task
from concordant.training.config import make_config

CLASSES = 3


def make_part(rng, count, names):
    labels = np.resize(np.arange(CLASSES), count).astype(np.int64)
    rng.shuffle(labels)
    told = labels[:, None].astype(np.float32)
    inputs, masks, present = {}, {}, {}
    if "steps" in names:
        lengths = rng.integers(2, 9, count)
        masks["steps"] = np.arange(8) < lengths[:, None]
        noise = rng.standard_normal((count, 8, 5), dtype=np.float32)
        inputs["steps"] = (noise + told[:, None]) * masks["steps"][:, :, None]
    if "vector" in names:
        present["vector"] = rng.random(count) < 0.8
        inputs["vector"] = rng.standard_normal((count, 6), dtype=np.float32) - told
    if "image" in names:
        inputs["image"] = rng.standard_normal((count, 1, 6, 6), dtype=np.float32) + told[:, :, None, None]
    ids = np.array([f"{count}-{row}" for row in range(count)])
    return Split(inputs, labels, ids, None, masks, present)


def make_task(seed, names=("steps", "vector"), *, sizes=(40, 20, 12)):
    rng = np.random.default_rng(seed)
    layouts = {"steps": "btd", "vector": "bd", "image": "bchw"}
    parts = [make_part(rng, size, names) for size in sizes]
    return Task(tuple("abc"), {name: layouts[name] for name in names}, *parts)


def make_small(fusion, names=("steps", "vector"), **recipe):
    """Return the configuration of a small experiment on tasks of `make_task`."""
    fields = {"steps": 6, "batch": 16, "width": 8, "evaluations": 3, "patience": 3, "dropout": 0.2, **recipe}
    config = make_config("digits", fusion=fusion, recipe=fields)
    return config.model_copy(update={"modalities": names})


@dataclass(frozen=True)
class Small:
    task = staticmethod(make_task)
    config = staticmethod(make_small)


@pytest.fixture(scope="session")
def small():
    return Small
