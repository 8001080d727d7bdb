"""What docs/plugin.md prints can be run, and its numbers are those of the results."""

import re
from pathlib import Path

from concordant.files import read_json
from studies.common import fill
from studies.plugin import summary, table

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "plugin.md").read_text(encoding="utf-8")


def test_the_python_runs(capsys):
    code = "".join(re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL))
    exec(compile(code, "plugin.md", "exec"), {})  # noqa: S102
    assert "torch.Size([64, 2])" in capsys.readouterr().out


def test_the_numbers_are_those_of_the_results():
    results = read_json(ROOT / "results" / "plugin.json")
    assert fill(TEXT, {"plugin-summary": summary(results), "plugin": table(results)}, "results") == TEXT
    for name, found in results["cells"].items():
        assert all(run["model_unchanged"] for run in found["runs"])
        mean = found["differences"]["context"]["mean"]
        assert re.search(rf"\| filled \|.* {100 * mean['after']:.1f} \|.* \{100 * mean['difference']:+.1f} \(", TEXT), (
            name
        )


def test_the_gains_of_the_text_are_those_of_the_results():
    cells = read_json(ROOT / "results" / "plugin.json")["cells"]

    def gains(benchmark):
        mine = [one["differences"] for name, one in cells.items() if name.startswith(f"{benchmark}/")]
        found = sorted(100 * one["context"]["mean"]["difference"] for one in mine)
        return f"{found[0]:.1f} and {found[-1]:.1f}"

    said = {name: gains(name) for name in ("scene15", "utd-mhad", "utd-mhad-2", "ravdess", "av-digits")}
    for name, words in said.items():
        assert f"{words} on `{name}`" in " ".join(TEXT.split())


def test_the_numbers_of_the_text_are_those_of_the_code():
    import inspect

    from concordant import fit_plugin
    from concordant.attach import fit as plugin
    from concordant.attach.harm import TOLERANCES, fewest_units

    options = inspect.signature(fit_plugin).parameters
    assert (options["harm"].default, options["confidence"].default) == (0.02, 0.9)
    assert plugin.VARIATIONS == (0.5, 0.25, 0.0)
    assert plugin.TOLERANCE == 2
    assert plugin.GROWTH == 0.1
    assert TOLERANCES[-1] == 0.5
    assert (fewest_units(0.02, 0.9, 3), fewest_units(0.02, 0.9)) == (169, 114)
    for words in (
        "variations of 0.5, 0.25 and 0",
        "tolerance is 2",
        "down to 0.5",
        "takes 169 rows",
        "114 for the first",
    ):
        assert words in " ".join(TEXT.split())
