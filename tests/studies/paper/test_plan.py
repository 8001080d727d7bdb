from dataclasses import replace

import pytest

from concordant.errors import DataError, UsageError
from studies.paper.grid import Family, Grid
from studies.paper.plan import base_config, make_plan, plan_cell

FAMILIES = (
    Family("scenes", "scene15", ("lf-dnn", "lmf"), "lf-dnn", 3, recipe={"steps": 40, "width": 12}),
    Family("two", "utd-mhad", ("tfn",), "tfn", 2, modalities=("skeleton", "inertial"), ablated=False),
    Family("given", "cmu-mosi-utterance", ("lmf",), "lmf", 1, protocol="given"),
)
GRID = Grid(FAMILIES, ("none", "self", "context"), ("context-no-support", "context-no-conflict"))


def test_every_cell_has_its_folder_and_ablations_lie_beside_the_first(tmp_path):
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


def test_an_experiment_is_what_its_family_says(tmp_path):
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


def test_what_was_chosen_is_given_to_who_is_there(tmp_path):
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


def test_without_a_choice_for_ours_ablations_stay_as_they_are(tmp_path):
    plan = {one.name: one.config for one in make_plan(GRID, tmp_path, {"scenes": {"self": {"dropout": 0.5}}})}
    assert plan["scenes/lf-dnn ablations"].tuned == {}
    assert plan["scenes/lf-dnn"].tuned == {"self": {"dropout": 0.5}}


def test_what_no_recipe_can_be_is_refused_with_all_its_faults(tmp_path):
    chosen = {"self": {"dropout": 3}, "none": {"dropout": 0.5}, "context": {"steps": 0, "momentum": 0.9}}
    with pytest.raises(DataError) as caught:
        plan_cell(GRID, GRID.cells[1], tmp_path, chosen)
    said = str(caught.value)
    assert said.startswith("the search of scenes has chosen what no recipe can be: self: dropout: input should be less")
    assert "; context: steps: " in said
    assert "; momentum: extra inputs are not permitted; found 0.9" in said
    assert "none: " not in said
    assert said.endswith("; remove its file to search again")


def test_what_does_not_go_together_is_refused(tmp_path):
    family = replace(FAMILIES[0], modalities=("view0", "sound", "smell"))
    with pytest.raises(UsageError, match=r"unknown modality of scene15 'sound'; .*scene15 'smell'"):
        make_plan(Grid((family,)), tmp_path, {})
