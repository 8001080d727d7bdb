from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from concordant.files import read_json
from concordant.report.folder import RunDocuments
from concordant.report.record import terminal
from tests.report import example as example_documents

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="session")
def maker():
    """The module example.py: documents with plausible numbers."""
    return example_documents


@pytest.fixture(scope="session")
def example(maker):
    """The documents of a run with everything analysed; do not change them."""
    return maker.example()


@pytest.fixture(scope="session")
def example_grid(maker):
    """The documents of a grid of three rows, all analysed; do not change them."""
    return maker.example_grid()


@pytest.fixture(scope="session")
def hostile(maker):
    """A run whose names are all the start of an attack."""
    one = maker.example(modalities=("audio", f"image{HOSTILE}"))
    features = one.features
    features["points"]["id"][0] = HOSTILE
    features["classes"][0] = HOSTILE
    features["distrusted"][0]["id"] = HOSTILE
    one.results["benchmark"] = one.results["config"]["benchmark"] = HOSTILE
    one.corruption["kinds"][0]["summary"] = HOSTILE
    one.removal["command"] = HOSTILE
    return replace(one, name=HOSTILE, folder=HOSTILE)


@pytest.fixture(scope="session")
def real():
    """Return a function that reads one of the committed results, or a grid of real data beside this file."""
    folders = {"results": Path(__file__).parents[2] / "results", "grid": Path(__file__).parent}

    def read(name):
        kind = "grid" if name.startswith("grid-") else "results"
        return RunDocuments(name, **{kind: read_json(folders[kind] / f"{name}.json")})

    return read


@pytest.fixture
def write():
    """Return a function that writes the documents of a run, or of a grid, as their folder."""
    from concordant.files import write_json

    def put(documents, folder):
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("results", "grid"):
            if getattr(documents, kind) is not None:
                write_json(folder / f"{kind}.json", getattr(documents, kind))
        for kind in ("removal", "corruption", "dynamics", "features"):
            if getattr(documents, kind) is not None:
                write_json(folder / "analyses" / f"{kind}.json", getattr(documents, kind))
        for number, check in enumerate(documents.checks or []):
            write_json(folder / "analyses" / f"check-{number}.json", check)
        for name, row in documents.rows.items():
            put(row, folder / name)
        return folder

    return put


@pytest.fixture(scope="session")
def shown():
    """Return a function that returns the lines of tables as a terminal of some width shows them."""

    def lines(*tables, width=200):
        out = StringIO()
        console = Console(file=out, width=width, markup=False, highlight=False)
        for table in tables:
            console.print(terminal(table))
        return [line.rstrip() for line in out.getvalue().splitlines()]

    return lines
