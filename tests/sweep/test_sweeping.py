"""A sweep without Ray: which trials run, resuming, results, failures and progress lines."""

import json

import pytest

from concordant.errors import ConcordantError, DataError, UsageError
from concordant.report.page import read_all
from concordant.study.experiment import study
from concordant.sweep import trial as trials
from concordant.sweep.grid_file import Grid, Resources, make_plan
from concordant.sweep.search import draw
from concordant.sweep.sweeping import Sweep, failures
from concordant.sweep.trial import ABOUT, MARK
from concordant.training.runs import RunFolder, identity, lock

SHORT = {"calibrators": ("none", "context"), "seeds": 1, "recipe": {"steps": 4, "width": 8}}
ONE = Grid(benchmarks=("digits",), **SHORT)
TWO = Grid(benchmarks=("digits",), fusions=("concat", "sum"), **SHORT)
SEARCHED = Grid(
    benchmarks=("digits",),
    calibrators=("none", "context"),
    seeds=1,
    recipe={"steps": 4},
    search={"budget": 2, "space": {"learning_rate": {"log": [1e-3, 1e-2]}, "width": [4, 6]}},
)
LABELS = ("none", "none+perturbed", "context")
COMMAND = "concordant sweep grid.yaml"


def sweep(grid, out, engine, **options):
    return Sweep(grid, make_plan(grid), out, command=COMMAND, **options).run(engine)


def state_of(out):
    return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_ino) for path in out.rglob("run.json"))


