from pathlib import Path

from concordant.files import read_json
from studies.pictures import draw

ROOT = Path(__file__).parents[2]


def test_the_picture_names_every_method_and_condition(tmp_path):
    results = read_json(ROOT / "results" / "digits.json")
    draw(results, tmp_path / "deep" / "picture.svg")
    text = (tmp_path / "deep" / "picture.svg").read_text()
    for word in ("none, clean", "context", "noise", "swap", "accuracy, %"):
        assert f"<!-- {word} -->" in text
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["picture.svg"]


def test_one_seed_has_no_spread_and_still_draws(tmp_path):
    results = read_json(ROOT / "results" / "digits.json")
    one = {**results, "runs": [run for run in results["runs"] if run["seed"] == 0]}
    draw(one, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
