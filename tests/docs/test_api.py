"""docs/api.md lists every public name, and every listed name is there."""

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
LISTED = set(re.findall(r"`(\w+)`", PAGE))
ALL_OF = re.compile(r"and the class of every rival")


@pytest.mark.parametrize("package", ["", ".analysis", ".estimator", ".fusion", ".monitor", ".rivals"])
def test_every_public_name_is_listed_and_there(package):
    module = import_module(f"concordant{package}")
    assert all(hasattr(module, name) for name in module.__all__)
    missing = set(module.__all__) - LISTED
    if package == ".rivals" and ALL_OF.search(PAGE):
        missing = {name for name in missing if not isinstance(getattr(module, name), type)}
    assert not missing


def test_every_listed_name_is_public():
    public = {name for one in ("", ".analysis", ".estimator", ".fusion", ".monitor", ".rivals")
              for name in import_module(f"concordant{one}").__all__}  # fmt: skip
    words = {"schema"} | {name for name in LISTED if name.isupper() and name.startswith("CONCORDANT_")}
    assert public >= LISTED - words - {"concordant"}
