"""The scripts of docs/tutorials and the commands of its page on data, in short."""

import re
from pathlib import Path

import pytest

from tests.commands import example

TEXT = (Path(__file__).parents[2] / "docs" / "tutorials" / "data.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


def test_the_calibrated_digits_are_read_with_a_wrong_half(tmp_path):
    out = example("calibrate_digits", "--steps", "100", "--out", str(tmp_path)).stdout
    intact, swapped, *_ = out.splitlines()
    without, calibrated, left = re.search(r"without (\d+)%, with (\d+)%; reliability: left ([\d.]+)", swapped).groups()
    assert int(calibrated) > int(without) + 5
    assert float(left) < 0.6 < float(re.search(r"left ([\d.]+)", intact)[1])
    assert (tmp_path / "calibrate.png").is_file()


def test_the_frozen_camera_is_named(tmp_path):
    out = example("watch_sensors", "--out", str(tmp_path)).stdout.splitlines()
    assert re.match(r"camera frozen at instance 10\d, since about (99|10\d): it repeats itself", out[0])
    assert out[1:] == ["{'camera': 'frozen', 'lidar': 'ok', 'radar': 'ok'}", "ok"]
    assert (tmp_path / "monitor.png").is_file()


def test_the_commands_bring_arrays_to_a_report(shell, tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        if command.startswith("python "):
            done = example("bring_data", *command.split()[2:])
        else:
            short = re.sub(r"--seeds \d+ --epochs \d+", "--seeds 1 --epochs 1", command)
            done = shell(short, tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    assert {path.name for path in tmp_path.iterdir()} >= {"mine.npz", "mine"}
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert (tmp_path / "pictures" / "data.png").is_file()
