"""The routes by which an epoch's data come: all give the same batches, and what is measured is what it says."""

import numpy as np
import pytest
import torch

pytest.importorskip("datasets")

from benchmarks import data_path
from benchmarks.store import MOSI, write
from concordant.data.store import Store
from concordant.data.stored import everything
from concordant.training.batches import Clock


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_path, "BATCH", 4)
        yield


def test_all_routes_give_the_same_batches_but_for_padding(tmp_path):
    write(tmp_path / "d", MOSI, 10)
    stored = everything(Store(tmp_path / "d"))
    routes = data_path.routes_of(stored, stored.take(np.arange(10)))
    clocks = {name: Clock() for name in routes}
    epochs = {name: list(route(torch.Generator().manual_seed(3), clocks[name])) for name, route in routes.items()}
    assert all(len(batches) == 2 for batches in epochs.values())
    for name in ("read ahead", "read on demand"):
        for mine, theirs in zip(epochs[name], epochs["in memory"], strict=True):
            assert torch.equal(mine.labels, theirs.labels)
            for modality, x in mine.inputs.items():
                length = x.shape[1]
                assert torch.equal(x, theirs.inputs[modality][:, :length])
                assert torch.equal(mine.masks[modality], theirs.masks[modality][:, :length])
                assert not theirs.masks[modality][:, length:].any()
    assert all(clock.seconds > 0 for clock in clocks.values())
    plain = epochs["plain loop"]
    assert [batch.inputs["text"].shape for batch in plain] == [
        batch.inputs["text"].shape for batch in epochs["in memory"]
    ]
    assert sorted(torch.cat([batch.labels for batch in plain]).unique().tolist()) == [0, 1, 2]


def test_what_is_measured():
    found = data_path.measure(instances=10, epochs=2, fusion="lf-dnn")
    assert found["schema"] == "concordant.data_path/1"
    assert [row["route"] for row in found["routes"]] == ["in memory", "read ahead", "read on demand", "plain loop"]
    assert found["routes"][0]["ratio"] == 1
    for row in found["routes"]:
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert 0 < row["loading_share"] < 1
        assert row["seconds"] > 0
