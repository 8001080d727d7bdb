"""A vectorised pass gives every seed what a single run gives it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from concordant.errors import ConcordantError
from concordant.rivals import CALIBRATORS
from concordant.training.config import Variant, make_config
from concordant.training.devices import Devices
from concordant.training.train import train
from concordant.training.vectorised import together
from concordant.training.vectorised.together import train_together


def far(one, other):
    """Return how far two states are from each other, relative to their size."""
    apart = sum(float((one[name].double() - x.double()).square().sum()) for name, x in other.items())
    return (apart / sum(float(x.double().square().sum()) for x in other.values())) ** 0.5


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here, or CONCORDANT_TEST_GPU is not 1"
)


def check_alike(tasks, config, variant, seeds, device="cpu"):
    found = train_together(tasks, config, variant, seeds, device=device)
    assert list(found) == list(seeds)
    for task, seed in zip(tasks, seeds, strict=True):
        alone, ours = train(task, config, variant, seed, devices=Devices(accelerator=device)), found[seed]
        assert {x.device.type for x in ours.model.parameters()} == {device}
        assert [entry["step"] for entry in ours.history] == [entry["step"] for entry in alone.history]
        for entry, expected in zip(ours.history, alone.history, strict=True):
            assert entry["loss"] == pytest.approx(expected["loss"], rel=1e-4)
            assert entry["validation"] == pytest.approx(expected["validation"], abs=1e-6)
        assert ours.best_step == alone.best_step
        assert far(ours.model.state_dict(), alone.model.state_dict()) < 1e-3
        assert not ours.model.training
    return found


@pytest.mark.parametrize("fusion", ["lf-dnn", "mult", "transformer", "mbt", "tfn", "misa", "centralnet"])
def test_every_seed_gets_what_it_gets_alone(small, fusion):
    tasks = [small.task(0, sizes=(40, 20, 12)), small.task(1, sizes=(37, 17, 12))]  # splits of other lengths
    check_alike(tasks, small.config(fusion), Variant("context", True), [3, 8])


def test_maps_too(small):
    names = ("image", "vector")
    tasks = [small.task(seed, names) for seed in range(2)]
    check_alike(tasks, small.config("concat", names), Variant("context", True), [0, 1])


@pytest.mark.parametrize("calibrator", [name for name in CALIBRATORS if name != "context"])
def test_with_every_calibrator(small, calibrator):
    tasks = [small.task(seed) for seed in range(2)]
    check_alike(tasks, small.config("lf-dnn"), Variant(calibrator, True), [0, 1])


@needs_gpu
@pytest.mark.parametrize("fusion", ["lf-dnn", "mult", "transformer", "mbt", "tfn", "misa", "centralnet"])
def test_every_seed_gets_what_it_gets_alone_on_a_gpu(small, fusion):
    tasks = [small.task(0, sizes=(40, 20, 12)), small.task(1, sizes=(37, 17, 12))]
    check_alike(tasks, small.config(fusion), Variant("context", True), [3, 8], "cuda")


@needs_gpu
@pytest.mark.parametrize("calibrator", [name for name in CALIBRATORS if name != "context"])
def test_with_every_calibrator_on_a_gpu(small, calibrator):
    tasks = [small.task(seed) for seed in range(2)]
    check_alike(tasks, small.config("lf-dnn"), Variant(calibrator, True), [0, 1], "cuda")


@needs_gpu
def test_maps_and_seeds_that_leave_the_pass_on_a_gpu(small, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # one kernel rounds as another does
    monkeypatch.setattr(together, "RECORDING", 0)
    config = small.config("concat", ("image", "vector"), steps=24, evaluations=12, patience=1, learning_rate=0.05)
    tasks = [small.task(seed, ("image", "vector")) for seed in range(4)]
    check_alike(tasks, config, Variant("context", True), [0, 1, 2, 3], "cuda")


@needs_gpu
def test_the_same_seed_gives_the_same_numbers_on_a_gpu(small):
    config, variant, cuda = small.config("mult"), Variant("context", True), Devices(accelerator="cuda")
    one, other = (train(small.task(0), config, variant, 0, devices=cuda).model.state_dict() for _ in range(2))
    assert all(torch.equal(x, other[name]) for name, x in one.items())
    one, other = (
        train_together([small.task(0)] * 2, config, variant, [0, 1], device="cuda")[0].model.state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_without_perturbations_and_without_absent_modalities(small):
    names = ("image",)
    tasks = [small.task(seed, names) for seed in range(2)]
    check_alike(tasks, small.config("concat", names), Variant("none", False), [0, 1])


def test_with_real_labels(small):
    def real(part):
        return replace(part, labels=part.labels.astype(np.float32) - 1)

    tasks = [small.task(seed) for seed in range(2)]
    tasks = [
        replace(one, train=real(one.train), valid=real(one.valid), test=real(one.test), kind="real") for one in tasks
    ]
    check_alike(tasks, small.config("lf-dnn"), Variant("context", True), [0, 1])


@pytest.mark.parametrize("leave", [0, 1000])
def test_seeds_stop_by_themselves_and_leave_the_pass(small, monkeypatch, leave):
    monkeypatch.setattr(together, "RECORDING", leave)  # 0: out at once; 1000: never
    config = small.config("lf-dnn", steps=24, evaluations=12, patience=1, learning_rate=0.05)
    tasks = [small.task(seed) for seed in range(4)]
    found = check_alike(tasks, config, Variant("context", True), [0, 1, 2, 3])
    assert len({run.history[-1]["step"] for run in found.values()}) > 1


def test_the_global_stream_is_left_alone(small):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_together([small.task(0)] * 2, small.config("lf-dnn", steps=1), Variant("context", True), [0, 1])
    assert torch.equal(torch.rand(3), expected)


def test_a_seed_that_diverges_is_left_out_and_harms_no_other(small):
    broken = small.task(0)
    with np.errstate(over="ignore"):
        huge = {name: x * np.float32(1e38) for name, x in broken.train.inputs.items()}
    broken = replace(broken, train=broken.train.with_inputs(huge))
    config, variant, cpu = small.config("lf-dnn"), Variant("none", False), Devices(accelerator="cpu")
    found = train_together([small.task(1), broken], config, variant, [1, 0])
    assert list(found) == [1]
    alone = train(small.task(1), config, variant, 1, devices=cpu)
    assert found[1].history[-1]["loss"] == pytest.approx(alone.history[-1]["loss"])
    with pytest.raises(ConcordantError, match="training diverged"):
        train(broken, config, variant, 0, devices=cpu)


@pytest.mark.data
def test_on_real_data(data_folder):
    from concordant.benchmarks.catalogue import prepare

    config = make_config("cmu-mosi-utterance", recipe={"steps": 30, "evaluations": 3})
    tasks = [prepare("cmu-mosi-utterance", seed=seed, data=data_folder) for seed in range(3)]
    assert len({len(task.train) for task in tasks}) > 1
    check_alike(tasks, config, Variant("context", True), [0, 1, 2])
