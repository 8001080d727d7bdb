"""A layer imports only from the layers below it, and the core needs nothing but PyTorch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
# From the ground up; names in one entry may import each other only inside a folder.
LAYERS = [
    ("errors",),
    ("files", "registry", "seeding", "modalities", "timing", "workers"),
    ("documents",),
    ("calibration",),
    ("rivals", "encoders"),
    ("fusion",),
    ("data",),
    ("benchmarks",),
    ("training",),
    ("attach",),
    ("statistics",),
    ("robustness",),
    ("dynamics",),
    ("visualisation",),
    ("study",),
    ("estimator", "monitor"),
    ("report",),
    ("speed",),
    ("deploy",),
    ("sweep",),
    ("cli",),
    ("__main__",),
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted((SOURCE / "concordant").rglob("*.py"))


def part_of(path):
    return path.relative_to(SOURCE / "concordant").with_suffix("").parts[0]


def dotted(path):
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("concordant."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "concordant":
            yield from (alias.name for alias in node.names if alias.name in LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_downwards(path):
    part = part_of(path)
    if part in ("__init__", "analysis"):  # the public faces gather from everywhere
        return
    for other in imported(path):
        assert other == part or LEVEL[other] < LEVEL[part], f"{part} imports {other}"


def test_no_modules_import_each_other_in_a_circle():
    names = {dotted(path): path for path in MODULES}
    graph = {}
    for name, path in names.items():
        found = [
            n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.ImportFrom) and n.module
        ]
        wanted = [(f"{node.module}.{alias.name}", node.module) for node in found for alias in node.names]
        graph[name] = {inner if inner in names else outer for inner, outer in wanted} & set(names)
    assert set(TopologicalSorter(graph).static_order()) == set(names)  # a circle raises CycleError


def test_importing_concordant_loads_torch_and_nothing_heavier():
    code = (
        "import sys, torch; before = set(sys.modules); import concordant; "
        "[getattr(concordant, name) for name in ('ContextualCalibrator', 'SelfGate', 'attach', 'fit_plugin')]; "
        "found = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names); "
        "print(*sorted(found - {'torch'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["concordant"]


def test_the_core_works_without_numpy_and_the_extras():
    code = (
        "import sys\n"
        "for name in ('numpy', 'scipy', 'sklearn', 'lightning_fabric', 'pydantic', 'rich', 'pyarrow', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "import torch, concordant\n"
        "c = concordant.ContextualCalibrator({'a': 3, 'b': 2})\n"
        "out = c({'a': torch.randn(6, 3), 'b': torch.randn(6, 4, 2)})\n"
        "(out.features['a'].sum() + c.auxiliary_loss()).backward()\n"
        "model = torch.nn.Module()\n"
        "model.a, model.b, model.head = torch.nn.Linear(3, 4), torch.nn.Linear(2, 4), torch.nn.Linear(4, 2)\n"
        "model.forward = lambda a, b: model.head(model.a(a) + model.b(b))\n"
        "batch = (torch.randn(6, 3), torch.randn(6, 2)), torch.arange(6) % 2\n"
        "concordant.fit_plugin(model, [batch], {'a': 'a', 'b': 'b'}, layout='bd', steps=2, validation=[batch])\n"
        "print('fine')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "fine", done.stderr
