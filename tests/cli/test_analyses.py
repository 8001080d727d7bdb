"""The commands stress, inspect and report as a user sees them."""

import json
import shutil
import sys

import pytest

from concordant.cli.main import main


@pytest.fixture
def concordant(monkeypatch, capsys):
    """Run the command line in this process; return exit status, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["concordant", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code or 0
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.fixture(scope="module")
def folder(digits_run, tmp_path_factory):
    return shutil.copytree(digits_run, tmp_path_factory.mktemp("commands") / "digits")


def test_stress_prints_writes_and_brings_the_report_up_to_date(concordant, folder):
    status, out, err = concordant("stress", folder, "--corruption", "--kinds", "swap,blur", "--jobs", 1, "--json", "-")
    assert status == 0, err
    document = json.loads(out)
    assert document["schema"] == "concordant.corruption/1"
    assert document == json.loads((folder / "analyses" / "corruption.json").read_text())
    assert "covered" in err
    assert "report.html is up to date" in err
    assert "concordant.corruption/1" not in err
    page = (folder / "report.html").read_text()
    assert "Accuracy by severity" in page


def test_without_a_choice_stress_does_both(concordant, folder, tmp_path):
    to = tmp_path / "both.json"
    status, out, err = concordant("stress", folder, "--kinds", "swap,blur", "--jobs", 1, "--json", to)
    assert (status, err) == (0, "")
    assert "Shapley value" in out
    assert set(json.loads(to.read_text())) == {"removal", "corruption"}


def test_inspect_shows_the_distrusted_and_explains_one(concordant, folder):
    status, out, err = concordant("inspect", folder, "--json", folder / "features.json")
    assert status == 0, err
    assert "Least trusted" in out
    one = json.loads((folder / "features.json").read_text())["distrusted"][0]
    status, out, _ = concordant("inspect", folder, "--sample", one["id"], "--json", "-")
    assert status == 0
    told = json.loads(out)
    assert told["id"] == one["id"]
    assert {verdict["modality"] for verdict in told["verdicts"]} == {"left", "right", "profile"}


def test_report_of_several_runs_goes_where_it_is_told(concordant, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "again")
    status, out, err = concordant("report", folder, other, "--out", tmp_path / "page.html")
    assert status == 0, err
    assert out.strip() == str(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "again" in page


def test_run_writes_a_report_and_observes_when_asked(concordant, tmp_path):
    options = ("--calibrators", "context", "--seeds", 1, "--steps", 12, "--jobs", 1)
    status, out, err = concordant(
        "run", "digits", *options, "--dynamics", "--dynamics-every", 4, "--out", tmp_path / "r"
    )
    assert status == 0, err
    assert f"the report: {tmp_path / 'r' / 'report.html'}" in out.replace("\n", "")
    dynamics = json.loads((tmp_path / "r" / "analyses" / "dynamics.json").read_text())
    assert dynamics["every"] == 4
    assert (tmp_path / "r" / "runs" / "context" / "seed-0" / "dynamics.parquet").is_file()
    status, _, err = concordant("run", "digits", *options, "--dynamics", "--dynamics-every", 5, "--out", tmp_path / "r")
    assert status == 2
    assert err.startswith("concordant: ")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("stress", "nowhere"), 1, "nowhere is not a folder; name one that `concordant run` made"),
        (("inspect", "nowhere"), 1, "nowhere is not a folder"),
        (("report", "nowhere"), 1, "nowhere"),
        (("stress", "RUN", "--at", "head"), 2, "--at must be inputs or features; found 'head'"),
        (("stress", "RUN", "--jobs", "0"), 2, "--jobs must be 1 or more parallel runs; found 0"),
        (("stress", "RUN", "--kinds", "swap", "--removal"), 2, "--kinds and --at go with --corruption; add it, or"),
        (("stress", "RUN", "--kinds", "fog", "--corruption"), 2, "unknown corruption 'fog'; choose from: gaussian"),
        (
            ("stress", "RUN", "--metric", "mae", "--removal"),
            2,
            "unknown metric 'mae' of these labels; choose from: acc",
        ),
        (("inspect", "RUN", "--calibrator", "none"), 2, "none gives no reliability; choose from: self, context"),
        (("inspect", "RUN", "--sample", "x"), 2, "no instance 'x' in the test split of seed 0; some that are: digit-"),
        (("report", "RUN", "--out", "RUN/config.json/x.html"), 2, "--out: cannot write to"),
        (
            ("run", "digits", "--fusion", "concat,film", "--dynamics", "--out", "RUN/grid"),
            2,
            "--dynamics records one fusion; name one with --fusion, or leave --dynamics out",
        ),
    ],
)
def test_wrong_use_is_one_sentence(concordant, folder, arguments, status, text):
    found, out, err = concordant(*(str(one).replace("RUN", str(folder)) for one in arguments))
    assert found == status, err
    assert out == ""
    assert err.startswith("concordant: ")
    assert err.count("\n") == 1
    assert text in err
