"""The site builds without a warning and needs no other host; links between files of the repository have targets."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("*.md")]


@pytest.mark.process
@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("material", "mkdocstrings_handlers")),
    reason="the extra docs is not installed",
)
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # strict: a warning is an error
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'<(script|img)[^>]*src="?(https?:)?//|<link[^>]*href="?(https?:)?//', home)
    assert 'href="reference/calibration/' in home
    assert "load_digits" in (tmp_path / "tutorials/calibrate/index.html").read_text()  # the code of the script
    assert 'id="concordant.ContextualCalibrator.forward"' in (tmp_path / "reference/calibration/index.html").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\((?!\w+:)([^)#\s]+)", text):
        assert (page.parent / link).exists(), link
