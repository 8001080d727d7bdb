import io
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("rich")

from concordant.cli.terminal import make_console, names_of, progress_bar, put_json
from concordant.errors import UsageError

ODD = "films [v1]/[/bold] :snake: a[b"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ("a",)),
        (" a , b c,a ", ("a", "b c", "a")),
        ("a,,b,", ("a", "b")),
        (" , ,", ()),
        ("", ()),
        ("a;b|\N{SNOWMAN}", ("a;b|\N{SNOWMAN}",)),
    ],
)
def test_names_stand_between_commas(text, names):
    assert names_of(text) == names


@pytest.mark.parametrize(("json_to", "stream"), [(None, "out"), ("results.json", "out"), ("-", "err")])
def test_people_read_where_json_is_not_and_names_as_they_are(capsys, json_to, stream):
    make_console(json_to).print(ODD)
    printed = capsys.readouterr()
    assert getattr(printed, stream) == f"{ODD}\n"
    assert printed.out + printed.err == f"{ODD}\n"


def test_cells_of_a_table_are_shown_as_they_are(capsys):
    from rich.table import Table

    table = Table(ODD)
    table.add_row("[red]")
    make_console().print(table)
    printed = capsys.readouterr().out
    assert ODD in printed
    assert "[red]" in printed


def test_lines_are_not_wrapped_in_a_pipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    make_console().print("word " * 39)
    assert capsys.readouterr().out.count("\n") == 1


def test_a_pipe_gets_a_line_a_minute_and_no_progress_bar(capsys, monkeypatch):
    clock = iter([0, 59, 61, 100, 125, 190])
    monkeypatch.setattr("concordant.cli.terminal.time.monotonic", lambda: next(clock))
    with progress_bar("training") as progress:
        for done in range(3):
            progress(done, 10, "none 3\x1b[31m")
        progress(3, 0, "")
        progress.within(0.5, "none 4: step 5 of 10")
    lines = ["1 of 10 after 1 min  none 3\\x1b[31m", "3 after 2 min", "3 after 3 min  none 4: step 5 of 10"]
    assert capsys.readouterr().err == "".join(f"training: {line}\n" for line in lines)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Put a terminal in the place of standard error; return what it gets."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    seen = Terminal()
    monkeypatch.setattr("sys.stderr", seen)
    return seen


def test_a_terminal_sees_how_far_it_is_with_names_as_they_are(monkeypatch):
    seen = terminal(monkeypatch)
    with progress_bar("preparing") as progress:
        progress(1, 0, "")
        progress(3, 8, "three")
        progress.within(1.9, ODD)
    assert "preparing" in seen.getvalue()
    assert "3/8" in seen.getvalue()
    assert "4/8" not in seen.getvalue()  # only finished ones count
    assert ODD in seen.getvalue()


def test_an_error_goes_through_the_progress_bar(monkeypatch):
    seen = terminal(monkeypatch)
    with pytest.raises(ValueError, match="own"), progress_bar("sweep"):
        raise ValueError("own")
    assert seen.getvalue().endswith("\x1b[2K")  # the bar is gone


def test_json_goes_nowhere_to_a_file_or_to_standard_output(tmp_path, capsys):
    value = {"a": [1, None, "\N{SNOWMAN}"]}
    put_json(None, object())
    path = tmp_path / "new folder" / "a.json"
    put_json(str(path), value)
    assert capsys.readouterr() == ("", "")
    put_json("-", value)
    assert capsys.readouterr().out == path.read_text()
    assert json.loads(path.read_text()) == value


@pytest.mark.parametrize("to", ["-", "a.json"])
def test_what_json_has_no_number_for_is_not_written(tmp_path, monkeypatch, capsys, to):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        put_json(to, [float("nan")])
    assert capsys.readouterr().out == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("to", ["", ".", "..", "folder", "folder/", "/"])
def test_a_folder_is_no_place_for_json(tmp_path, monkeypatch, to):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError) as caught:
        put_json(to, {})
    assert str(caught.value) == f"--json: cannot write to {to} (Is a directory)"
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_file_in_the_way_is_said(tmp_path):
    Path(tmp_path / "file").write_text("dear")
    with pytest.raises(UsageError, match=r"--json: cannot write to .*file/a.json \((File exists|Not a directory)\)$"):
        put_json(str(tmp_path / "file" / "a.json"), {})
    assert (tmp_path / "file").read_text() == "dear"
