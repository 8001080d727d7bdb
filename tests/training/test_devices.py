"""Where runs are trained: what is refused, what is recorded, and how processes of torchrun and srun are known."""

import pytest

from concordant.errors import UsageError
from concordant.training.devices import Devices, Launched, launched

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
        (Devices(strategy="fsdp", precision="16-mixed", accelerator="cpu"), 64, "--strategy fsdp knows no 16-mixed"),
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
