"""A trial as a worker does it: the numbers of `concordant run`, whole or not at all, and never twice."""

import json
import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from concordant.errors import ConcordantError
from concordant.study import work as studying
from concordant.study.experiment import study
from concordant.sweep import trial as trials
from concordant.sweep.trial import ABOUT, MARK, Trial, perform, without_test
from concordant.training.config import make_config
from concordant.training.runs import prepare_of

CONFIG = make_config("digits", calibrators=("none", "none+perturbed"), seeds=1, recipe={"steps": 6, "width": 8})


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / MARK).write_text("{}")
    return tmp_path


def a_run(sweep, **changed):
    target = sweep / "digits" / "concat" / "runs" / "none" / "seed-0"
    known = {"experiment": "digits/concat", "label": "none", "seed": 0, "data": None, "files": {}}
    return Trial(**{**known, "config": CONFIG, "sweep": sweep, "target": target, **changed})


def a_candidate(sweep, **changed):
    return a_run(sweep, **{"target": sweep / "search" / "c.json", "candidate": 3, "fields": {"width": 8}, **changed})


def test_a_trial_travels_as_json(sweep):
    chosen = {"optimizer": "adam", "learning_rate": 0.1, "width": 8}
    tuned = CONFIG.model_copy(update={"tuned": {"none": chosen}})
    for one in (a_run(sweep), a_run(sweep, config=tuned), a_candidate(sweep, fields=chosen)):
        assert Trial.model_validate_json(one.model_dump_json()) == one
    assert tuned.of(CONFIG.variants[0]).recipe.optimizer == "adam"
    assert a_run(sweep).name == "digits/concat: none, seed 0"
    assert a_candidate(sweep).name == "digits/concat: none, candidate 3, seed 0"
    assert a_run(sweep, label="none+perturbed").variant == CONFIG.variants[1]


def test_a_run_is_the_one_of_concordant_run(sweep):
    one = a_run(sweep)
    assert perform(one) == {"state": "done"}
    study(CONFIG, sweep / "alone", jobs=1, baselines=False)
    alone = sweep / "alone" / "runs" / "none" / "seed-0"
    ours, theirs = (json.loads((folder / "run.json").read_text()) for folder in (one.target, alone))
    timed = {"train_seconds": 0, "loading_share": 0}
    assert {**ours, **timed} == {**theirs, **timed}
    assert {path.name for path in one.target.iterdir()} - {ABOUT} == {path.name for path in alone.iterdir()}
    assert [path.name for path in one.target.parent.iterdir()] == ["seed-0"]  # nothing half-made is left
    about = json.loads((one.target / ABOUT).read_text())
    assert (about["cpus"], about["gpus"]) == (1, 0)
    assert about["versions"]["torch"] == torch.__version__


def test_what_is_there_is_not_done_again(sweep, monkeypatch):
    one = a_run(sweep)
    perform(one)
    monkeypatch.setattr(trials, "run_one", lambda job: pytest.fail("it trained again"))
    assert perform(one) == {"state": "done"}


def test_of_two_attempts_at_once_the_first_stays(sweep, monkeypatch):
    """Both train before either is in its place, as where a worker that was thought dead goes on."""
    one, barrier, plain = a_run(sweep), threading.Barrier(2), trials._move

    def move(attempt, target):
        barrier.wait(60)
        (attempt / "whose").write_text(attempt.name)
        plain(attempt, target)

    monkeypatch.setattr(trials, "_move", move)
    found = []
    workers = [threading.Thread(target=lambda: found.append(perform(one))) for _ in range(2)]
    # The draws of dropout are those of the process: one after the other, but both before the move.
    lock, train = threading.Lock(), trials.run_one

    def alone(job):
        with lock:
            return train(job)

    monkeypatch.setattr(trials, "run_one", alone)
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [{"state": "done"}] * 2
    assert [path.name for path in one.target.parent.iterdir()] == ["seed-0"]
    assert len(list(one.target.glob("whose"))) == 1


def test_a_stopped_attempt_leaves_nothing(sweep, monkeypatch):
    def stopped(job):
        job.folder.mkdir(parents=True)
        (job.folder / "weights.safetensors").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "run_one", stopped)
    with pytest.raises(KeyboardInterrupt):
        perform(a_run(sweep))
    assert not list(sweep.rglob("*.safetensors"))


