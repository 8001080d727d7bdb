"""docs/performance.md is what `concord speed` makes of results/speed.json."""

import re
from pathlib import Path

from concord.files import read_json
from concord.speed.page import page

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_the_page_is_made_of_the_file():
    assert page(read_json(ROOT / "results" / "speed.json")) == TEXT


def test_the_links_lead_somewhere():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
