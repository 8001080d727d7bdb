"""The command speed as a user sees it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from concordant.cli.speed import speed_command
from concordant.errors import UsageError

app = typer.Typer()
app.command("speed")(speed_command)


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_numbers_are_printed_and_written_alike(tmp_path):
    done = run("--quick", "--only", "operators", "--json", tmp_path / "speed.json", "--page", tmp_path / "page.md")
    assert done.exit_code == 0
    document = json.loads((tmp_path / "speed.json").read_text())
    text = (tmp_path / "page.md").read_text()
    assert "## Operators" in text
    assert [line for line in text.splitlines() if line] == [line for line in done.output.splitlines() if line]
    for record in document["operators"]:
        assert f"| {record['phase']} | {record['calibrator']} | {record['operators']} | {record['ratio']:.2f} |" in text


def test_json_alone_goes_to_standard_output():
    done = run("--quick", "--only", "operators", "--json", "-")
    assert json.loads(done.stdout)["schema"] == "concordant.speed/1"


def test_wrong_use_is_an_error_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"^unknown section 'warp'; choose from: "):
        run("--only", "warp")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"^--page: cannot write to .*file/page.md"):
        run("--quick", "--only", "operators", "--page", tmp_path / "file" / "page.md")
