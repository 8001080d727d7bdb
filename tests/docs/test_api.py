"""docs/api.md lists every public name, and every listed name is public."""

import re
from importlib import import_module
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
PAGES = [*Path(__file__).parents[2].glob("docs/**/*.md"), Path(__file__).parents[2] / "README.md"]
LISTED = re.findall(r"^\| `concordant\.([\w.]+)`", PAGE, re.MULTILINE)
DEEPER = ("attach.", "deploy.", "report.")  # names of modules that have no list of public names
PACKAGES = ("analysis", "estimator", "fusion", "monitor", "rivals")


def test_the_page_lists_the_public_names():
    public = set(import_module("concordant").__all__)
    inner = {f"{package}.{name}" for package in PACKAGES for name in import_module(f"concordant.{package}").__all__}
    at_the_top = {name for name in inner if name.partition(".")[2] in public}
    assert {name for name in LISTED if not name.startswith(DEEPER)} == public | inner - at_the_top
    assert len(set(LISTED)) == len(LISTED)


def test_every_name_that_a_page_imports_is_listed():
    imported = set()
    for page in PAGES:
        lines = re.finditer(r"^from concordant([\w.]*) import (.+)$", page.read_text("utf-8"), re.MULTILINE)
        for module, names in (line.groups() for line in lines):
            imported |= {f"{module}.{name}".lstrip(".") for name in names.split(", ")}
    assert imported <= set(LISTED)


def test_every_name_can_be_imported():
    for name in LISTED:
        package, _, last = f"concordant.{name}".rpartition(".")
        assert hasattr(import_module(package), last), name
