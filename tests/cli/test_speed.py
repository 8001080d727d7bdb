"""The command speed as a user sees it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from concordant import speed
from concordant.cli.speed import speed_command
from concordant.errors import UsageError

app = typer.Typer()
app.command("speed")(speed_command)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """One fusion, timed for an instant."""
    timed = speed.measure
    monkeypatch.setattr(speed, "BRIEF", {"lf-dnn": speed.VECTORS})
    monkeypatch.setattr(speed, "measure", lambda *given, **how: timed(*given, **how, repetitions=2, seconds=0.0))


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_numbers_are_printed_and_written_alike(tmp_path):
    done = run("--quick", "--json", tmp_path / "speed.json")
    assert done.exit_code == 0
    document = json.loads((tmp_path / "speed.json").read_text())
    assert document["command"] == "concordant speed --quick"
    assert len(document["overhead"]) == 2 * len(speed.BRIEF_CALIBRATORS) + 1
    for phase in ("train", "inference"):
        ratios = {one["calibrator"]: one["ratio"] for one in document["overhead"] if one["phase"] == phase}
        cells = " | ".join(f"{ratio:.2f}" for name, ratio in ratios.items() if name != "none")
        assert f"| `lf-dnn` | small | vectors | {cells} |" in done.output


def test_json_alone_goes_to_standard_output():
    done = run("--quick", "--json", "-")
    assert json.loads(done.stdout)["schema"] == "concordant.speed/1"


def test_an_unavailable_device_is_an_error_in_a_sentence():
    with pytest.raises(UsageError, match=r"^--device xpu: PyTorch sees .* here; use cpu"):
        run("--device", "xpu")
