"""What docs/devices.md says can be typed, and the line that takes one device runs here."""

import re
from pathlib import Path

from typer.main import get_command

from concordant.cli.main import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()]


def test_every_line_is_one_that_the_command_understands():
    run = get_command(app).commands["run"]
    commands = [line.split("concordant run ", 1)[1] for line in LINES if "concordant run " in line]
    assert len(commands) == len(LINES) - 1  # but for the settings of Slurm
    for words in commands:
        run.make_context("run", words.split())


def test_the_table_has_the_options_of_the_command():
    known = {name for option in get_command(app).commands["run"].params for name in option.opts}
    found = re.findall(r"^\| `(--[\w-]+)", TEXT, flags=re.MULTILINE)
    assert set(found) <= known
    assert len(found) == 8


def test_the_line_with_checkpoints_runs(shell, tmp_path):
    (line,) = [line for line in LINES if "--checkpoint-every" in line]
    done = shell(f"{line} --steps 40 --calibrators none", tmp_path)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "runs" / "long" / "log.txt").read_text(encoding="utf-8")
    assert len(re.findall(r"s of training, \d+% of it waiting for data", log)) == 1
