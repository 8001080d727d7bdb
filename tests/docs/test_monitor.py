"""What docs/monitor.md prints can be run, and its tables name what there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "monitor.md").read_text(encoding="utf-8")


def test_the_example_around_an_attached_model_names_the_camera(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(compile(code, "monitor.md", "exec"), {})  # noqa: S102
    alarm, state = capsys.readouterr().out.splitlines()
    assert re.match(r"camera died at instance 5\d, ", alarm)
    assert state == "ok"


def test_the_metrics_of_the_table_are_those_that_are_served():
    client = pytest.importorskip("prometheus_client")
    import torch

    from concordant import ContextualCalibrator, Monitor

    monitor = Monitor(ContextualCalibrator({"a": 2, "b": 2}, seed=0).eval())
    monitor.learn({"a": torch.randn(30, 2), "b": torch.randn(30, 2)})
    registry = client.CollectorRegistry()
    monitor.register(registry)
    served = {family.name.removesuffix("_total") for family in registry.collect()}
    assert {name.removesuffix("_total") for name in re.findall(r"^\| `(concordant_\w+)`", TEXT, re.MULTILINE)} == served
