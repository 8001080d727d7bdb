from pathlib import Path

from concordant.files import read_json
from studies.monitor import page

RESULTS = Path(__file__).parents[2] / "results"


def test_the_committed_page_is_made_of_the_committed_numbers():
    assert page(read_json(RESULTS / "monitor.json")) == (RESULTS / "MONITOR.md").read_text(encoding="utf-8")
