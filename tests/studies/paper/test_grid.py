from dataclasses import replace

import pytest

from concordant.benchmarks.catalogue import BENCHMARKS
from concordant.fusion import FUSIONS
from concordant.rivals import ABLATIONS
from studies.paper.grid import FULL, QUICK, WIDE
from studies.paper.plan import base_config, make_plan


def test_the_full_grid_is_what_was_promised():
    benchmarks = {family.benchmark for family in FULL.families}
    assert benchmarks == set(BENCHMARKS) & {
        *("scene15", "handwritten", "cmu-mosi-utterance", "ravdess"),
        *("cremad-features", "ave-features", "av-digits", "utd-mhad"),
    }
    assert {family.split for family in FULL.families if family.benchmark == "cmu-mosi-utterance"} == {
        "test-folds",
        "given",
    }
    for family in FULL.families:
        vectors = BENCHMARKS[family.benchmark].setting == "vector"
        assert family.seeds >= (10 if vectors else 5)
        assert len(family.fusions) >= 3
        assert family.searched in family.fusions
    for benchmark in ("av-digits", "utd-mhad"):
        maps = {f for family in FULL.families if family.benchmark == benchmark for f in family.fusions}
        assert len([one for one in maps if FUSIONS[one].setting == "convolutional"]) >= 3
    assert {len(family.names) for family in FULL.families if family.benchmark == "utd-mhad"} == {2, 3}
    assert FULL.ablations == ABLATIONS


@pytest.mark.parametrize("grid", [FULL, QUICK, WIDE], ids=["full", "quick", "wide"])
def test_every_cell_is_a_valid_experiment(grid, tmp_path):
    plan = make_plan(grid, tmp_path, {})
    assert len({one.folder for one in plan}) == len(plan)
    assert len([one for one in plan if one.ablations]) == len([one for one in grid.families if one.ablated])
    for one in plan:
        labels = [variant.label for variant in one.config.variants]
        if one.ablations:
            assert tuple(labels) == grid.ablations
        else:
            assert {"none", "none+perturbed", "self", "joint", "gmu", "context", "modality-dropout"} <= set(labels)
            assert ("evidential" in labels) == FUSIONS[one.cell.fusion].late
            assert ("after-fusion" in labels) == FUSIONS[one.cell.fusion].head


def test_the_quick_grid_is_a_part_of_the_full_one_and_says_so():
    assert QUICK.quick
    assert not FULL.quick
    full = {cell.name for cell in FULL.cells}
    assert {cell.name for cell in QUICK.cells} < full
    one = QUICK.families[0]
    assert base_config(QUICK, one, "lf-dnn", ("none",), seeds=1).recipe.steps == 700


def test_what_was_tuned_for_ours_is_what_ablations_get(tmp_path):
    grid = replace(FULL, families=FULL.families[:1])
    plan = make_plan(grid, tmp_path, {"scene15": {"context": {"dropout": 0.3}, "self": {"dropout": 0.5}}})
    by_name = {one.name: one.config for one in plan}
    assert by_name["scene15/lmf"].tuned == {"context": {"dropout": 0.3}, "self": {"dropout": 0.5}}
    assert by_name["scene15/lf-dnn ablations"].tuned == {name: {"dropout": 0.3} for name in ABLATIONS}


def test_the_work_goes_over_families_in_rounds():
    for grid in (FULL, WIDE):
        assert sorted(cell.name for cell in grid.rounds) == sorted(cell.name for cell in grid.cells)
        count = len(grid.families)
        assert [cell.family for cell in grid.rounds[:count]] == list(grid.families)
        assert all(cell.first for cell in grid.rounds[:count])
        places = [cell.family.fusions.index(cell.fusion) for cell in grid.rounds]
        assert places == sorted(places)


def test_the_wide_grid_is_the_full_one_and_more(tmp_path):
    wide = {one.name: one for one in make_plan(WIDE, tmp_path, {})}
    for one in make_plan(FULL, tmp_path, {}):
        assert wide[one.name].config == one.config
    assert {cell.fusion for cell in WIDE.cells} - {cell.fusion for cell in FULL.cells} == {"mbt", "gated", "mmtm"}
    assert (WIDE.budget, WIDE.search_seeds, WIDE.space) == (FULL.budget, FULL.search_seeds, FULL.space)


def test_where_training_takes_long_candidates_are_tried_on_one_split_and_with_few_rows_on_five():
    tried = {family.name: FULL.search_seeds_of(family) for family in FULL.families}
    assert {seeds for name, seeds in tried.items() if family_of(name).seeds == 5} == {1}
    assert {seeds for name, seeds in tried.items() if family_of(name).seeds == 10} == {5}


def family_of(name):
    return next(family for family in FULL.families if family.name == name)
