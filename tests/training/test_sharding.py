"""Pieces put together and cut again, in one process that holds all of them; two of them train in test_ranked.py."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from concordant.training.devices import in_pieces, shard, whole, whole_state, whole_tree

VALUES = torch.arange(6.0).reshape(3, 2)


@pytest.fixture(scope="module")
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,), mesh_dim_names=("data_parallel",))
    dist.destroy_process_group()


@pytest.mark.parametrize("placement", [Shard(0), Shard(1), Replicate()])
def test_a_tensor_is_cut_as_another_lies_and_put_together(mesh, placement):
    like = distribute_tensor(torch.zeros(3, 2), mesh, [placement])
    for lying in (like, nn.Parameter(like)):
        found = in_pieces(VALUES, lying)
        assert isinstance(found, DTensor)
        assert found.placements == (placement,)
        assert type(whole(found)) is torch.Tensor
        assert torch.equal(whole(found), VALUES)


def test_where_nothing_lies_in_pieces_nothing_is_touched(mesh):
    class Own(torch.Tensor):
        pass

    for like in (VALUES, nn.Parameter(VALUES), VALUES.as_subclass(Own)):
        assert in_pieces(VALUES, like) is VALUES
        assert whole(like) is like


def test_every_tensor_of_a_tree_is_put_together(mesh):
    cut = distribute_tensor(VALUES, mesh, [Shard(0)])
    known = {"state": {0: {"exp_avg": cut, "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    found = whole_tree(known)
    assert type(found["state"][0]["exp_avg"]) is torch.Tensor
    assert torch.equal(found["state"][0]["exp_avg"], VALUES)
    assert found["state"][0]["step"] is known["state"][0]["step"]
    assert found["param_groups"] == known["param_groups"]
    assert known["state"][0]["exp_avg"] is cut  # another tree is made


class Fusion(nn.Module):
    """Is called by the names that every fusion has, never as a module."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def encode(self, x):
        return self.layer(x)

    def join(self, x):
        return self.head(x)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({"a": nn.Linear(5, 4), "b": nn.Identity()})
        self.calibrator, self.fusion = nn.LayerNorm(4), Fusion()

    def forward(self, x):
        return self.fusion.join(self.calibrator(self.fusion.encode(self.encoders["a"](x))))


def test_a_model_in_pieces_gives_the_same_and_its_state_is_the_model_s(mesh):
    step, x = nn.Module(), torch.randn(6, 5)
    step.model = Model()
    expected, known = step.model(x), {name: value.clone() for name, value in step.model.state_dict().items()}
    assert shard(step, mesh) is step
    assert all(isinstance(p, DTensor) for p in step.parameters())
    out = step.model(x)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert all(isinstance(p.grad, DTensor) for p in step.parameters())
    found = whole_state(step.model)
    assert found.keys() == known.keys()
    assert all(type(value) is torch.Tensor and torch.equal(value, known[name]) for name, value in found.items())
