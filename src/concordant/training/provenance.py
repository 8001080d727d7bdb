"""Provenance of a result beside the code: versions, hardware and digests of the data files."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from concordant.files import sha256

PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "scikit-learn", "transformers")


def versions() -> dict[str, str]:
    """Return package -> version, of Concordant, Python and the libraries that determine numbers."""
    from concordant import __version__

    found = {"concordant": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str | int]:
    """Return the processor, the cores of this process, and the accelerator or "none"."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else str(accelerator or "none")
    return {"processor": _processor(), "cores": cores(), "accelerator": name}


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digests(folder: Path | None, files: Sequence[str]) -> dict[str, str]:
    """Return name -> SHA-256 of the existing files."""
    if folder is None:
        return {}
    return {name: sha256(folder / name) for name in files if (folder / name).is_file()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
