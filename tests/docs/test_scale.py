"""What docs/scale.md prints can be run, and its table names the keys there are."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from concordant.sweep.grid_file import Grid, read_grid
from concordant.training.config import Recipe

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
GRIDS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)]


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.parametrize(("place", "file"), [(0, "grid.yaml"), pytest.param(1, "search.yaml", marks=pytest.mark.slow)])
def test_the_commands_run_on_the_grids(tmp_path, shell, place, file):
    short = GRIDS[place].replace("seeds: 3", "seeds: 1\nrecipe: {steps: 20}").replace("budget: 4", "budget: 2")
    (tmp_path / file).write_text(short)  # its keys and values are read as they are by the next test
    for command in COMMANDS[place]:
        assert file in command or "report" in command
        done = shell(command, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "\x1b" not in done.stderr  # quiet in a pipe
    said = [line for line in COMMANDS[place] if "report" in line]
    assert (tmp_path / "page.html").is_file() == bool(said)
    folder = tmp_path / "runs" / file.removesuffix(".yaml")
    assert (folder / "report.html").is_file()
    assert (folder / "digits" / "concat" / "search.json").is_file() == (file == "search.yaml")


def test_there_are_two_grids_and_both_are_read(tmp_path):
    assert len(GRIDS) == len(COMMANDS) == 2
    for text in GRIDS:
        (tmp_path / "x.yaml").write_text(text)
        read_grid(tmp_path / "x.yaml")


def test_the_table_names_every_key():
    head = TEXT.partition("## A search")[0]
    named = {name for line in re.findall(r"^\| (`.*?) \|", head, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)}
    assert set(Grid.model_fields) <= named
    assert all(f"`{field}`" in head for field in Recipe.model_fields)
