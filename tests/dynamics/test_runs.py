"""Observed experiments on the embedded digits: what is written, resumed, refused, and how it is joined."""

import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from concordant.benchmarks.catalogue import prepare
from concordant.dynamics import runs as module
from concordant.dynamics.recorder import DEFAULT_EVERY
from concordant.dynamics.runs import collect_dynamics, train_observed
from concordant.dynamics.stability import loss_variance, spikes
from concordant.errors import ConcordantError, DataError, UsageError
from concordant.files import read_json, write_json
from concordant.study.experiment import study
from concordant.training.config import Variant, make_config
from concordant.training.processes import Job
from concordant.training.train import train

RECIPE = {"steps": 24, "width": 8, "evaluations": 3}
CONFIG = make_config("digits", seeds=2, calibrators=("none", "context"), recipe=RECIPE)
STEPS = [1, 6, 11, 16, 21]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("dynamics") / "out"
    study(CONFIG, out, jobs=1, dynamics=5, baselines=False)
    return out, read_json(out / "analyses" / "dynamics.json")


def series_of(run):
    return {(one["quantity"], one["of"]): one for one in run["series"]}


def test_the_document_follows_its_schema(done):
    _, found = done
    assert list(found) == [
        *("schema", "benchmark", "fusion", "modalities", "every", "runs", "summary", "versions", "hardware", "command")
    ]
    assert found["schema"] == "concordant.dynamics/1"
    assert (found["benchmark"], found["fusion"], found["every"]) == ("digits", "concat", 5)
    assert found["modalities"] == ["left", "right", "profile"]
    assert [(run["label"], run["seed"]) for run in found["runs"]] == [
        (label, seed) for label in ("none", "none+perturbed", "context") for seed in (0, 1)
    ]
    for run in found["runs"]:
        assert list(run) == ["label", "seed", "seconds", "observing_seconds", "series", "stability"]
        assert 0 < run["observing_seconds"] < run["seconds"]
        assert list(run["stability"]) == ["loss_variance", "spikes", "final_score", "sharpness"]
    assert found["command"]


def test_every_series_has_its_steps(done):
    _, found = done
    for run in found["runs"]:
        series = series_of(run)
        assert series["loss", ""]["step"] == list(range(1, 25))
        for name in found["modalities"]:
            assert series["gradient_norm", name]["step"] == STEPS
            assert series["probe", name]["step"] == [8, 16, 24]
            assert (("reliability_q50", name) in series) == (run["label"] == "context")
        for pair in ("left|right", "left|profile", "right|profile"):
            assert series["conflict", pair]["step"] == STEPS
            assert all(-1 <= value <= 1 for value in series["conflict", pair]["value"])
        for quantity in ("validation_loss", "validation_score"):
            assert series[quantity, ""]["step"] == [8, 16, 24]
        assert all(len(one["step"]) == len(one["value"]) for one in series.values())


def test_stability_and_its_summary_can_be_computed_from_the_series(done):
    _, found = done
    for run in found["runs"]:
        losses = series_of(run)["task_loss", ""]["value"]
        assert run["stability"]["loss_variance"] == pytest.approx(loss_variance(losses))
        assert run["stability"]["spikes"] == len(spikes(losses))
        assert run["stability"]["final_score"] in series_of(run)["validation_score", ""]["value"]
    entry = found["summary"][2]
    finals = [run["stability"]["final_score"] for run in found["runs"] if run["label"] == "context"]
    assert (entry["label"], entry["seeds"]) == ("context", 2)
    assert entry["final_score"]["mean"] == pytest.approx(sum(finals) / 2)


