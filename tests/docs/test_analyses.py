"""What docs/analyses.md prints can be run, in its order."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "analyses.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_commands_run_one_after_the_other(tmp_path, shell):
    commands = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(commands) == 6
    for command in commands:
        if "--sample" in command:  # an id that is in the test part, whichever the split
            command = f"{command.rpartition(' ')[0]} {sample(tmp_path)}"
        if command.startswith("concordant run"):  # what is analysed does not matter here
            command += " --steps 30 --seeds 1"
        done = shell(command, tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "runs" / "page.html").stat().st_size < 8e6


def sample(folder):
    import pyarrow.parquet as pq

    ids = pq.read_table(folder / "runs" / "analysed" / "analyses" / "features.parquet").column("id").to_pylist()
    return ids[0]


def test_the_python_runs_from_top_to_bottom(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks("python")), "analyses.md", "exec"), {})  # noqa: S102
    shown = capsys.readouterr().out
    assert "('gate_q90', 'audio')" in shown
    assert "'text': " in shown
    assert "'modality': " in shown
    assert "my sensors" in (tmp_path / "mine.html").read_text(encoding="utf-8")
