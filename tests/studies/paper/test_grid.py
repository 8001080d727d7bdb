from dataclasses import replace

import pytest

from concordant.benchmarks.catalogue import BENCHMARKS
from concordant.errors import DataError, UsageError
from concordant.fusion import FUSIONS
from concordant.rivals import ABLATIONS
from studies.paper.grid import FULL, QUICK, Family, Grid, base_config, plan_cell


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
    # Three fusions for each kind of encoder.
    fusions = {fusion for family in FULL.families if len(family.fusions) == 3 for fusion in family.fusions}
    assert {FUSIONS[one].setting for one in fusions} == {"vector", "sequence", "convolutional"}
    assert {len(family.names) for family in FULL.families if family.benchmark == "utd-mhad"} == {2, 3}
    assert FULL.ablations == tuple(name for name in ABLATIONS if name != "context-losses-only")


@pytest.mark.parametrize("grid", [FULL, QUICK], ids=["full", "quick"])
def test_every_cell_is_a_valid_experiment(grid, tmp_path, make_plan):
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


def test_what_was_tuned_for_ours_is_what_ablations_get(tmp_path, make_plan):
    grid = replace(FULL, families=FULL.families[:1])
    plan = make_plan(grid, tmp_path, {"scene15": {"context": {"dropout": 0.3}, "self": {"dropout": 0.5}}})
    by_name = {one.name: one.config for one in plan}
    assert by_name["scene15/lmf"].tuned == {"context": {"dropout": 0.3}, "self": {"dropout": 0.5}}
    assert by_name["scene15/lf-dnn ablations"].tuned == {name: {"dropout": 0.3} for name in FULL.ablations}


def test_the_work_goes_over_families_in_rounds():
    assert sorted(cell.name for cell in FULL.rounds) == sorted(cell.name for cell in FULL.cells)
    count = len(FULL.families)
    assert [cell.family for cell in FULL.rounds[:count]] == list(FULL.families)
    assert all(cell.first for cell in FULL.rounds[:count])
    places = [cell.family.fusions.index(cell.fusion) for cell in FULL.rounds]
    assert places == sorted(places)


def test_where_training_takes_long_candidates_are_tried_on_one_split_and_with_few_rows_on_five():
    tried = {family.name: family.search_seeds for family in FULL.families}
    assert {seeds for name, seeds in tried.items() if family_of(name).seeds == 5} == {1}
    assert {seeds for name, seeds in tried.items() if family_of(name).seeds == 10} == {5}


def family_of(name):
    return next(family for family in FULL.families if family.name == name)


FAMILIES = (
    Family("scenes", "scene15", ("lf-dnn", "lmf"), 3, recipe={"steps": 40, "width": 12}),
    Family("two", "utd-mhad", ("tfn",), 2, modalities=("skeleton", "inertial"), ablated=False),
    Family("given", "cmu-mosi-utterance", ("lmf",), 1, protocol="given"),
)
GRID = Grid(FAMILIES, ("none", "self", "context"), ("context-no-support", "context-no-conflict"))


def test_every_cell_has_its_folder_and_ablations_lie_beside_the_first(tmp_path, make_plan):
    found = {one.name: one.folder.relative_to(tmp_path).as_posix() for one in make_plan(GRID, tmp_path, {})}
    assert found == {
        "scenes/lf-dnn": "scenes/lf-dnn",
        "scenes/lf-dnn ablations": "scenes/lf-dnn-ablations",
        "scenes/lmf": "scenes/lmf",
        "two/tfn": "two/tfn",
        "given/lmf": "given/lmf",
        "given/lmf ablations": "given/lmf-ablations",
    }
    assert list(found) == [
        one.name for cell in GRID.cells for one in plan_cell(GRID, cell, tmp_path, {})
    ]  # in the order of the cells


