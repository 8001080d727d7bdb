"""Whether the values of tensors may steer Python code: not in a compiled or exported graph, nor under `torch.func`.

Where they may, work can be left out by looking (rows that count nowhere, say); where not, the same result
comes from masks of a shape that does not depend on values.
"""

from __future__ import annotations

import torch


def values_are_known() -> bool:
    """Return True in plain eager code, False while compiling, exporting, or inside a torch.func transform.

    >>> values_are_known()
    True
    >>> torch.func.vmap(lambda x: x * values_are_known())(torch.ones(2)).tolist()
    [0.0, 0.0]
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.maybe_current_level() is None


def exporting() -> bool:
    """Return True while a graph is exported, by `torch.export` or to ONNX, and not while one is compiled.

    `torch.compiler.is_exporting` says True in graphs that are only compiled, in PyTorch 2.11.

    >>> exporting()
    False
    """
    return bool(torch.compiler._is_exporting_flag)
