"""What calibration, data and sweeps cost, measured turn by turn; each script is run with `python -m`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
import typer

from concordant.errors import ConcordantError
from concordant.training.provenance import hardware, versions


def run(main: Callable[..., None], about: str | None) -> None:
    """Run a script on one thread; its options are the arguments of `main`, its help is `about`."""
    torch.set_num_threads(1)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=about)(main)
    try:
        app()
    except ConcordantError as error:
        sys.exit(f"error: {error}")


def put(found: Mapping[str, Any]) -> dict[str, Any]:
    """Print a measurement as JSON, with the versions and the hardware that it was made with; return it."""
    whole = {**found, "versions": {**versions(), **found.get("versions", {})}, "hardware": hardware()}
    print(json.dumps(whole, indent=2))
    return whole
