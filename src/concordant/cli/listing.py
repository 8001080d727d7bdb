"""`concordant list`: what can be run."""

from __future__ import annotations

from typing import Annotated

import typer

from concordant.cli.terminal import JsonOption, make_console, put_json
from concordant.study.catalogue import KINDS, catalogue


def list_command(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="benchmarks, fusions, calibrators, methods or corruptions; default: all.",
            autocompletion=lambda incomplete: [kind for kind in KINDS if kind.startswith(incomplete)],
        ),
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """List what can be run, one line per entry; with KIND, all details of its entries."""
    entries = catalogue(kind)
    if json_to is not None:
        put_json(json_to, entries)
        if json_to == "-":
            return
    from concordant.report.listing import entry_table
    from concordant.report.record import terminal

    make_console(None).print(terminal(entry_table(entries, whole=kind is not None)))
