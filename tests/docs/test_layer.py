"""What docs/layer.md prints can be run."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "layer.md").read_text(encoding="utf-8")


def test_the_python_runs_from_top_to_bottom(capsys):
    given = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(code, "layer.md", "exec"), given)  # noqa: S102
    shown = capsys.readouterr().out
    assert "('text', 'audio', 'vision') torch.Size([8, 3]) torch.Size([8, 74])" in shown
    assert "torch.Size([16, 74]) torch.Size([16])" in shown
