"""What users' tools see of Concordant: type checkers (`typed_script.py`, which mypy checks in `make check`), `dir`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import concordant
import concordant.analysis
from concordant.errors import MissingExtraError, needs_extra


def test_pyright_finds_the_mistakes_of_a_script_and_no_others():
    pytest.importorskip("pyright", reason="pip install 'pyright[nodejs]'")
    script = Path(__file__).with_name("typed_script.py")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, script]
    offline = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # no look for a newer version
    run = subprocess.run(command, capture_output=True, text=True, env=offline)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("module", [concordant, concordant.analysis])
def test_dir_lists_every_promised_name(module):
    assert set(module.__all__) <= set(dir(module))


def test_the_core_needs_pytorch_alone_and_the_rest_says_what_to_install():
    program = """
import sys
for name in ("numpy", "sklearn", "pydantic", "scipy"):
    sys.modules[name] = None
import concordant
for name in concordant.__all__:
    try:
        getattr(concordant, name)
    except ImportError as error:
        print(name, type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {
        "Modalities",
        "Monitor",
        "MultimodalClassifier",
        "MultimodalRegressor",
    }
    assert all("which is not installed: pip install 'concordant[experiments]'" in line for line in lines)


def test_a_fault_of_concordant_itself_is_no_missing_extra():
    with pytest.raises(ImportError, match="cannot import name 'nothing'") as caught, needs_extra("export", "it needs"):
        from concordant.errors import nothing  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)
