"""sweep.json: what was asked for, and what became of it, as it is on disk."""

import json

from concordant.sweep.folder import SCHEMA, SweepFolder
from concordant.sweep.grid_file import Grid
from concordant.sweep.plan import make_plan
from concordant.sweep.record import document_of
from concordant.sweep.trial import ABOUT
from concordant.training.folder import ExperimentFolder

GRID = Grid(
    benchmarks=("digits",),
    fusions=("concat", "sum"),
    calibrators=("none", "context"),
    seeds=2,
    search={"budget": 3, "seeds": 2, "space": {"dropout": [0.1]}},
)


def test_a_document_tells_what_is_there(tmp_path):
    folder, plan = SweepFolder(tmp_path / "s"), make_plan(GRID)
    folder.claim(GRID)
    out = ExperimentFolder(folder.path / "digits" / "concat")
    machines = [{"versions": {"torch": "1"}, "hardware": {"cores": n}} for n in (2, 2, 4)]
    for variant, machine in zip(plan[0].config.variants, machines, strict=True):
        run = out.run(variant, 1)
        run.mkdir(parents=True)
        (run / "run.json").write_text("{}")
        (run / ABOUT).write_text(json.dumps({"cpus": 1, **machine}))
    (out.path / "search.json").write_text(json.dumps({"chosen": {"none": None}}))
    found = document_of(
        GRID,
        plan,
        folder,
        {"digits/sum: none, seed 0": "why"},
        state="stopped",
        command="concordant sweep x",
        retried=1,
    )
    assert (found["schema"], found["state"], found["command"], found["retried"]) == (
        SCHEMA,
        "stopped",
        "concordant sweep x",
        1,
    )
    assert (found["trials"], found["runs"], found["finished"]) == (2 * 3 * (2 + 3 * 2), 12, 3)
    assert found["failed"] == [{"trial": "digits/sum: none, seed 0", "error": "why"}]
    assert [(one["name"], one["finished"], one["results"], one["chosen"]) for one in found["experiments"]] == [
        ("digits/concat", 3, False, {"none": None}),
        ("digits/sum", 0, False, None),
    ]
    assert sorted(one["hardware"]["cores"] for one in found["machines"]) == [2, 4]  # each kind once
    json.dumps(found, allow_nan=False)
