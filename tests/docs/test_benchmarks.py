"""docs/benchmarks.md names every benchmark that is prepared, with the place where its files are published."""

import re
from pathlib import Path

from concordant.benchmarks.catalogue import DATASETS

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "benchmarks.md").read_text(encoding="utf-8")


def test_every_dataset_is_on_the_page_with_its_home():
    for name in DATASETS:
        assert f"`{name}`" in TEXT
        if DATASETS[name].archive:
            assert DATASETS[name].home in TEXT


def test_the_commands_name_what_there_is_and_links_lead_somewhere():
    assert set(re.findall(r"concordant data prepare (\S+)", TEXT)) <= set(DATASETS)
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (DOCS / link).exists(), link
