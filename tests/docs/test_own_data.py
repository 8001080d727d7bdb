"""What docs/own-data.md prints can be run, in its order."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets")

from concordant.data.formats.tables import read_csv

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")


def block(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)[0]


def test_the_commands_run_on_the_archive_of_the_example(tmp_path, monkeypatch, shell):
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), "own-data.md", "exec"), {})  # noqa: S102
    for command in block("sh").splitlines():
        short = " --steps 10 --seeds 1" if command.startswith("concordant run") else ""
        done = shell(command + short, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs" / "mine-lf-dnn" / "results.json").exists()


def test_the_table_reads_as_the_text_says(tmp_path):
    (tmp_path / "x.csv").write_text(block("text"))
    a, b, c = read_csv(tmp_path / "x.csv").instances
    assert b.features["sound"] is None
    np.testing.assert_array_equal(a.features["motion"], np.array([0.1, 0.4], np.float32))
    assert (a.label, b.label, c.group) == (1, 0, "ben")
