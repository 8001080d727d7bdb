"""The pages on performance are what `python -m benchmarks.speed` makes of its files under results/."""

from pathlib import Path

import pytest

from benchmarks.page import page
from concordant.files import read_json

ROOT = Path(__file__).parents[2]
PAGES = pytest.mark.parametrize(
    ("name", "file"), [("performance.md", "speed.json"), ("performance-gpu.md", "speed-gpu.json")]
)


@PAGES
def test_the_page_is_made_of_the_file(name, file):
    assert page(read_json(ROOT / "results" / file)) == (ROOT / "docs" / name).read_text(encoding="utf-8")
