"""Short runs on made-up sequences; as a program, one of several processes that train them together.

`torchrun --nproc-per-node 2 shared_training.py FOLDER` trains every case, and the first process writes what came of
it to FOLDER/<case>.pt; the tests train the same cases in one process.
"""

import json
import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from concordant.calibration import ContextualCalibrator
from concordant.calibration.distributed import connected
from concordant.data.split import Split, Task
from concordant.errors import ConcordantError
from concordant.study.experiment import study
from concordant.training import validation
from concordant.training.checkpoint import Checkpoint
from concordant.training.config import Config, Recipe, Variant, make_config
from concordant.training.devices import Devices
from concordant.training.train import train

STEPS = 8
RECIPE = {"steps": STEPS, "batch": 13, "width": 8, "dropout": 0.0, "evaluations": 2, "patience": 2}
CASES = {
    "context": {"calibrator": "context", "fusion": "transformer"},
    "uncertainty": {"calibrator": "uncertainty"},
    "evidential": {"calibrator": "evidential"},
    "clean": {"calibrator": "none", "perturbed": False},
    "real": {"calibrator": "context", "kind": "real"},
    "ogm-ge": {"calibrator": "context", "method": "ogm-ge"},
    "gradient-blending": {"calibrator": "none", "method": "gradient-blending"},
    "clean in parts": {"calibrator": "none", "perturbed": False, "accumulate": 3},
    "context in parts": {"calibrator": "context", "accumulate": 3},
}
SHARDED = ("context", "evidential", "context in parts")
ABOUT = {"label": "context", "seed": "0"}
CHUNK = 11  # 23 validation instances: the last chunk has fewer than there are processes


class StoppedError(Exception):
    """What a test stops a run with."""


def make_task(kind="class", few=41):
    """Return a task of padded sequences and vectors, of which some instances have only one."""
    draws = np.random.default_rng(3)

    def part(count, name):
        labels = np.arange(count) % 3
        lengths = draws.integers(3, 10, count)
        steps = draws.standard_normal((count, 9, 5), dtype=np.float32) + labels[:, None, None]
        mask = np.arange(9) < lengths[:, None]
        here = draws.random(count) > 0.2
        vectors = draws.standard_normal((count, 4), dtype=np.float32) - labels[:, None]
        return Split(
            inputs={
                "audio": np.where(mask[..., None], steps, 0).astype(np.float32),
                "pose": vectors.astype(np.float32),
            },
            labels=labels.astype(np.int64) if kind == "class" else labels.astype(np.float32) - 1,
            ids=np.array([f"{name}{row}" for row in range(count)]),
            masks={"audio": mask},
            present={"pose": here},
        )

    layouts = {"audio": "btd", "pose": "bd"}
    return Task(("a", "b", "c"), layouts, part(few, "t"), part(23, "v"), part(9, "x"), kind)


def run_case(name, *, task=None, checkpoint=None, progress=None, fabric=None, **devices):
    """Train one case, and return the trained run."""
    case = dict(CASES[name])
    config = Config.model_construct(
        benchmark="made-up",
        fusion=case.get("fusion", "lf-dnn"),
        calibrators=(case["calibrator"],),
        seeds=1,
        protocol="given",
        modalities=("audio", "pose"),
        calibrate="features",
        method=case.get("method", "none"),
        recipe=Recipe(**RECIPE),
    )
    where = Devices(accelerator="cpu", accumulate=case.get("accumulate", 1), **devices)
    with mock.patch.object(validation, "_EVALUATION_BATCH", CHUNK):
        return train(
            make_task(case.get("kind", "class")) if task is None else task,
            config,
            Variant(case["calibrator"], case.get("perturbed", True)),
            0,
            fabric=fabric,
            devices=where,
            checkpoint=checkpoint,
            progress=progress,
        )


def stop_after(step):
    """Return what stops a run after a step."""

    def progress(now, total):
        if now >= step:
            raise StoppedError

    return progress


def result_of(trained):
    """Return what is compared of a trained run."""
    return {"state": trained.model.state_dict(), "history": trained.history, "best_step": trained.best_step}