def test_a_stopped_sweep_goes_on_and_does_nothing_twice(tmp_path, here):
    out, lines = tmp_path / "s", []
    first = here(stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        sweep(TWO, out, first)
    assert json.loads((out / "sweep.json").read_text())["state"] == "stopped"
    with pytest.raises(DataError, match="holds no finished experiment; give the concordant sweep command again"):
        read_all(out)
    before = state_of(out)
    assert len(before) == 4
    second = here()
    found = sweep(TWO, out, second, progress=lambda done, total, line: lines.append((done, total, line)))
    assert set(before) < set(state_of(out))
    assert sorted(first.done + second.done) == sorted(
        f"digits/{row}: {label}, seed 0" for row in ("concat", "sum") for label in LABELS
    )
    assert [(done, total) for done, total, _ in lines] == [(4, 6), (5, 6), (6, 6)]
    assert (found["state"], found["trials"], found["finished"], found["failed"]) == ("finished", 6, 6, [])
    assert found == json.loads((out / "sweep.json").read_text())
    assert failures(found) is None
    grid = json.loads((out / "digits" / "grid.json").read_text())
    assert [row["row"] for row in grid["rows"]] == ["concat", "sum"]
    assert grid["command"] == COMMAND
    (document,) = read_all(out)
    assert (document.name, document.grid) == ("digits", grid)

    third = here()
    after = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*.json") if path.name != "sweep.json")
    assert sweep(TWO, out, third) == {**found, "retried": 0}
    assert third.done == []
    assert after == sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*.json") if path.name != "sweep.json")


def test_what_a_killed_worker_had_begun_is_cleared_away(tmp_path, here):
    class Killed(here):
        def run(self, trials, **options):
            begun = trials[0].target.with_name(".seed-0.beef.tmp")
            begun.mkdir(parents=True)
            (begun / "weights.safetensors").write_text("half")
            super().run(trials, **options)

    sweep(ONE, tmp_path / "s", Killed())
    assert not list((tmp_path / "s").rglob("*.tmp"))
    assert len(state_of(tmp_path / "s")) == 3


def test_an_experiment_is_that_of_concordant_run(tmp_path, here):
    sweep(ONE, tmp_path / "s", here())
    config = make_plan(ONE)[0].config
    study(config, tmp_path / "r", jobs=1, baselines=False)
    ours = json.loads((tmp_path / "s" / "digits" / "concat" / "results.json").read_text())
    theirs = json.loads((tmp_path / "r" / "results.json").read_text())
    assert ours.pop("command") == COMMAND
    for results in (ours, theirs):
        for run in results["runs"]:
            run.pop("train_seconds")
            run.pop("loading_share")
    assert ours == theirs
    study(config, tmp_path / "s" / "digits" / "concat", jobs=1, baselines=False)  # and goes on as one
    (document,) = read_all(tmp_path / "s")
    assert document.name == "digits, concat"


def test_a_search_comes_before_the_runs_and_they_have_its_recipes(tmp_path, here):
    engine = here()
    found = sweep(SEARCHED, tmp_path / "s", engine)
    assert found["trials"] == 9
    assert all(", candidate " in name for name in engine.done[:6])
    assert list(engine.done[6:]) == [f"digits/concat: {label}, seed 0" for label in LABELS]
    folder = tmp_path / "s" / "digits" / "concat"
    table = json.loads((folder / "search.json").read_text())
    # Every variant gets the same candidates, each with its file.
    assert [row["recipe"] for row in table["candidates"]] == [draw(SEARCHED.search.space, k) for k in (0, 1)] * 3
    assert [row["label"] for row in table["candidates"][::2]] == list(LABELS)
    assert (table["schema"], table["space"]) == ("concordant.search/1", SEARCHED.search.space)
    assert (table["budget"], table["seeds"], table["seed"]) == (2, 1, 0)
    assert (tmp_path / "s/search/digits/concat/none+perturbed/candidate-1-seed-0.json").is_file()
    config = json.loads((folder / "config.json").read_text())
    assert config["tuned"] == {label: row["recipe"] for label, row in table["chosen"].items()}
    assert found["experiments"][0]["chosen"] == table["chosen"]
    from concordant.training.runs import open_runs

    runs = open_runs(folder)  # the weights are those of each variant's own width
    for variant in runs.config.variants:
        assert (
            runs.model(runs.task(0, None), variant, 0).encoders["left"].size == config["tuned"][variant.label]["width"]
        )
    again = here()
    assert sweep(SEARCHED, tmp_path / "s", again)["state"] == "finished"
    assert again.done == []


def test_a_search_that_was_stopped_goes_on(tmp_path, here):
    with pytest.raises(KeyboardInterrupt):
        sweep(SEARCHED, tmp_path / "s", here(stop_after=4))
    second = here()
    sweep(SEARCHED, tmp_path / "s", second)
    assert len(second.done) == 5


def test_failed_trials_are_recorded_and_tried_again(tmp_path, here):
    name = "digits/concat: context, seed 0"
    engine = here(outcomes={name: {"state": "failed", "error": "it diverged", "trace": "line 3"}})
    found = sweep(TWO, tmp_path / "s", engine)
    assert (found["state"], found["finished"]) == ("failed", 5)
    assert found["failed"] == [{"trial": name, "error": "it diverged"}]
    assert str(failures(found)) == (
        f"1 of 6 trials failed: {name}: it diverged; all are in {tmp_path / 's'}/log.txt, and the same command tries "
        "them again"
    )
    log = (tmp_path / "s" / "log.txt").read_text()
    assert f"failed: {name}: it diverged" in log
    assert "line 3" in log
    assert [one.name for one in read_all(tmp_path / "s")] == ["digits, sum"]  # what is whole is reported
    again = here()
    assert sweep(TWO, tmp_path / "s", again)["state"] == "finished"
    assert again.done == [name]


def test_a_variant_of_which_no_candidate_trains_fails_and_the_others_run(tmp_path, here, monkeypatch):
    plain = trials.train

    def train(task, config, variant, seed):
        if variant.label == "context":
            raise ConcordantError("training diverged at step 2")
        return plain(task, config, variant, seed)

    monkeypatch.setattr(trials, "train", train)
    lines = []
    found = sweep(SEARCHED, tmp_path / "s", here(), progress=lambda done, total, line: lines.append((done, total)))
    assert found["failed"] == [
        {"trial": "digits/concat: context, seed 0", "error": "no candidate of its search could be trained"}
    ]
    assert (found["state"], found["finished"], found["runs"]) == ("failed", 2, 3)
    assert lines[-1] == (9, 9)


def test_a_search_trial_that_fails_holds_its_experiment_back(tmp_path, here):
    name = "digits/concat: none, candidate 1, seed 0"
    found = sweep(
        SEARCHED, tmp_path / "s", here(outcomes={name: {"state": "failed", "error": "its worker process died"}})
    )
    assert found["failed"][0] == {"trial": name, "error": "its worker process died"}
    assert [one["error"] for one in found["failed"][1:]] == ["a trial of its search failed"] * 3
    assert sweep(SEARCHED, tmp_path / "s", here())["state"] == "finished"


def test_faults_show_before_a_folder_is_taken(tmp_path, here):
    grid = Grid(benchmarks=("digits", "scene15"), **SHORT)
    plan = make_plan(grid, data=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere is not there"):
        Sweep(grid, plan, tmp_path / "s", command=COMMAND).run(here())
    assert list(tmp_path.iterdir()) == []


def test_more_than_this_machine_has_is_refused_and_a_cluster_is_waited_for(tmp_path, here):
    lacking = here(lacking="a trial asks for 1 GPUs, and the largest machine of the cluster has 0")
    with pytest.raises(UsageError, match="largest machine of the cluster has 0; ask for less in resources, or name a"):
        sweep(ONE, tmp_path / "s", lacking)
    lacking.local = False
    assert sweep(ONE, tmp_path / "s", lacking)["state"] == "finished"
    assert "has 0; waiting for one that has it" in (tmp_path / "s" / "log.txt").read_text()


def test_the_document_says_on_what_machines_the_trials_ran(tmp_path, here):
    found = sweep(ONE, tmp_path / "s", here())
    assert len(found["machines"]) == 1
    assert found["machines"][0]["hardware"] == found["hardware"]
    assert found["grid"] == ONE.model_dump(mode="json")
    assert [one["name"] for one in found["experiments"]] == ["digits/concat"]


def opened(grid, out):
    return Sweep(grid, make_plan(grid), out, command=COMMAND)


def test_a_folder_belongs_to_one_grid(tmp_path):
    out = tmp_path / "x" / "s"
    opened(ONE, out).claim()
    opened(ONE, out).claim()
    assert json.loads((out / MARK).read_text())["schema"] == "concordant.sweep/1"
    opened(ONE.model_copy(update={"resources": Resources(cpus=2), "retries": 9}), out).claim()  # how, not what
    with pytest.raises(UsageError) as caught:
        opened(ONE.model_copy(update={"seeds": 3}), out).claim()
    assert str(caught.value) == (
        f"{out} belongs to another grid (seeds: there 1, here 3); name another folder with --out, or move this one away"
    )


def test_what_is_no_folder_of_a_sweep_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("")
    for path, fault in (
        (tmp_path / "file", "file is a file"),
        (tmp_path, "is not empty and holds no sweep"),
        (tmp_path / "file" / "below", r"cannot write to .* \(.+\)"),
    ):
        with pytest.raises(UsageError, match=f"{fault}; name (a|another) folder with --out"), lock(path):
            opened(ONE, path).claim()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_one_sweep_writes(tmp_path, here):
    sweep(ONE, tmp_path / "s", here())
    with lock(tmp_path / "s"), pytest.raises(UsageError, match="another process is writing to"):
        sweep(ONE, tmp_path / "s", here())


def test_what_stopped_attempts_left_is_removed_and_nothing_else(tmp_path):
    one = opened(ONE, tmp_path / "s")
    one.claim()
    runs, search = tmp_path / "s" / "digits" / "concat" / "runs" / "none", tmp_path / "s" / "search"
    for name, file in (("seed-0", "run.json"), ("seed-1", "weights.safetensors"), (".seed-2.abc.tmp", "run.json")):
        (runs / name).mkdir(parents=True)
        (runs / name / file).write_text("{}")
    search.mkdir()
    (search / ".candidate-0.12.tmp.json").write_text("half")
    (search / "candidate-0.json").write_text("{}")
    one.clean()
    assert [path.name for path in runs.iterdir()] == ["seed-0"]
    assert [path.name for path in search.iterdir()] == ["candidate-0.json"]
    assert (tmp_path / "s" / MARK).is_file()


def test_a_document_holds_what_was_done(tmp_path):
    searched = {"budget": 3, "seeds": 2, "space": {"dropout": [0.1]}}
    grid = Grid(**{**TWO.model_dump(), "seeds": 2, "search": searched})
    one = opened(grid, tmp_path / "s")
    one.claim()
    out = RunFolder(tmp_path / "s" / "digits" / "concat")
    machines = [{"versions": {"torch": "1"}, "hardware": {"cores": n}} for n in (2, 2, 4)]
    config = one.plan["digits/concat"].config
    out.claim(config, {})
    scores = {"parameters": 0, "clean": {"accuracy": 1.0}, "corruption": {}, "removal": {}, "detection_auroc": {}}
    for variant, machine in zip(config.variants, machines, strict=True):
        run = out.run(variant, 1)
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({**identity(config, variant, 1), **scores}))
        (run / ABOUT).write_text(json.dumps({"cpus": 1, **machine}))
    (out.path / "search.json").write_text(json.dumps({"chosen": {"none": None}}))
    one.failed["digits/sum: none, seed 0"] = "why"
    one.retried = 1
    found = one.document("stopped")
    assert [found[key] for key in ("schema", "state", "command", "retried")] == [
        *("concordant.sweep/1", "stopped", COMMAND, 1)
    ]
    assert (found["trials"], found["runs"], found["finished"]) == (2 * 3 * (2 + 3 * 2), 12, 3)
    assert found["failed"] == [{"trial": "digits/sum: none, seed 0", "error": "why"}]
    assert [(part["name"], part["finished"], part["results"], part["chosen"]) for part in found["experiments"]] == [
        ("digits/concat", 3, False, {"none": None}),
        ("digits/sum", 0, False, None),
    ]
    assert sorted(machine["hardware"]["cores"] for machine in found["machines"]) == [2, 4]  # each kind once
    json.dumps(found, allow_nan=False)
