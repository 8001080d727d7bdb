"""What docs/compare.md prints can be run, and its names are those there are."""

import re
import shlex
from pathlib import Path

import pytest

from concordant.benchmarks.catalogue import BENCHMARKS, DATASETS
from concordant.fusion import FUSIONS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


@pytest.mark.parametrize("command", [line for line in COMMANDS if "DATA" not in line])
def test_the_commands_without_data_run(command, folder, shell):
    # They are run for their options alone; --no-alone belongs to tests/study.
    short = " --steps 3 --seeds 1 --no-alone" if command.startswith("concordant run") else ""
    done = shell(command + short, folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [line for line in COMMANDS if "DATA" in line])
def test_the_commands_with_data_name_what_is_there(command):
    words = shlex.split(command)
    if words[1] == "data":
        assert words[2] in ("prepare", "check")
        assert words[2] == "check" or words[3] in DATASETS
        return
    benchmark = BENCHMARKS[words[2]]
    assert "--protocol" not in words or words[words.index("--protocol") + 1] in benchmark.protocols


def test_every_fusion_is_in_the_table():
    rows = "".join(line for line in TEXT.splitlines() if line.startswith("| fusions of"))
    assert set(re.findall(r"`([\w-]+)`", rows)) == set(FUSIONS)
