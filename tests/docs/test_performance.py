"""The pages on performance are what `python -m benchmarks.speed` makes of its files under results/."""

import re
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


@PAGES
def test_the_links_lead_somewhere(name, file):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "docs" / name).read_text(encoding="utf-8")):
        assert (ROOT / "docs" / link).exists(), link
