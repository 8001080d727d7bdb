"""The command `concordant speed`. Thin; what it does is in `concordant.speed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from concordant.cli.terminal import make_console, names_of, progress_bar, put_json
from concordant.errors import UsageError


def speed_command(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer fusions and repetitions: about two minutes.")] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="Some of overhead, bandwidth_bound, vectorised_seeds, epoch, operators, memory, growth, rows."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="cpu, or cuda: it has kernels, tiles, bandwidth_bound, vectorised_seeds, overhead."),
    ] = "cpu",
    page_to: Annotated[Path | None, typer.Option("--page", help="Write a page of Markdown here.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder; default: CONCORDANT_DATA, or ../shared/data.")] = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write the results here too; - = stdout.")] = None,
) -> None:
    """Measure what calibration costs here, as ratios: to models without it, to rivals, to memory itself."""
    from concordant.files import write_text
    from concordant.speed.measuring import measure_all
    from concordant.speed.page import page

    console = make_console(json_to)
    with progress_bar("measuring") as progress:
        sections = names_of(only) if only is not None else ()
        document = measure_all(quick=quick, only=sections, device=device, data=data, progress=progress)
    text = page(document)
    console.print(text, markup=False)
    if page_to is not None:
        try:
            write_text(page_to, text)
        except OSError as error:
            raise UsageError(f"--page: cannot write to {page_to} ({error.strerror})") from None
    put_json(json_to, document)
