"""Training of many seeds in one pass: every seed gets what its single run gives it, up to rounding."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from concordant.data.split import Split, Task
from concordant.errors import ConcordantError, DataError
from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS
from concordant.training import many_seeds
from concordant.training.checkpoint import Checkpoint
from concordant.training.config import Recipe, Variant, make_config
from concordant.training.devices import Devices
from concordant.training.execution_plan import plan
from concordant.training.many_seeds import alike, train_together
from concordant.training.processes import Job
from concordant.training.train import train

CLASSES = 3
LAYOUTS = {"steps": "btd", "vector": "bd", "image": "bchw"}


def make_split(rng, count, names):
    """Return a padded sequence, a vector that is absent now and then, and an image, or those of them that are named."""
    labels = np.resize(np.arange(CLASSES), count).astype(np.int64)
    rng.shuffle(labels)
    shift = labels[:, None].astype(np.float32)
    inputs, masks, present = {}, {}, {}
    if "steps" in names:
        lengths = rng.integers(2, 9, count)
        masks["steps"] = np.arange(8) < lengths[:, None]
        noise = rng.standard_normal((count, 8, 5), dtype=np.float32)
        inputs["steps"] = (noise + shift[:, None]) * masks["steps"][:, :, None]
    if "vector" in names:
        present["vector"] = rng.random(count) < 0.8
        inputs["vector"] = rng.standard_normal((count, 6), dtype=np.float32) - shift
    if "image" in names:
        inputs["image"] = rng.standard_normal((count, 1, 6, 6), dtype=np.float32) + shift[:, :, None, None]
    ids = np.array([f"{count}-{row}" for row in range(count)])
    return Split(inputs, labels, ids, None, masks, present)


def make_task(seed, names=("steps", "vector"), *, sizes=(40, 20, 12)):
    rng = np.random.default_rng(seed)
    return Task(tuple("abc"), {name: LAYOUTS[name] for name in names}, *(make_split(rng, n, names) for n in sizes))


def make_small(fusion, names=("steps", "vector"), **recipe):
    fields = {"steps": 6, "batch": 16, "width": 8, "evaluations": 3, "patience": 3, "dropout": 0.2, **recipe}
    config = make_config("digits", fusion=fusion, recipe=fields)
    return config.model_copy(update={"modalities": names})


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
def test_every_seed_gets_what_it_gets_alone(fusion):
    tasks = [make_task(0, sizes=(40, 20, 12)), make_task(1, sizes=(37, 17, 12))]  # splits of other lengths
    check_alike(tasks, make_small(fusion), Variant("context", True), [3, 8])


def test_maps_too():
    names = ("image", "vector")
    tasks = [make_task(seed, names) for seed in range(2)]
    check_alike(tasks, make_small("concat", names), Variant("context", True), [0, 1])


@pytest.mark.parametrize("calibrator", [name for name in CALIBRATORS if name != "context"])
def test_with_every_calibrator(calibrator):
    tasks = [make_task(seed) for seed in range(2)]
    check_alike(tasks, make_small("lf-dnn"), Variant(calibrator, True), [0, 1])


@needs_gpu
@pytest.mark.parametrize("fusion", ["lf-dnn", "mult", "transformer", "mbt", "tfn", "misa", "centralnet"])
def test_every_seed_gets_what_it_gets_alone_on_a_gpu(fusion):
    tasks = [make_task(0, sizes=(40, 20, 12)), make_task(1, sizes=(37, 17, 12))]
    check_alike(tasks, make_small(fusion), Variant("context", True), [3, 8], "cuda")


@needs_gpu
@pytest.mark.parametrize("calibrator", [name for name in CALIBRATORS if name != "context"])
def test_with_every_calibrator_on_a_gpu(calibrator):
    tasks = [make_task(seed) for seed in range(2)]
    check_alike(tasks, make_small("lf-dnn"), Variant(calibrator, True), [0, 1], "cuda")


@needs_gpu
def test_maps_and_seeds_that_leave_the_pass_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # one kernel rounds as another does
    config = make_small("concat", ("image", "vector"), steps=24, evaluations=12, patience=1, learning_rate=0.05)
    tasks = [make_task(seed, ("image", "vector")) for seed in range(4)]
    check_alike(tasks, config, Variant("context", True), [0, 1, 2, 3], "cuda")


@needs_gpu
def test_the_same_seed_gives_the_same_numbers_on_a_gpu():
    config, variant, cuda = make_small("mult"), Variant("context", True), Devices(accelerator="cuda")
    one, other = (train(make_task(0), config, variant, 0, devices=cuda).model.state_dict() for _ in range(2))
    assert all(torch.equal(x, other[name]) for name, x in one.items())
    one, other = (
        train_together([make_task(0)] * 2, config, variant, [0, 1], device="cuda")[0].model.state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_without_perturbations_and_without_absent_modalities():
    names = ("image",)
    tasks = [make_task(seed, names) for seed in range(2)]
    check_alike(tasks, make_small("concat", names), Variant("none", False), [0, 1])


def test_with_real_labels():
    def real(part):
        return replace(part, labels=part.labels.astype(np.float32) - 1)

    tasks = [make_task(seed) for seed in range(2)]
    tasks = [
        replace(one, train=real(one.train), valid=real(one.valid), test=real(one.test), kind="real") for one in tasks
    ]
    check_alike(tasks, make_small("lf-dnn"), Variant("context", True), [0, 1])


def test_seeds_stop_by_themselves_and_leave_the_pass():
    config = make_small("lf-dnn", steps=24, evaluations=12, patience=1, learning_rate=0.05)
    tasks = [make_task(seed) for seed in range(4)]
    found = check_alike(tasks, config, Variant("context", True), [0, 1, 2, 3])
    assert len({run.history[-1]["step"] for run in found.values()}) > 1


def test_the_global_stream_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    steps, config = [], make_small("lf-dnn", steps=1)
    how = {"progress": lambda *found: steps.append(found)}
    train_together([make_task(0)] * 2, config, Variant("context", True), [0, 1], **how)
    assert torch.equal(torch.rand(3), expected)
    assert steps == [(1, 1)]


def test_a_seed_that_diverges_is_left_out_and_harms_no_other():
    broken = make_task(0)
    with np.errstate(over="ignore"):
        huge = {name: x * np.float32(1e38) for name, x in broken.train.inputs.items()}
    broken = replace(broken, train=broken.train.with_inputs(huge))
    config, variant, cpu = make_small("lf-dnn"), Variant("none", False), Devices(accelerator="cpu")
    found = train_together([make_task(1), broken], config, variant, [1, 0])
    assert list(found) == [1]
    alone = train(make_task(1), config, variant, 1, devices=cpu)
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


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_execution_plan_refuses_what_vmap_has_no_rules_for(fusion, tmp_path):
    names = ("image", "vector") if FUSIONS[fusion].setting == "convolutional" else ("steps", "vector")
    config, variant = make_small(fusion, names, steps=1, evaluations=1), Variant("context", True)
    tasks = [make_task(seed, names) for seed in range(2)]
    jobs = [Job(config, variant, seed, tmp_path, None, devices=Devices(accelerator="cpu")) for seed in range(3)]
    _, (line,) = plan(jobs, lambda job: tasks[0], vectorise="auto", processes=1)
    if "recurrent layers" in line:
        return
    assert line == "context: 5 seeds in one vectorised pass"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")  # vmap calls an operator seed by seed
        train_together(tasks, config, variant, [0, 1])


def test_random_numbers_out_of_reach_and_steps_that_depend_on_values_are_refused(monkeypatch):
    build = many_seeds.build_model

    def with_layer(forward):
        def changed(*args):
            model = build(*args)
            join = model.fusion.join
            model.fusion.join = lambda features, masks, present: forward(join(features, masks, present))
            return model

        monkeypatch.setattr(many_seeds, "build_model", changed)
        with pytest.raises(ConcordantError, match=r"^PyTorch's vmap cannot follow the model \(.*\)$"):
            train_together([make_task(0)] * 2, make_small("lf-dnn"), Variant("context", True), [0, 1])

    with_layer(lambda x: x * (2 if x.sum() > 0 else 1))
    with_layer(lambda x: x + torch.empty_like(x).normal_())


def test_presence_that_one_seed_does_not_mention_is_presence_throughout():
    tasks = [make_task(seed) for seed in range(2)]
    tasks[1] = replace(tasks[1], train=replace(tasks[1].train, present={}))
    check_alike(tasks, make_small("lf-dnn"), Variant("context", True), [0, 1])


def test_splits_on_disk_are_refused():
    with pytest.raises(ConcordantError, match="need their training and validation splits in memory"):
        train_together(
            [replace(make_task(0), valid=object())] * 2, make_small("lf-dnn"), Variant("none", False), [0, 1]
        )


def test_seeds_whose_batches_have_one_shape_are_together():
    tasks = {
        4: make_task(0, sizes=(40, 20, 12)),
        5: make_task(1, sizes=(33, 10, 12)),
        6: make_task(2, sizes=(10, 20, 12)),  # fewer than a batch
        7: make_task(3, ("steps",)),
    }
    assert alike(tasks, Recipe(batch=16)) == [[4, 5], [6], [7]]


class StoppedError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("stop", [3, 9, 12])
def test_a_pass_that_was_stopped_goes_on_to_the_same_numbers(tmp_path, monkeypatch, stop):
    config = make_small("lf-dnn", steps=12, evaluations=12, patience=1, learning_rate=0.05)
    run = [make_task(seed) for seed in range(3)], config, Variant("context", True), [0, 1, 2]
    whole = train_together(*run)
    assert len({one.history[-1]["step"] for one in whole.values()}) > 1  # some leave the pass early
    write = Checkpoint.write

    def stopped(self, state):
        write(self, state)
        if state["step"] >= stop:
            raise StoppedError

    monkeypatch.setattr(Checkpoint, "write", stopped)
    path = tmp_path / "pass-0.pt"
    with pytest.raises(StoppedError):
        train_together(*run, checkpoint=Checkpoint(path, {}, 3))
    again = train_together(*run, checkpoint=Checkpoint(path, {}))
    for seed, one in whole.items():
        assert again[seed].history == one.history
        assert again[seed].best_step == one.best_step
        expected = one.model.state_dict()
        assert all(torch.equal(x, expected[name]) for name, x in again[seed].model.state_dict().items())
    with pytest.raises(DataError, match="does not fit this run"):
        train_together(run[0], make_small("lf-dnn", steps=12, width=4), *run[2:], checkpoint=Checkpoint(path, {}))