def main(folder):
    torch.set_num_threads(1)
    fabric = Devices(accelerator="cpu").fabric()

    def put(name, value):
        if fabric.is_global_zero:
            torch.save(value, folder / f"{name}.pt")

    for name in CASES:
        put(name, result_of(run_case(name, fabric=fabric)))
    local = run_case("context", fabric=fabric, across="local")
    every = fabric.all_gather(torch.cat([value.flatten().float() for value in local.model.state_dict().values()]))
    put("local", {"state": local.model.state_dict(), "apart": float((every[0] - every[1]).abs().max())})
    with suppress(StoppedError):  # written by two, for one to go on with
        run_case("context", fabric=fabric, checkpoint=Checkpoint(folder / "two", ABOUT, 3), progress=stop_after(4))
    known = Checkpoint(folder / "one", ABOUT)  # written by one
    put("resumed", result_of(run_case("context", fabric=fabric, checkpoint=known)))
    sharded = {"strategy": "fsdp", "fabric": Devices(accelerator="cpu", strategy="fsdp").fabric()}
    for name in SHARDED:
        put(f"sharded {name}", result_of(run_case(name, **sharded)))
    with suppress(StoppedError):  # the last one's pieces, for one to go on with
        run_case("context", **sharded, checkpoint=Checkpoint(folder / "pieces", ABOUT, 3), progress=stop_after(4))
    put("sharded resumed", result_of(run_case("context", **sharded, checkpoint=Checkpoint(folder / "one", ABOUT))))
    mixed = run_case("clean", fabric=Devices(accelerator="cpu", precision="bf16-mixed").fabric())
    put("mixed", result_of(mixed))
    put("told", tell(folder, fabric))
    put("studies", studies(folder))


def studies(folder):
    """Return what two studies come to in every process: one whose folder is taken, and one that is done."""
    options = {"calibrators": ("none",), "seeds": 1, "recipe": {"steps": 4, "width": 8, "dropout": 0.0}}
    config, found = make_config("digits", **options), {}
    try:
        found["taken"] = study(config, folder, devices=Devices(accelerator="cpu"), baselines=False)
    except ConcordantError as error:
        found["taken"] = str(error)
    found["done"] = study(config, folder / "study", devices=Devices(accelerator="cpu"), baselines=False)
    told = [found["taken"], sorted(found["done"])]
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(told))
    return {"taken": found["taken"]}


def tell(folder, fabric):
    """Return what the processes tell each other and the errors that all of them raise."""
    found = {}
    with connected(fabric.world_size) as ranks:
        rows = torch.arange(6.0).reshape(3, 2) if fabric.global_rank == 0 else torch.arange(4.0).reshape(2, 2) + 10
        found["asked"] = ranks.gather(rows, rows[:, 0] > 1)
        ranks.rows = (3, 2)
        found["copies"] = ranks.gather(torch.cat([rows, -rows]))[0]
        found["own"] = ranks.own(found["asked"][0])
        leaf = rows.clone().requires_grad_()
        (ranks.gather(leaf)[0] * torch.arange(5.0)[:, None]).sum().backward()
        found["own gradient"] = leaf.grad.clone()
        leaf.grad = None
        (ranks.gather(leaf, through=True)[0] * torch.arange(5.0)[:, None]).sum().backward()
        found["summed gradient"] = leaf.grad
        first = torch.full((2,), float(fabric.global_rank + 4))
        ranks.copy_first(first)
        found["total"], found["first"] = ranks.total(0.1 + fabric.global_rank, 1), first
        found["copied"] = pickle.loads(pickle.dumps(with_ranks(ranks))).ranks
    broken = make_task()
    broken.train.inputs["pose"][np.flatnonzero(broken.train.present["pose"])[0]] = np.inf
    errors = {
        "broken": lambda: run_case("context", fabric=fabric, task=broken),
        "small": lambda: run_case("clean", fabric=fabric, task=make_task(few=1)),
        "elsewhere": lambda: run_case(
            "context", fabric=fabric, checkpoint=Checkpoint(folder / ("one" if fabric.global_rank else "none"), ABOUT)
        ),
    }
    for name, work in errors.items():
        try:
            work()
        except ConcordantError as error:
            found[name] = str(error)
    found["every error"] = fabric.all_gather(torch.tensor(len(found))).tolist()
    return found


def with_ranks(ranks):
    """Return a calibrator that has been trained by several processes."""
    calibrate = ContextualCalibrator({"a": 2, "b": 2}, layouts="bd")
    calibrate.ranks = ranks
    return calibrate


def work_of(job, fabric):
    """Do a job of the tests of processes that Concordant starts: what it is called says what becomes of it."""
    if job.variant.calibrator == "dies" and fabric.global_rank == 1:
        os._exit(9)
    if job.variant.calibrator == "fails":
        raise ConcordantError("it did")
    total = fabric.all_reduce(torch.tensor(1.0), reduce_op="sum")
    return {"processes": float(total), "threads": torch.get_num_threads()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
