"""`concordant speed`: the cost of a calibrator on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from concordant.cli.terminal import JsonOption, make_console, progress_bar, put_json


def speed_command(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer fusions and calibrators: about two minutes.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or an accelerator such as cuda.")] = "cpu",
    json_to: JsonOption = None,
) -> None:
    """Measure what a calibrator adds to a training step and to inference on this machine."""
    from concordant.speed import measure_all, page

    console = make_console(json_to)
    with progress_bar("measuring") as progress:
        document = measure_all(quick=quick, device=device, progress=progress)
    console.print(page(document), markup=False)
    put_json(json_to, document)