def test_the_parquet_file_is_a_long_table_of_the_same_numbers(done):
    out, found = done
    table = pq.read_table(out / "runs" / "context" / "seed-1" / "dynamics.parquet")
    assert [(field.name, str(field.type)) for field in table.schema] == [
        *(("step", "int64"), ("quantity", "string"), ("of", "string"), ("value", "double"))
    ]
    run = next(run for run in found["runs"] if (run["label"], run["seed"]) == ("context", 1))
    rows = [
        (one["quantity"], one["of"], s, v)
        for one in run["series"]
        for s, v in zip(one["step"], one["value"], strict=True)
    ]
    assert sorted(rows) == sorted((row["quantity"], row["of"], row["step"], row["value"]) for row in table.to_pylist())


def test_tensorboard_reads_the_event_files(done):
    out, found = done
    events = EventAccumulator(str(out / "runs" / "context" / "seed-0" / "tensorboard")).Reload()
    series = series_of(next(run for run in found["runs"] if (run["label"], run["seed"]) == ("context", 0)))
    for tag, key in (
        ("gradient_norm/left", ("gradient_norm", "left")),
        ("conflict/left-profile", ("conflict", "left|profile")),
        ("validation_score", ("validation_score", "")),
    ):
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == series[key]["step"]
        assert [scalar.value for scalar in scalars] == pytest.approx(series[key]["value"], rel=1e-5)
    assert [scalar.step for scalar in events.Scalars("loss")] == STEPS


@pytest.mark.parametrize("label", ["none", "context"])
def test_weights_are_those_of_a_run_that_nobody_observes(done, label):
    out, _ = done
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the runs of an experiment compute; sums have another order with more
    try:
        plain = train(prepare("digits", seed=1), CONFIG, Variant(label, label != "none"), 1).model.state_dict()
    finally:
        torch.set_num_threads(threads)
    saved = load_file(out / "runs" / label / "seed-1" / "weights.safetensors")
    assert set(saved) == set(plain)
    assert all(torch.equal(saved[name], value.cpu()) for name, value in plain.items())


def timeless(found):
    return [{k: v for k, v in run.items() if not k.endswith("seconds")} for run in found["runs"]]


def test_a_killed_run_is_repeated_alone_and_gives_the_same(done, tmp_path):
    out, found = done
    copy = shutil.copytree(out, tmp_path / "copy")
    killed = copy / "runs" / "context" / "seed-1"
    for name in ("run.json", "dynamics-run.json"):
        (killed / name).unlink()
    (killed / "dynamics.parquet").write_bytes(b"half a fi")
    (copy / "analyses" / "dynamics.json").unlink()
    stale = killed / "tensorboard" / "events.out.tfevents.0.of.a.run.that.stopped"
    stale.write_bytes(b"")
    seen = []
    study(CONFIG, copy, jobs=1, dynamics=5, progress=lambda *state: seen.append(state), baselines=False)
    assert [count for count, _, _ in seen] == [5, 6]
    assert timeless(read_json(copy / "analyses" / "dynamics.json")) == timeless(found)
    assert not stale.exists()
    assert len(list((killed / "tensorboard").iterdir())) == 1


def test_two_processes_give_the_same(done, tmp_path):
    _, found = done
    config = make_config("digits", seeds=1, calibrators=("context",), recipe=RECIPE)
    study(config, tmp_path / "out", jobs=2, dynamics=5, baselines=False)
    study(config, tmp_path / "out", jobs=2, dynamics=5, baselines=False)
    again = timeless(read_json(tmp_path / "out" / "analyses" / "dynamics.json"))
    assert again == [run for run in timeless(found) if (run["label"], run["seed"]) == ("context", 0)]


def test_without_dynamics_nothing_is_written_and_later_they_are_refused(tmp_path):
    out = tmp_path / "out"
    config = make_config("digits", seeds=1, calibrators=("self",), recipe={"steps": 2, "width": 4})
    study(config, out, jobs=1, baselines=False)
    assert not (out / "analyses" / "dynamics.json").exists()
    assert {path.name for path in (out / "runs" / "self" / "seed-0").iterdir()} == {
        *("history.json", "predictions.parquet", "run.json", "weights.safetensors")
    }
    with pytest.raises(UsageError) as caught:
        study(config, out, jobs=1, dynamics=5, baselines=False)
    assert str(caught.value) == f"the runs in {out} were trained without --dynamics; name another folder with --out"


