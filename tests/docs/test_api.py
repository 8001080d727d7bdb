"""docs/api.md lists every public name, and every listed name is public."""

import re
from importlib import import_module
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^\| `concordant\.([\w.]+)`", PAGE, re.MULTILINE)
PACKAGES = ("analysis", "estimator", "fusion", "monitor", "rivals")


def test_the_page_lists_the_public_names():
    public = set(import_module("concordant").__all__)
    inner = {f"{package}.{name}" for package in PACKAGES for name in import_module(f"concordant.{package}").__all__}
    at_the_top = {name for name in inner if name.partition(".")[2] in public}
    assert sorted(LISTED) == sorted(public | inner - at_the_top)


def test_every_name_can_be_imported():
    for name in LISTED:
        package, _, last = f"concordant.{name}".rpartition(".")
        assert hasattr(import_module(package), last), name
