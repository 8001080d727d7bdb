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
    from concordant.report.record import blocks, terminal

    console, table = make_console(None), entry_table(entries, whole=kind is not None)
    shown = terminal(table)
    # The columns of one kind are many: where they would be cut off, entries stand one below the other.
    wide = console.options.update(max_width=1000)
    fits = kind is None or console.measure(shown, options=wide).maximum <= console.width
    console.print(shown if fits else blocks(table))