def test_another_distance_is_refused(done):
    out, _ = done
    with pytest.raises(UsageError) as caught:
        study(CONFIG, out, jobs=1, dynamics=7, baselines=False)
    assert str(caught.value) == (
        f"the runs in {out} were observed every 5 steps, not every 7; "
        "give --dynamics-every 5, or name another folder with --out"
    )


def test_an_observed_folder_can_be_read_again_without_asking_for_dynamics(done):
    out, found = done
    study(CONFIG, out, jobs=1, baselines=False)
    assert read_json(out / "analyses" / "dynamics.json") == found


def test_another_configuration_is_said_first(done):
    out, _ = done
    with pytest.raises(UsageError, match="belongs to another configuration"):
        study(make_config("digits", seeds=3), out, dynamics=9, baselines=False)


def test_the_distance_must_be_positive_and_nothing_is_made(tmp_path):
    with pytest.raises(UsageError, match=r"dynamics must be 1 or more, .* found 0"):
        study(CONFIG, tmp_path / "out", jobs=1, dynamics=0, baselines=False)
    assert not (tmp_path / "out").exists()


def test_without_tensorboard_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConcordantError, match=r"tensorboard, which is not installed: pip install 'concordant\[exper"):
        study(CONFIG, tmp_path / "out", jobs=1, dynamics=5, baselines=False)
    assert not (tmp_path / "out").exists()
    job = Job(CONFIG, Variant("none", False), 0, tmp_path / "run", None, 5)
    with pytest.raises(ConcordantError, match="tensorboard, which is not installed"):
        train_observed(None, job)


def test_a_job_that_names_no_distance_gets_the_default(tmp_path):
    job = Job(CONFIG, Variant("none", False), 0, tmp_path / "run", None)
    trained = train_observed(prepare("digits", seed=0), job)
    entry = read_json(tmp_path / "run" / "dynamics-run.json")
    assert entry["every"] == DEFAULT_EVERY
    # What is left without observing is what the run itself took, but for the clock around sharpness.
    assert trained.seconds == pytest.approx(entry["seconds"] - entry["observing_seconds"], abs=0.05)


def test_runs_of_different_distances_make_no_table(done, tmp_path):
    copy = shutil.copytree(done[0], tmp_path / "copy")
    path = copy / "runs" / "none" / "seed-0" / "dynamics-run.json"
    write_json(path, {**read_json(path), "every": 50})
    with pytest.raises(UsageError, match=r"were observed every 5 and every 50 steps, which makes no one table"):
        collect_dynamics(copy)


def test_missing_files_are_named(done, tmp_path):
    copy = shutil.copytree(done[0], tmp_path / "copy")
    (copy / "runs" / "context" / "seed-0" / "dynamics.parquet").unlink()
    with pytest.raises(DataError, match=r"seed-0/dynamics.parquet cannot be read as Parquet"):
        collect_dynamics(copy)
    (copy / "runs" / "none" / "seed-1" / "dynamics-run.json").unlink()
    with pytest.raises(DataError, match=r"seed-1/dynamics-run.json cannot be read as JSON"):
        collect_dynamics(copy)


def test_long_series_are_thinned_and_null_stands_for_nothing(done, monkeypatch):
    monkeypatch.setattr(module, "MOST_POINTS", 10)
    series = series_of(collect_dynamics(done[0])["runs"][0])
    assert series["loss", ""]["step"] == list(range(1, 25, 3))
    assert series["gradient_norm", "left"]["step"] == STEPS
    table = module.as_table([module.Record(3, "probe", "b", float("nan")), module.Record(4, "probe", "b", 0.5)])
    assert table.column("value").to_pylist() == [None, 0.5]
    assert (
        json.dumps(module._series(table)) == '[{"quantity": "probe", "of": "b", "step": [3, 4], "value": [null, 0.5]}]'
    )
