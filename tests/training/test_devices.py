"""Devices of a run, and models that are sharded over processes."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from concordant.errors import UsageError
from concordant.training.devices import Devices, Launched, in_pieces, launched, shard, whole, whole_tree

VARIABLES = ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE")
SLURM = ("SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_NNODES", "SLURM_JOB_NAME")


@pytest.fixture(autouse=True)
def nobody_has_started_us(monkeypatch):
    for name in (*VARIABLES, *SLURM):
        monkeypatch.delenv(name, raising=False)


def test_all_faults_are_told_at_once():
    with pytest.raises(UsageError) as error:
        Devices(devices=0, accumulate=-1, strategy="dp", precision="8", accelerator="tpu", across="some")
    assert str(error.value) == (
        "devices must be 1 or more; found 0; accumulate must be 1 or more; found -1; "
        "unknown strategy 'dp'; choose from: auto, ddp, fsdp; "
        "unknown precision '8'; choose from: 32-true, bf16-mixed, 16-mixed; "
        "unknown accelerator 'tpu'; choose from: auto, cpu, cuda, mps; "
        "unknown across 'some'; choose from: gather, local"
    )


@pytest.mark.parametrize(
    ("devices", "batch", "message"),
    [
        (Devices(devices=4, accumulate=3, accelerator="cpu"), 11, "a batch of 11 instances cannot be split over 4"),
        (Devices(devices=2, accelerator="mps"), 64, "--devices: there is one mps device at the most"),
        (
            Devices(precision="16-mixed", accelerator="cpu"),
            64,
            "--precision 16-mixed needs CUDA, and training is on cpu",
        ),
        (
            Devices(strategy="fsdp", precision="16-mixed", accelerator="cpu"),
            64,
            "--strategy fsdp does not support 16-mixed",
        ),
    ],
)
def test_what_the_machine_or_the_batch_does_not_give_is_refused(devices, batch, message):
    with pytest.raises(UsageError, match=message):
        devices.check(batch)


def test_a_cuda_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="--accelerator cuda: PyTorch sees no CUDA device here"):
        Devices(accelerator="cuda").check(64)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UsageError, match="--devices 2: there are 1 CUDA devices here"):
        Devices(devices=2, accelerator="cuda").check(64)


def test_what_changes_results_belongs_to_the_folder_and_the_number_of_devices_does_not():
    assert Devices(devices=8, strategy="fsdp").numerics() == {}
    assert Devices(precision="bf16-mixed", accumulate=2).numerics() == {"precision": "bf16-mixed", "accumulate": 2}
    assert Devices(across="local").numerics() == {}
    assert Devices(devices=2, across="local").numerics() == {"across": "local", "processes": 2}
    assert Devices(devices=3, accelerator="cpu").record()["devices"] == 3


def test_a_process_alone_is_not_launched(monkeypatch):
    assert launched() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched() is None


def test_torchrun_and_srun_are_known(monkeypatch):
    for name, value in {"SLURM_STEP_ID": 0, "SLURM_NTASKS": 6, "SLURM_PROCID": 5, "SLURM_NNODES": 3}.items():
        monkeypatch.setenv(name, str(value))
    assert launched() == Launched(5, 6, 3)
    assert Devices().size == 6
    assert Devices(strategy="fsdp").sharded
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")  # a shell for a person
    assert launched() is None
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.delenv("SLURM_STEP_ID")  # the batch script itself, which runs once
    assert launched() is None
    for name, value in zip(VARIABLES, ("x", 8, 3, 4), strict=True):
        monkeypatch.setenv(name, str(value))
    assert launched() == Launched(3, 8, 2)
    with pytest.raises(UsageError, match="4 processes were started on each machine, and --devices is 3; leave it out"):
        Devices(devices=3, accelerator="cpu").check(64)
    Devices(devices=4, accelerator="cpu").check(64)


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
    found = whole_tree(step.model.state_dict())
    assert found.keys() == known.keys()
    assert all(type(value) is torch.Tensor and torch.equal(value, known[name]) for name, value in found.items())
