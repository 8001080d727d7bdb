from benchmarks.targets import TARGETS, Target, dearer_than_joint


def test_a_target_reads_the_records_that_it_is_for():
    target = Target("x", "overhead", {"fusion": "mult", "phase": "train"}, 1.08)
    document = {
        "overhead": [
            {"fusion": "mult", "phase": "train", "ratio": 1.07},
            {"fusion": "mult", "phase": "inference", "ratio": 3.0},
            {"fusion": "concat", "phase": "train", "ratio": 2.0},
        ]
    }
    assert target.measured(document) == [1.07]
    assert target.kept(1.08)
    assert not target.kept(1.081)
    assert target.measured({}) == []


def test_a_target_from_below():
    target = Target("x", "vectorised_seeds", {}, 4.0, field="speedup", at_least=True)
    assert target.measured({"vectorised_seeds": [{"speedup": 4.5}]}) == [4.5]
    assert target.kept(4.0)
    assert not target.kept(3.9)


def test_the_bounds_are_those_promised():
    limits = {(t.section, t.where.get("fusion"), t.where.get("phase")): t.limit for t in TARGETS}
    assert limits["overhead", "concat", "train"] == 1.05
    assert limits["overhead", "concat", "inference"] == 1.03
    assert limits["overhead", "mult", "train"] == 1.08
    assert limits["overhead", "mult", "inference"] == 1.05
    assert limits["overhead", "lf-dnn", "train"] == 1.5
    assert limits["overhead", "lf-dnn", "inference"] == 1.4
    assert limits["bandwidth_bound", None, None] == 1.5
    assert limits["vectorised_seeds", "lf-dnn", None] == 4
    assert limits["vectorised_seeds", "transformer", None] == 2.5


def test_context_is_compared_with_joint_in_the_same_place():
    base = {"setting": "vectors", "fusion": "lf-dnn", "preset": "small", "phase": "train"}
    records = [
        {**base, "calibrator": "context", "ratio": 1.4},
        {**base, "calibrator": "joint", "ratio": 1.25},
        {**base, "phase": "inference", "calibrator": "context", "ratio": 1.1},
    ]
    assert dearer_than_joint({"overhead": records}) == [{**base, "ratio": 1.12}]
    assert dearer_than_joint({}) == []
