from dataclasses import replace

from concordant.benchmarks.digits import DIGITS


def test_recipe_of_a_protocol_goes_before_the_recipe_of_all():
    benchmark = replace(DIGITS, recipe={"*": {"steps": 10, "dropout": 0.3}, "hard": {"steps": 20}})
    assert benchmark.recipe_for("hard") == {"steps": 20, "dropout": 0.3}
    assert benchmark.recipe_for("random") == {"steps": 10, "dropout": 0.3}
    assert replace(DIGITS, recipe={}).recipe_for("random") == {}
