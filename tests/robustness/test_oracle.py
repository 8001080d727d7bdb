import pytest

from concordant.robustness.oracle import covering, relative_error, together, twin_of


def run(label, seed, scores, oracle=None):
    kinds = {name: {"scores": values, "area": 0.0} for name, values in scores.items()}
    found = {"label": label, "seed": seed, "clean": 1.0, "kinds": kinds, "mean": 0.0, "area": 0.0}
    found |= {"worst": None, "diagram": None, "about": []}
    return (
        found if oracle is None else {**found, "oracle": {name: {"scores": values} for name, values in oracle.items()}}
    )


def test_the_share_covered_is_that_of_the_way_where_there_is_one():
    found = [
        run("none+perturbed", 0, {"x": [0.8, 0.4], "y": [0.9, 0.9]}, {"x": [0.8, 0.8], "y": [0.5, 0.5]}),
        run("context", 0, {"x": [0.9, 0.7], "y": [0.9, 0.8]}),
    ]
    one = covering(found, "context", "none+perturbed")
    # At "x", the second severity, the oracle is 0.4 ahead, and 0.3 of that are covered; nowhere else is it ahead.
    assert one["conditions"] == 1
    assert one["share"] == pytest.approx(0.75)
    assert one["by_kind"] == {"x": pytest.approx(0.75), "y": None}
    assert covering(found, "none+perturbed", "none+perturbed")["share"] == 0.0


def test_errors_are_relative_to_the_twins_and_no_error_of_it_counts_not():
    own = {"x": {"scores": [0.9, 0.7]}, "y": {"scores": [0.5, 0.5]}, "z": {"scores": [0.0, 0.0]}}
    twin = {"x": {"scores": [0.8, 0.4]}, "y": {"scores": [0.5, 0.5]}, "z": {"scores": [1.0, 1.0]}}
    assert relative_error(own, twin) == pytest.approx((0.4 / 0.8 + 1.0) / 2)
    assert relative_error({"z": own["z"]}, {"z": twin["z"]}) is None


def test_kinds_that_not_every_run_has_count_nowhere():
    found = [
        run("none", 0, {"noise": [0.8] * 5, "swap": [0.2] * 5}, {"noise": [0.9] * 5, "swap": [1.0] * 5}),
        run("none", 1, {"noise": [0.6] * 5}, {"noise": [0.9] * 5}),
        run("context", 0, {"noise": [0.9] * 5, "swap": [0.0] * 5}),
        run("context", 1, {"noise": [0.7] * 5}),
    ]
    both = together(found, ["none", "context"])
    assert [list(one["kinds"]) for one in both["runs"]] == [["noise"]] * 4
    assert [one["mean"] for one in both["runs"] if one["seed"] == 0] == pytest.approx([0.8, 0.9])
    assert [list(one["kinds"]) for one in both["oracle"]] == [["noise"]] * 2
    assert both["covered"][0]["share"] == pytest.approx(0.5)


def test_without_a_twin_nothing_is_relative():
    found = together([run("context", 0, {"x": [0.5] * 5})], ["context"])
    assert found["covered"] == []
    assert found["runs"][0]["mean_corruption_error"] is None
    assert twin_of(["none", "context"]) == "none"
    assert twin_of(["none", "none+perturbed"]) == "none+perturbed"
    assert twin_of(["self"]) is None
