"""What the README prints can be run: its Python, its commands, its links."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands():
    return [line for block in blocks("sh") for line in block.splitlines() if line]


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    shown = capsys.readouterr().out
    assert "('text', 'audio', 'vision') torch.Size([8, 3]) torch.Size([8, 74])" in shown


def test_the_library_takes_eight_lines():
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) == 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize(
    "command", [line for line in commands() if line.startswith("concordant") and "DATA" not in line]
)
def test_the_commands_without_data_run_one_after_the_other(command, folder, shell):
    done = shell(command, folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [line for line in commands() if "DATA" in line])
def test_the_commands_with_data_name_what_is_there(command):
    from concordant.benchmarks.catalogue import BENCHMARKS, DATASETS

    words = shlex.split(command)
    if words[1] == "data":
        assert words[2] in ("prepare", "check")
        assert words[2] == "check" or words[3] in DATASETS
        return
    benchmark = BENCHMARKS[words[2]]
    assert "--protocol" not in words or words[words.index("--protocol") + 1] in benchmark.protocols


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make")])
def test_the_make_targets_exist(command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE)


def test_every_command_is_covered():
    assert all(line.startswith(("make ", "concordant ")) for line in commands())


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))
def test_the_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_the_numbers_are_those_of_the_results():
    from concordant.files import read_json
    from concordant.report.tables.scores import brief
    from studies.common import fill

    assert fill(TEXT, {"digits": brief(read_json(ROOT / "results" / "digits.json"))}, "results") == TEXT