def test_failures_are_sentences_and_lack_of_memory_is_a_state(sweep, monkeypatch):
    def failing(error):
        def work(job):
            raise error

        monkeypatch.setattr(trials, "run_one", work)
        return perform(a_run(sweep))

    assert failing(ConcordantError("it diverged")) == {"state": "failed", "error": "it diverged"}
    assert failing(torch.OutOfMemoryError("of the card")) == {"state": "memory", "error": "out of memory (of the card)"}
    assert failing(MemoryError())["state"] == "memory"
    with pytest.raises(TypeError):  # not foreseen: the engine says so
        failing(TypeError("a bug"))


def test_a_worker_that_sees_another_folder_or_other_data_refuses(sweep, tmp_path):
    (sweep / MARK).unlink()
    assert perform(a_run(sweep)) == {
        "state": "failed",
        "error": f"the worker does not see {sweep}; name with --out a folder on storage that all machines share",
    }
    (sweep / MARK).write_text("{}")
    draws = np.random.default_rng(0)
    arrays = {f"view{i}": draws.standard_normal((90, size), np.float32) for i, size in enumerate((20, 59, 40))}
    np.savez(tmp_path / "scene15.npz", label=np.arange(90) % 15, **arrays)
    config = make_config("scene15", calibrators=("none",), seeds=1)
    outcome = perform(a_run(sweep, config=config, data=str(tmp_path), files={"scene15.npz": "0" * 64}))
    assert outcome["state"] == "failed"
    assert outcome["error"] == (
        f"scene15.npz in {tmp_path} of the worker is another file than where the sweep was started; "
        "see that all machines read the same data"
    )


def test_a_target_that_cannot_be_written_is_an_error(sweep):
    one = a_run(sweep)
    one.target.mkdir(parents=True)
    (one.target / "foreign").write_text("")
    outcome = perform(one)
    assert outcome["state"] == "failed"
    assert outcome["error"] == f"{one.target} cannot be written (Directory not empty); see that it is writable"


def test_threads_are_those_of_the_resources(sweep, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(trials, "_run", lambda trial: seen.append(torch.get_num_threads()))
    perform(a_run(sweep, cpus=before + 1))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_candidate_is_scored_on_validation_and_never_scores_the_test_split(sweep, monkeypatch):
    seen = []
    monkeypatch.setattr(studying, "evaluate", lambda *_, **__: pytest.fail("the test split was scored"))
    plain = trials.train
    monkeypatch.setattr(trials, "train", lambda task, *rest: seen.append(len(task.test)) or plain(task, *rest))
    one = a_candidate(sweep)
    assert perform(one) == {"state": "done"}
    found = json.loads(one.target.read_text())
    trained = plain(prepare_of(CONFIG, None, seed=0), CONFIG, CONFIG.variants[0], 0)
    assert found["validation"] == {e["step"]: e["validation"] for e in trained.history}[trained.best_step]
    assert (found["recipe"], found["label"], found["error"]) == ({"width": 8}, "none", None)
    assert not {"clean", "corruption", "removal"} & set(found)
    assert seen == [0]


def test_a_candidate_that_diverges_is_a_result(sweep, monkeypatch):
    def diverged(*_):
        raise ConcordantError("training diverged at step 3")

    monkeypatch.setattr(trials, "train", diverged)
    one = a_candidate(sweep)
    assert perform(one) == {"state": "done"}
    found = json.loads(one.target.read_text())
    assert (found["validation"], found["error"]) == (None, "training diverged at step 3")


def test_a_test_part_is_emptied_in_memory_and_in_a_store(tmp_path):
    task = prepare_of(CONFIG, None, seed=0)
    assert len(without_test(task).test) == 0
    assert without_test(task).train is task.train
    pytest.importorskip("datasets")
    from concordant.data.formats.own import read_numpy
    from concordant.data.store import Store
    from concordant.data.stored import everything
    from concordant.data.writing import write_store

    np.savez(tmp_path / "mine.npz", label=np.arange(9) % 3, a=np.ones((9, 4)), b=np.ones((9, 2)))
    reading = read_numpy(tmp_path / "mine.npz")
    write_store(tmp_path / "mine", reading.card, reading.instances)
    part = everything(Store(tmp_path / "mine"))
    assert len(without_test(replace(task, test=part)).test) == 0
    shutil.rmtree(tmp_path / "mine")
    assert os.path.exists(tmp_path)
