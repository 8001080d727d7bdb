"""The evidence for the recipe of own data is that of the file, and the recipes are those of the rule."""

from concordant.benchmarks.prepared import recipe_for
from concordant.files import read_json
from studies.own_data import KEPT, PAGE, SETS, block


def test_the_table_is_made_of_the_file():
    sets = read_json(KEPT)["sets"]
    assert list(sets) == list(SETS)
    assert block(sets) in PAGE.read_text(encoding="utf-8")


def test_what_the_rule_takes_was_among_the_recipes():
    for one in read_json(KEPT)["sets"].values():
        chosen = recipe_for(one["rows"], one["features"])
        assert any(chosen.items() <= scores.items() for scores in one["scores"])
