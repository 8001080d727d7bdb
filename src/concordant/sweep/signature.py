"""Signature of an installation: machines whose results stand in one table must agree in it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import concordant
from concordant.training.provenance import versions


@lru_cache(maxsize=1)
def signature() -> dict[str, str]:
    """Return the versions that numbers depend on, without builds ("+cpu") and Python's patch, and the code's digest."""
    found = {name: version.partition("+")[0] for name, version in versions().items()}
    found["python"] = ".".join(found["python"].split(".")[:2])
    return {**found, "code": code_of(Path(concordant.__file__).parent)}


def code_of(root: Path) -> str:
    """Return a digest of a package's source files; a version number does not distinguish two checkouts."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
