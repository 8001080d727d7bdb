import numpy as np
import pytest
import torch
from torch import nn

from concordant.deploy.deployed import DeployedModel
from concordant.training.config import make_config

SEQUENCES = {"a": ("btd", (20, 5)), "b": ("btd", (13, 4)), "c": ("bd", (6,))}
MAPS = {"a": ("bchw", (1, 12, 12)), "b": ("bcthw", (1, 9, 12, 12))}


@pytest.fixture(scope="session")
def described():
    """Return a function that describes a model of any fusion and calibrator, trained on nothing."""

    def describe(fusion, calibrator="context", modalities=None, kind="class"):
        from concordant.fusion import FUSIONS

        if modalities is None:
            modalities = MAPS if FUSIONS[fusion].setting == "convolutional" else SEQUENCES
        config = make_config(
            "own", fusion=fusion, calibrators=(calibrator,), modalities=tuple(modalities), recipe={"width": 16}, seeds=1
        )
        return {
            "schema": "concordant.model/1",
            "config": config.model_dump(mode="json"),
            "label": calibrator,
            "seed": 0,
            "classes": ["x", "y", "z"] if kind == "class" else ["negative", "not negative"],
            "kind": kind,
            "layouts": {name: layout for name, (layout, _) in modalities.items()},
            "shapes": {name: list(shape) for name, (_, shape) in modalities.items()},
            "table": "",
        }

    return describe


@pytest.fixture(scope="session")
def built(described):
    """Return a function that builds such a model; its calibrator judges, which an untrained one does not."""

    def build(*args, **kwargs):
        torch.manual_seed(0)
        model = DeployedModel(described(*args, **kwargs))
        for parameter in model.model.calibrator.parameters():
            nn.init.normal_(parameter, std=0.3)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def batch():
    """Return a function that draws inputs with padded steps and absent modalities."""

    def draw(model, count, seed=0, share=1.0):
        about, rng = model.description, np.random.default_rng(seed)
        inputs, masks, present = {}, {}, {}
        for name in about.names:
            shape, time = list(about.shapes[name]), about.time(name)
            if time is not None:
                shape[time - 1] = max(1, round(share * shape[time - 1]))
                lengths = rng.integers(1, shape[time - 1] + 1, (count, 1))
                masks[name] = torch.from_numpy(np.arange(shape[time - 1]) < lengths)
            inputs[name] = torch.from_numpy(rng.normal(size=(count, *shape)).astype(np.float32))
            present[name] = torch.from_numpy(rng.random(count) < 0.8)
        return inputs, masks, present

    return draw


@pytest.fixture(scope="session")
def shared_run(digits_run):
    """The folder of a short experiment on the digits, opened."""
    from concordant.training.runs import open_runs

    return open_runs(digits_run)
