"""What docs/plugin.md prints can be run, and its numbers are those of the results."""

import re
from pathlib import Path

import pytest

from concordant.files import read_json
from studies.common import fill
from studies.plugin import table

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "plugin.md").read_text(encoding="utf-8")


def test_the_python_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(compile(code, "plugin.md", "exec"), {})  # noqa: S102
    assert "torch.Size([64, 2])" in capsys.readouterr().out


def test_the_numbers_are_those_of_the_results():
    results = read_json(ROOT / "results" / "plugin.json")
    assert fill(TEXT, {"plugin": table(results)}, "results") == TEXT
    assert all(run["model_unchanged"] for run in results["runs"])
    mean = results["differences"]["mean"]
    assert f"| mean | {100 * mean['before']:.1f} | {100 * mean['after']:.1f} |" in TEXT


def test_the_numbers_of_the_text_are_those_of_the_code():
    import inspect

    from concordant import fit_plugin
    from concordant.attach import fit as plugin

    assert plugin.VARIATION == 0.5
    assert inspect.signature(fit_plugin).parameters["tolerance"].default == 2
    share = plugin.HARMED
    assert share * 20 == pytest.approx(1)
    assert "variation=0.5" in TEXT
    assert "more than 2 below the usual one" in TEXT
    assert "one in twenty" in TEXT