def test_an_experiment_is_what_its_family_says(tmp_path, make_plan):
    plan = {one.name: one.config for one in make_plan(GRID, tmp_path, {})}
    scenes, ablations, two, given = (
        plan[name] for name in ("scenes/lf-dnn", "scenes/lf-dnn ablations", "two/tfn", "given/lmf")
    )
    assert (scenes.benchmark, scenes.fusion, scenes.seeds) == ("scene15", "lf-dnn", 3)
    assert (scenes.recipe.steps, scenes.recipe.width) == (40, 12)
    assert [one.label for one in scenes.variants] == ["none", "none+perturbed", "self", "context"]
    assert ablations.recipe == scenes.recipe
    assert ablations.seeds == scenes.seeds
    assert two.modalities == ("skeleton", "inertial")
    assert given.protocol == "given"
    assert two.recipe != scenes.recipe  # its benchmark's own


def test_a_share_of_the_steps_is_that_of_the_family_s_recipe_and_one_at_the_least():
    scenes, two, _ = FAMILIES
    whole = base_config(GRID, two, "tfn", ("none",), seeds=1).recipe
    for share in (0.5, 0.25):
        shorter = replace(GRID, steps=share)
        assert base_config(shorter, scenes, "lmf", ("none",), seeds=1).recipe.steps == 40 * share
        assert base_config(shorter, two, "tfn", ("none",), seeds=1).recipe == whole.model_copy(
            update={"steps": whole.steps * share}
        )
    assert base_config(replace(GRID, steps=1e-9), scenes, "lmf", ("none",), seeds=1).recipe.steps == 1


def test_what_was_chosen_is_given_to_who_is_there(tmp_path, make_plan):
    chosen = {
        "none": {},  # nothing to change
        "self": {"dropout": 0.5, "learning_rate": 0.01},
        "context": {"dropout": 0.1},
        "gmu": {"dropout": 0.3},  # no method of this grid
    }
    plan = {one.name: one.config for one in make_plan(GRID, tmp_path, {"scenes": chosen})}
    assert plan["scenes/lmf"].tuned == {"self": chosen["self"], "context": chosen["context"]}
    assert plan["scenes/lf-dnn ablations"].tuned == dict.fromkeys(GRID.ablations, chosen["context"])
    assert plan["two/tfn"].tuned == plan["given/lmf ablations"].tuned == {}
    variants = {one.label: one for one in plan["scenes/lmf"].variants}
    recipe = plan["scenes/lmf"].of(variants["self"]).recipe
    assert (recipe.dropout, recipe.learning_rate, recipe.steps) == (0.5, 0.01, 40)
    assert plan["scenes/lmf"].of(variants["none"]).recipe == plan["scenes/lmf"].recipe


def test_without_a_choice_for_ours_ablations_stay_as_they_are(tmp_path, make_plan):
    plan = {one.name: one.config for one in make_plan(GRID, tmp_path, {"scenes": {"self": {"dropout": 0.5}}})}
    assert plan["scenes/lf-dnn ablations"].tuned == {}
    assert plan["scenes/lf-dnn"].tuned == {"self": {"dropout": 0.5}}


def test_what_no_recipe_can_be_is_refused_with_all_its_faults(tmp_path):
    chosen = {"self": {"dropout": 3}, "none": {"dropout": 0.5}, "context": {"steps": 0, "momentum": 0.9}}
    with pytest.raises(DataError) as caught:
        plan_cell(GRID, GRID.cells[1], tmp_path, chosen)
    said = str(caught.value)
    assert said.startswith(
        "the search of scenes/lmf has chosen what no recipe can be: self: dropout: input should be less"
    )
    assert "; context: steps: " in said
    assert "; momentum: extra inputs are not permitted; found 0.9" in said
    assert "none: " not in said
    assert said.endswith("; remove its file to search again")


def test_what_does_not_go_together_is_refused(tmp_path, make_plan):
    family = replace(FAMILIES[0], modalities=("view0", "sound", "smell"))
    with pytest.raises(UsageError, match=r"unknown modality of scene15 'sound'; .*scene15 'smell'"):
        make_plan(Grid((family,)), tmp_path, {})
